"""Packs, as `curate run` writes them: every sample is one read at a known place, here or on an object store.

    pack = Pack.open("pools/mine/packs/mine@0123456789ab")     # or s3://bucket/...: anything that fsspec opens
    len(pack), pack.digest
    pack.image_bytes(5)                                        # the encoded image
    pack.texts(5)                                              # [("a red bicycle", 0.5), ("bicycle", 0.5)]

Opening reads the manifest alone. Which samples a tar holds, and where, stands beside it (samples/00000042.parquet),
and is read when the first of them is wanted: a pack of a billion samples opens as fast as one of a thousand. In a tar
the image, the .txt and the .json of a sample follow each other, so that one read brings all of it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from training_smoke.errors import TrainingError
from training_smoke.files import Files, Handle, cache_root, open_files
from training_smoke.order import Shape, Texts

BLOCK = 512  # bytes: what tars are counted in
OPEN = 256  # tars open at a time
INDEXED = 1024  # tars whose index is held: a megabyte each, at 10,000 samples
COLUMNS = ["uid", "copy", "offset", "bytes", "sha256", "text", "weight"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample, read: uid as 32 hex digits, encoded image, texts with their probabilities."""

    uid: str
    image: bytes
    texts: Texts


@dataclass(frozen=True, eq=False)
class Samples:
    """Where samples lie and what tells them apart: parallel arrays in the order of the pack.

    uid: S32, hex digits. copy: int32, number among the copies of the uid. shard: int32. offset, size: int64, bytes of
    the image in its tar. stop: int64, where the sample ends, texts included. image, text: uint64, equal where the
    bytes as received, or the likeliest texts, are equal.
    """

    uid: np.ndarray
    copy: np.ndarray
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    stop: np.ndarray
    image: np.ndarray
    text: np.ndarray

    @classmethod
    def joined(cls, parts: Iterable[Samples]) -> Samples:
        found = list(parts)
        return cls(*(np.concatenate([getattr(p, f.name) for p in found]) for f in fields(cls)))


