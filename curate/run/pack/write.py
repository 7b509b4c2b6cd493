"""Files of a pack as they are written: blocks are laid out by vectorised headers, hashed and written by threads."""

from __future__ import annotations

import hashlib
import json
import mmap
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from curate.pool.storage import Storage
from curate.pool.tar import BLOCK, END, headers
from curate.run.pack.members import Said, say
from curate.run.pack.spec import PackSpec
from stages.base import shard_name

NOTES = "files"
IN_FLIGHT = 2  # blocks handed to the threads and not yet written


@dataclass
class Content:
    """A block that waits for its images. `image_at`: int64 (rows,), where in the buffer each image goes."""

    buffer: memoryview
    image_at: np.ndarray
    said: Said
    members: pa.Table


def tar_content(members: pa.Table) -> Content:
    """The block as it lies in a tar: headers, texts and JSON in place, room for the images."""
    said = say(members)
    rows = members.num_rows
    sizes = np.empty((rows, 3), np.int64)
    sizes[:, 0] = members.column("bytes").to_numpy()
    sizes[:, 1] = [len(t) for t in said.texts]
    sizes[:, 2] = [len(j) for j in said.jsons]
    names = [b"%s.%s" % pair for pair in zip(said.keys, said.suffixes, strict=True)]
    names += [key + b".txt" for key in said.keys] + [key + b".json" for key in said.keys]
    blocks = 1 + -(-sizes.ravel() // BLOCK)  # of each member, its header included
    ends = np.cumsum(blocks)
    header_at = (ends - blocks).reshape(rows, 3)
    buffer = _room(int(ends[-1]) * BLOCK)
    lines = np.frombuffer(buffer, np.uint8).reshape(-1, BLOCK)
    lines[header_at.T.ravel()] = headers(names, sizes.T.ravel())
    for column, words in ((1, said.texts), (2, said.jsons)):
        for at, word in zip(((header_at[:, column] + 1) * BLOCK).tolist(), words, strict=True):
            buffer[at : at + len(word)] = word
    return Content(buffer, (header_at[:, 0] + 1) * BLOCK, said, members)


def bare_content(members: pa.Table) -> Content:
    """The images of a block one after another."""
    ends = np.cumsum(members.column("bytes").to_numpy().astype(np.int64))
    return Content(_room(int(ends[-1])), ends - members.column("bytes").to_numpy(), say(members), members)


def _room(size: int) -> memoryview:
    """Zeroed memory, in large pages where the kernel has them."""
    area = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(area)


class TarFile:
    """One tar being written: `write` and `hash` may run in two threads, each called in the order of the blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("wb", buffering=0)
        self._sha256 = hashlib.sha256()

    def write(self, content: Content) -> None:
        _write_all(self._file, content.buffer)

    def hash(self, content: Content) -> None:
        self._sha256.update(content.buffer)

    def finish(self) -> str:
        """Write the end of the tar; returns the sha256 of the whole."""
        _write_all(self._file, memoryview(END))
        self._sha256.update(END)
        self._file.close()
        return self._sha256.hexdigest()

    def abandon(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


def _write_all(file: BinaryIO, data: memoryview) -> None:
    while len(data):  # one call writes at most 2 GiB
        data = data[file.write(data) :]


@dataclass
class _Open:
    """A file under way: its writer, samples so far, and what the threads still owe."""

    sink: Any
    samples: int = 0
    owed: list[Future[None]] = field(default_factory=list)


class FileWriters:
    """Files of one task. Leaving the block waits for the threads; an error leaves no temporary behind."""

    def __init__(self, storage: Storage, folder: str, spec: PackSpec) -> None:
        self.storage, self.folder, self.spec = storage, folder, spec
        self._threads = [ThreadPoolExecutor(1), ThreadPoolExecutor(1)]  # one hashes, one writes and commits
        self._open: dict[int, _Open] = {}
        self._under_way: list[list[Future[None]]] = []
        self._committed: list[Future[None]] = []

    def prepare(self, file: int, members: pa.Table) -> Content:
        """The block of a file as it will be written, but for its images."""
        del file
        return tar_content(members) if self.spec.format == "webdataset" else bare_content(members)

    def write(self, file: int, content: Content, *, last: bool) -> None:
        """Hand a block over; blocks of a file come in order, the last one commits it."""
        if file not in self._open:
            self._open[file] = _Open(self._sink(self.storage.scratch()))
        current = self._open[file]
        current.samples += content.members.num_rows
        hasher, writer = self._threads
        jobs = [hasher.submit(current.sink.hash, content), writer.submit(current.sink.write, content)]
        current.owed += jobs
        self._under_way.append(jobs)
        if last:
            self._committed.append(writer.submit(self._commit, file))
        while len(self._under_way) > IN_FLIGHT:
            _settle(self._under_way.pop(0))

    def _sink(self, path: Path) -> Any:
        if self.spec.format == "webdataset":
            return TarFile(path)
        from curate.run.pack.tables import ParquetFile

        return ParquetFile(path)

    def _commit(self, file: int) -> None:
        current = self._open[file]
        _settle(current.owed)
        digest, size = current.sink.finish(), current.sink.path.stat().st_size
        name = f"{shard_name(file)}.{self.spec.suffix}"
        if not self.storage.commit(f"{self.folder}/{name}", current.sink.path):
            # Somebody was first: what is said of the file must be true of theirs.
            theirs = self.storage.local(f"{self.folder}/{name}")
            with theirs.open("rb") as f:
                digest, size = hashlib.file_digest(f, "sha256").hexdigest(), theirs.stat().st_size
        note = {"samples": current.samples, "bytes": size, "sha256": digest}
        self.storage.commit(f"{self.folder}/{NOTES}/{shard_name(file)}.json", json.dumps(note).encode())
        del self._open[file]

    def __enter__(self) -> FileWriters:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                _settle(self._committed)
        finally:
            for thread in self._threads:
                thread.shutdown(wait=True, cancel_futures=True)
            for left in self._open.values():
                left.sink.abandon()


def _settle(jobs: list[Future[None]]) -> None:
    for job in jobs:
        job.result()
