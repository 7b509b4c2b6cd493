"""The batches of `training_smoke.loader` from pixels that were decoded once: for packs that fit into memory.

    loader = ResidentLoader(packs=pack, batch=256, size=32, seed=0, steps=1000, tokenize=tokenize)

A pack's pixels are a file of uint8 [samples, size, size, 3] in the cache, named by what decides its bytes: the digest
of the pack's manifest, the size, the version of `square`. It appears whole; a process that dies while it writes
leaves nothing that counts. Processes on one machine share it as mapped memory. Texts and their tokens are kept when
they are first used.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.files import PARTIAL, cache_root, locked
from training_smoke.loader import Batch, Course, decoded, threads_of
from training_smoke.order import Draw, pick_texts
from training_smoke.packs import Pack
from training_smoke.pixels import VERSION

CHUNK = 64  # samples that a thread decodes at a time


def resident_pixels(pack: Pack, size: int, folder: Path | None = None, workers: int | None = None) -> np.ndarray:
    """All images of a pack, uint8 [samples, size, size, 3], mapped; decoded now if they have not been before.

    Args:
        folder: where the file lies; default: `resident` in $CURATE_CACHE. workers: threads; None: one a core.

    Raises:
        TrainingError: a sample does not decode, or the disk has no room.
    """
    folder = cache_root() / "resident" if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{pack.digest[:32]}-{size}px-v{VERSION}.npy"
    with locked(path):
        if not path.exists():
            _decode_all(pack, size, path, workers)
    pixels: np.ndarray = np.load(path, mmap_mode="r")
    return pixels


def _decode_all(pack: Pack, size: int, path: Path, workers: int | None) -> None:
    partial = path.with_name(path.name + PARTIAL)  # of one that was killed: written over
    try:
        pixels = _reserved(partial, (len(pack), size, size, 3))

        def fill(start: int) -> None:
            for i in range(start, min(start + CHUNK, len(pack))):
                sample = pack.read(i)
                pixels[i] = decoded(pack, sample.uid, sample.image, size)

        with threads_of(workers) as threads:
            for _ in threads.map(fill, range(0, len(pack), CHUNK)):
                pass
        pixels.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _reserved(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A mapped file of uint8 whose room on the disk is ours: running out of it later kills a process without a word."""
    pixels: np.memmap = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as e:
        raise TrainingError(
            f"{path.parent}: no room for {pixels.nbytes / 1e9:.1f} GB of decoded pixels: {e.strerror}; make some, set "
            "CURATE_CACHE, or train without resident pixels"
        ) from e
    return pixels


@dataclass(kw_only=True, eq=False)
class ResidentLoader(Course):
    """The batches of `Loader`, to the byte, at the cost of gathering rows. See the module.

    device: where pixels are held and batches are made; tokens and groups stay on the CPU. folder, workers: see
    `resident_pixels`.

    Raises:
        TrainingError: as `Course` and `resident_pixels`.
    """

    device: str | torch.device = "cpu"
    folder: Path | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._pixels = [
            _tensor(resident_pixels(pack, self.size, self.folder, self.workers)).to(self.device)
            for pack in self.sources
        ]
        self._texts = [cache(pack.texts) for pack in self.sources]
        self._tokens: dict[str, Tensor] = {}

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.start_step, self.steps):
            asked = time.perf_counter()
            draw = self.order.draw(step)
            where = list(zip(draw.pack.tolist(), draw.sample.tolist(), strict=True))
            texts = pick_texts(self.seed, draw.turn, [self._texts[pack](i) for pack, i in where])
            batch = self.finished(draw, self._images(draw), self._uids(draw), self._tokenised(texts))
            yield replace(batch, wait_s=time.perf_counter() - asked)

    def _images(self, draw: Draw) -> Tensor:
        """uint8 [batch, 3, size, size] on the device."""
        by_pack, parts = np.argsort(draw.pack, kind="stable"), []
        for number, pixels in enumerate(self._pixels):
            rows = torch.from_numpy(draw.sample[draw.pack == number])
            parts.append(pixels.index_select(0, rows.to(self.device)))
        images = parts[0]
        if len(parts) > 1:
            images = torch.cat(parts).index_select(0, torch.from_numpy(np.argsort(by_pack)).to(self.device))
        return images.permute(0, 3, 1, 2)

    def _uids(self, draw: Draw) -> list[str]:
        uids = np.empty(len(draw.turn), "S32")
        for number, pack in enumerate(self.sources):
            mine = draw.pack == number
            uids[mine] = pack.samples.uid[draw.sample[mine]]
        return [uid.decode() for uid in uids.tolist()]

    def _tokenised(self, texts: list[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._tokens]
        if new:
            self._tokens |= zip(new, self.tokenize(new), strict=True)
        return torch.stack([self._tokens[text] for text in texts])


def _tensor(pixels: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the file is not writable; nobody writes
        return torch.from_numpy(pixels)
