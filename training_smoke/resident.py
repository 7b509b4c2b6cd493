"""The batches of `training_smoke.loader` from pixels that were decoded once: for packs that fit into memory.

    loader = ResidentLoader(packs=pack, batch=256, size=32, seed=0, steps=1000, tokenize=tokenize)

A pack's pixels are a file of uint8 [samples, size, size, 3] in the cache, named by what decides its bytes: the digest
of the pack's manifest, the size, the version of `square`. Where a first part of the image tower is frozen, what it
makes of them is another such file, and the texts are one more. Each appears whole; a process that dies while it writes
leaves nothing that counts. Processes on one machine share them as mapped memory. Tokens are kept when first made.

When the files are more than $CURATE_CACHE_GB (20), those go that were used longest ago; never one that a process on
this machine has mapped: it holds a lock on it, which the kernel lifts when it dies.
"""

from __future__ import annotations

import fcntl
import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from training_smoke.by_length import ByLength
from training_smoke.errors import TrainingError
from training_smoke.files import LOCK, PARTIAL, cache_limit, cache_root, locked, trim
from training_smoke.loader import Batch, Course, decoded, threads_of
from training_smoke.order import Draw, Order, Texts, pick_texts
from training_smoke.packs import Pack
from training_smoke.pixels import VERSION
from training_smoke.towers import Frozen

CHUNK = 64  # samples that a thread makes at a time


def resident_pixels(pack: Pack, size: int, folder: Path | None = None, workers: int | None = None) -> np.ndarray:
    """All images of a pack, uint8 [samples, size, size, 3], mapped; decoded now if they have not been before.

    Args:
        folder: where the file lies; default: `resident` in $CURATE_CACHE. workers: threads; None: one a core.

    Raises:
        TrainingError: samples do not decode (all of them are named at once), or the disk has no room.
    """
    path = _path(pack, f"{size}px-v{VERSION}", folder)
    broken: dict[str, TrainingError] = {}

    def decode(out: np.ndarray, start: int) -> None:
        for row in range(len(out)):
            sample = pack.read(start + row)
            try:
                out[row] = decoded(pack, sample.uid, sample.image, size)
            except TrainingError as e:
                broken[sample.uid] = e

    def check() -> None:
        if broken:
            raise _all_broken(pack, broken, path.with_suffix(".broken.txt"))

    return _Kept(path, np.uint8, (len(pack), size, size, 3), decode, check).mapped(workers)


def _all_broken(pack: Pack, broken: dict[str, TrainingError], names: Path) -> TrainingError:
    first = next(iter(broken.values()))
    if len(broken) == 1:
        return first
    names.write_text("".join(f"{uid}\n" for uid in sorted(broken)))
    return TrainingError(
        f"{len(broken):,} of {len(pack):,} samples do not decode, one of them: {first}. The uids of all: {names}; "
        f"`curate purge POOL --uids {names} --why 'does not decode'`"
    )


def resident_features(
    pack: Pack, size: int, frozen: Frozen, folder: Path | None = None, workers: int | None = None
) -> np.ndarray:
    """What a frozen first part makes of all images of a pack, float16 [samples, dim], mapped; computed where it is not.

    Args and errors: as of `resident_pixels`, whose file it reads.
    """
    pixels = resident_pixels(pack, size, folder, workers)

    def compute(out: np.ndarray, start: int) -> None:
        out[:] = frozen.run(pixels[start : start + len(out)])

    path = _path(pack, f"{size}px-v{VERSION}-{frozen.name}", folder)
    return _Kept(path, np.float16, (len(pack), frozen.dim), compute).mapped(workers)


def resident_texts(pack: Pack, folder: Path | None = None, workers: int | None = None) -> list[Texts]:
    """The texts of all samples of a pack; read from its tars now if they have not been before.

    Args and errors: as of `resident_pixels`.
    """
    path = _path(pack, "texts-v1", folder).with_suffix(".parquet")
    with locked(path):
        if new := not path.exists():
            rows = range(len(pack))
            chunks = [rows[i : i + CHUNK] for i in rows[::CHUNK]]
            with threads_of(workers) as threads:
                parts = threads.map(lambda some: [pack.texts(i) for i in some], chunks)
                texts = [own for part in parts for own in part]
            _write_texts(path, texts)
        os.utime(path)
        found = pq.read_table(path, memory_map=True)  # what is mapped stays readable, also where the file goes
    if new:
        _trim(path.parent)
    pairs = zip(found.column("text").to_pylist(), found.column("p").to_pylist(), strict=True)
    return [list(zip(text, p, strict=True)) for text, p in pairs]


def _write_texts(path: Path, texts: list[Texts]) -> None:
    partial = path.with_name(path.name + PARTIAL)
    try:
        text, p = ([[pair[side] for pair in own] for own in texts] for side in (0, 1))
        pq.write_table(pa.table({"text": text, "p": pa.array(p, pa.list_(pa.float64()))}), partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _path(pack: Pack, what: str, folder: Path | None) -> Path:
    folder = cache_root() / "resident" if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{pack.digest[:32]}-{what}.npy"


@dataclass(frozen=True)
class _Kept:
    """An array in a file. fill: (some of its rows, number of the first) -> makes them; called by several threads.
    check: raises where what was made may not be kept."""

    path: Path
    dtype: type[np.generic]
    shape: tuple[int, ...]
    fill: Callable[[np.ndarray, int], None]
    check: Callable[[], None] = lambda: None

    def mapped(self, workers: int | None) -> np.ndarray:
        """The array; made now where there is no file yet. While it lives, the file does not go."""
        with locked(self.path):
            if new := not self.path.exists():
                self._make(workers)
            use = os.open(self.path, os.O_RDONLY)
            fcntl.flock(use, fcntl.LOCK_SH)
            os.utime(self.path)
            kept: np.ndarray = np.load(self.path, mmap_mode="r")
        weakref.finalize(kept, os.close, use)
        if new:
            _trim(self.path.parent)
        return kept

    def _make(self, workers: int | None) -> None:
        partial = self.path.with_name(self.path.name + PARTIAL)  # of one that was killed: written over
        try:
            rows = _reserved(partial, self.dtype, self.shape)
            with threads_of(workers) as threads:
                for _ in threads.map(lambda i: self.fill(rows[i : i + CHUNK], i), range(0, len(rows), CHUNK)):
                    pass
            self.check()
            rows.flush()
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)