class Pack:
    """A pack, open to be read by any number of threads.

    url: where it lies. digest: sha256 of its manifest, which has the sha256 of every file. names: of its tars. sizes:
    int64 [shards], samples in each. bytes: of all tars. weighted: samples have weights, and no copies.
    """

    def __init__(self, files: Files, manifest: dict[str, Any], digest: str) -> None:
        self.url, self.remote, self.digest, self.manifest = files.url, files.remote, digest, manifest
        said = sorted(manifest["files"].items())
        self.names = [name for name, _ in said]
        self.sizes = np.array([about["samples"] for _, about in said], np.int64)
        self.bytes: int = sum(about["bytes"] for _, about in said)
        self.weighted: bool = manifest["pack"]["repeat"] == "weight"
        self._files = files
        self._count = int(self.sizes.sum())
        self._starts: list[int] = (np.cumsum(self.sizes) - self.sizes).tolist()
        self._handle = lru_cache(OPEN)(self._open_shard)
        self._index = lru_cache(INDEXED)(self._read_index)

    @classmethod
    def open(cls, url: str | Path, cache: Path | None = None) -> Pack:
        """The pack at a path or URL.

        Args:
            cache: folder of copies of remote packs; default $CURATE_CACHE, else ~/.cache/curate. It holds
            $CURATE_CACHE_GB (20).

        Raises:
            TrainingError: there is no whole pack of tars.
        """
        files = open_files(url)
        try:
            raw = files.read("manifest.json")
        except TrainingError as e:
            raise TrainingError(f"{e}\nno pack, or none that is whole: `curate run` finishes it") from e
        manifest, digest = orjson.loads(raw), hashlib.sha256(raw).hexdigest()
        if manifest["pack"]["format"] != "webdataset":
            raise TrainingError(f"{files.url}: a pack of parquet; to train on it, pack with `format: webdataset`")
        folder = (cache or cache_root()) / "packs" / digest[:16]
        files.keep(folder, {name: about["sha256"] for name, about in manifest["files"].items()})
        return cls(files, manifest, digest)

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Pack({self.url!r}, {len(self)} samples)"

    # ------------------------------------------------------------------------------------------ one sample

    def read(self, i: int) -> Sample:
        """All of a sample, by one read.

        Raises:
            TrainingError: the tar is missing, cut, or not the one that its index is about; the message names it.
        """
        shard, row, index = self._at(i)
        offset, size, stop = int(index.offset[row]), int(index.size[row]), int(index.stop[row])
        data = self._bytes(shard, offset, stop - offset)
        said = self._said(shard, index, row, data[_padded(size) :])
        return Sample(said["uid"], data[:size], _texts(said))

    def image_bytes(self, i: int) -> bytes:
        """The encoded image. Raises TrainingError, as `read` does."""
        shard, row, index = self._at(i)
        return self._bytes(shard, int(index.offset[row]), int(index.size[row]))

    def texts(self, i: int) -> Texts:
        """Each text with its probability. Raises TrainingError, as `read` does."""
        return _texts(self._json(i))

    def _json(self, i: int) -> dict[str, Any]:
        shard, row, index = self._at(i)
        begin = int(index.offset[row]) + _padded(int(index.size[row]))
        return self._said(shard, index, row, self._bytes(shard, begin, int(index.stop[row]) - begin))

    def _said(self, shard: int, index: Samples, row: int, data: bytes) -> dict[str, Any]:
        """The .json behind an image; `data` begins with the header of the .txt."""
        at = 0
        for suffix in (b".txt", b".json"):
            name, size = data[at : at + 100].rstrip(b"\0"), data[at + 124 : at + 135]
            if not name.startswith(index.uid[row]) or not name.endswith(suffix) or not size.isdigit():
                raise self._torn(shard, index, row)
            member = data[at + BLOCK : at + BLOCK + int(size, 8)]
            at += BLOCK + _padded(int(size, 8))
        if len(data) < at:
            raise self._torn(shard, index, row)
        said: dict[str, Any] = orjson.loads(member)
        if ("weight" in said) != self.weighted:
            which = f"{self.url}: sample {said['uid']} has {'a' if 'weight' in said else 'no'} weight"
            raise TrainingError(
                f"{which}, but its pack is of {self.manifest['pack']['repeat']}: copies or weights, never both"
            )
        return said

    def _torn(self, shard: int, index: Samples, row: int) -> TrainingError:
        return TrainingError(
            f"{self.url}/{self.names[shard]}: sample {index.uid[row].decode()} is not where the index says, at byte "
            f"{index.offset[row]}: the tar is cut or was changed; make the pack again"
        )

    def _bytes(self, shard: int, offset: int, size: int) -> bytes:
        data = self._handle(shard).read(offset, size)
        if len(data) < size:
            ends = f"ends {size - len(data)} bytes too soon, at byte {offset + len(data)}"
            raise TrainingError(f"{self.url}/{self.names[shard]}: {ends}; copy or make the pack again")
        return data

    # ------------------------------------------------------------------------------------------ many samples

    @cached_property
    def samples(self) -> Samples:
        """The index of the whole pack, some 80 bytes a sample; readers of single samples do without."""
        with ThreadPoolExecutor(8) as threads:
            return Samples.joined(threads.map(self._index, range(len(self.names))))

    @cached_property
    def weights(self) -> np.ndarray | None:
        """int64 [samples], how often each is read in an epoch; None where the pack holds copies instead."""
        if not self.weighted:
            return None
        with ThreadPoolExecutor(8) as threads:
            return np.concatenate(list(threads.map(self._weights, range(len(self.names)))))

    @cached_property
    def shape(self) -> Shape:
        """What the order of training depends on."""
        return Shape(self.sizes, self.weights)

    def likeness(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(image, text) of `Samples`, uint64 [m] each, of samples int64 [m]."""
        shards = np.searchsorted(self._starts, samples, side="right") - 1
        image, text = np.empty((2, len(samples)), np.uint64)
        for shard in np.unique(shards).tolist():
            at, index = shards == shard, self._index(shard)
            rows = samples[at] - self._starts[shard]
            image[at], text[at] = index.image[rows], index.text[rows]
        return image, text

    def fetch(self, shard: int) -> None:
        """Have a tar and its index at hand."""
        self._index(shard)
        self._handle(shard)

    def _at(self, i: int) -> tuple[int, int, Samples]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of a pack of {len(self)}")
        shard = bisect_right(self._starts, i) - 1
        return shard, i - self._starts[shard], self._index(shard)

    def _open_shard(self, shard: int) -> Handle:
        return self._files.handle(self.names[shard])

    def _read_index(self, shard: int) -> Samples:
        name = self.names[shard]
        table = self._table(shard)
        if table.num_rows != self.sizes[shard]:
            raise TrainingError(
                f"{self.url}: the index of {name} has {table.num_rows} samples, not {self.sizes[shard]}"
            )
        offset = table.column("offset").to_numpy()
        end = self.manifest["files"][name]["bytes"] - 2 * BLOCK  # two blocks of zeros end a tar
        return Samples(
            uid=np.array(table.column("uid").to_pylist(), "S32"),
            copy=table.column("copy").to_numpy(),
            shard=np.full(len(offset), shard, np.int32),
            offset=offset,
            size=table.column("bytes").to_numpy().astype(np.int64),
            stop=np.append(offset[1:] - BLOCK, end)[: len(offset)],
            image=_leading(pc.coalesce(table.column("sha256"), table.column("uid"))),
            text=_hashes(table.column("text")),
        )

    def _table(self, shard: int) -> pa.Table:
        name = f"samples/{self.names[shard].removesuffix('.tar')}.parquet"
        handle = self._files.handle(name)
        try:
            file = pq.ParquetFile(pa.BufferReader(handle.read(0, handle.size)))
            return file.read(COLUMNS)  # those of them that there are
        except pa.ArrowInvalid as e:
            raise TrainingError(f"{self.url}/{name}: {e}; make the pack again") from e

    def _weights(self, shard: int) -> np.ndarray:
        """From the index, or where it has none from each .json."""
        table = self._table(shard)
        if "weight" in table.column_names:
            return table.column("weight").to_numpy().astype(np.int64)
        first = self._starts[shard]
        return np.array([self._json(first + row)["weight"] for row in range(table.num_rows)], np.int64)


def _texts(said: dict[str, Any]) -> Texts:
    return [(t["text"], t["p"]) for t in said["texts"]]


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _hashes(texts: pa.ChunkedArray) -> np.ndarray:
    """uint64: xxh3 of each."""
    return np.array([xxhash.xxh3_64_intdigest(t) for t in texts.cast(pa.large_binary()).to_pylist()], np.uint64)


def _leading(digits: pa.ChunkedArray) -> np.ndarray:
    """uint64: the first 16 hex digits of each."""
    joined = "".join(d[:16] for d in digits.to_pylist())
    return np.frombuffer(bytes.fromhex(joined), ">u8").astype(np.uint64)