def _trim(folder: Path) -> None:
    """Hold the folder under its bytes; what a process that was killed had begun goes too."""
    for partial in folder.glob(f"*{PARTIAL}"):
        with _alone(partial.with_name(partial.name.removesuffix(PARTIAL))) as alone:
            if alone:
                partial.unlink(missing_ok=True)
    trim(folder, cache_limit(), remove=_removed)


def _removed(path: Path) -> bool:
    """Take a file away unless somebody makes, maps or reads it; says whether it is gone."""
    if path.suffix not in (".npy", ".parquet"):
        return False
    with _alone(path) as alone:
        if not alone:
            return False
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return True
        unused = _locked_at_once(file)
        if unused:
            path.unlink()
        os.close(file)
        return unused


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """With the lock of `files.locked`, if nobody has it; nobody is waited for."""
    lock = os.open(path.with_name(path.name + LOCK), os.O_RDWR | os.O_CREAT)
    try:
        yield _locked_at_once(lock)
    finally:
        os.close(lock)


def _locked_at_once(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _reserved(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> np.memmap:
    """A mapped file whose room on the disk is ours: running out of it later kills a process without a word."""
    rows: np.memmap = np.lib.format.open_memmap(path, "w+", dtype, shape)
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as e:
        raise TrainingError(
            f"{path.parent}: no room for {rows.nbytes / 1e9:.1f} GB of decoded pixels: {e.strerror}; make some, set "
            "CURATE_CACHE, or train without resident pixels"
        ) from e
    return rows


@dataclass(kw_only=True, eq=False)
class ResidentLoader(Course):
    """The batches of `Loader`, to the byte, at the cost of gathering rows. See the module.

    device: where pixels are held and batches are made; tokens and groups stay on the CPU. folder, workers: see
    `resident_pixels`. frozen: the towers' first part, whose output stands in `Batch.images` then, [batch, frozen.dim].
    lengths: of tokens, int64 [batch]; where it is not None, samples of group_steps steps are put together by it.

    Raises:
        TrainingError: as `Course` and `resident_pixels`.
    """

    device: str | torch.device = "cpu"
    folder: Path | None = None
    workers: int | None = None
    frozen: Frozen | None = None
    lengths: Callable[[Tensor], Tensor | None] | None = None
    group_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group_steps > 1:
            assert isinstance(self._whole, Order)
            self._whole = ByLength(self._whole, self._costs, self.group_steps, self.steps)
            self.order = replace(self._whole, rank=self.rank, world=self.world)
        self._rows = [_tensor(self._resident(pack)).to(self.device) for pack in self.sources]
        self._texts = [resident_texts(pack, self.folder, self.workers) for pack in self.sources]
        self._tokens: dict[str, Tensor] = {}

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.start_step, self.steps):
            asked = time.perf_counter()
            draw = self.order.draw(step)
            batch = self.finished(draw, self._images(draw), self._uids(draw), self._tokens_of(draw))
            yield replace(batch, wait_s=time.perf_counter() - asked)

    def _resident(self, pack: Pack) -> np.ndarray:
        if self.frozen is None:
            return resident_pixels(pack, self.size, self.folder, self.workers)
        return resident_features(pack, self.size, self.frozen, self.folder, self.workers)

    def _images(self, draw: Draw) -> Tensor:
        """uint8 [batch, 3, size, size] or float16 [batch, dim], on the device."""
        by_pack, parts = np.argsort(draw.pack, kind="stable"), []
        for number, rows in enumerate(self._rows):
            mine = torch.from_numpy(draw.sample[draw.pack == number])
            parts.append(rows.index_select(0, mine.to(self.device)))
        images = parts[0]
        if len(parts) > 1:
            images = torch.cat(parts).index_select(0, torch.from_numpy(np.argsort(by_pack)).to(self.device))
        return images if self.frozen is not None else images.permute(0, 3, 1, 2)

    def _uids(self, draw: Draw) -> list[str]:
        uids = np.empty(len(draw.turn), "S32")
        for number, pack in enumerate(self.sources):
            mine = draw.pack == number
            uids[mine] = pack.samples.uid[draw.sample[mine]]
        return [uid.decode() for uid in uids.tolist()]

    def _tokens_of(self, draw: Draw) -> Tensor:
        where = zip(draw.pack.tolist(), draw.sample.tolist(), strict=True)
        return self._tokenised(pick_texts(self.seed, draw.turn, [self._texts[pack][i] for pack, i in where]))

    def _costs(self, draw: Draw) -> np.ndarray:
        """int64 [batch]"""
        found = None if self.lengths is None else self.lengths(self._tokens_of(draw))
        return np.zeros(len(draw.turn), np.int64) if found is None else found.numpy()

    def _tokenised(self, texts: list[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._tokens]
        if new:
            self._tokens |= zip(new, self.tokenize(new), strict=True)
        return torch.stack([self._tokens[text] for text in texts])


def _tensor(pixels: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the file is not writable; nobody writes
        return torch.from_numpy(pixels)
