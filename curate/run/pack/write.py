"""Files of a pack as they are written: blocks are laid out by vectorised headers, hashed and written by threads."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.pool.storage import Storage
from curate.pool.tar import BLOCK, END, headers
from curate.run.pack.members import Said, say
from curate.run.pack.origin import SAMPLES, Origin, index_rows
from curate.run.pack.spec import PackSpec
from stages.base import shard_name

NOTES = "files"
BUFFERS = 2  # one is filled while the other is hashed and written


@dataclass
class Content:
    """A block on its way into a file.

    size: bytes that it takes in the sweep's buffer. image_at: int64 (rows,), where in them each image goes.
    header_at: int64 (rows, 3), blocks of 512 bytes, for a tar. buffer: its part of the sweep's buffer.
    """

    members: pa.Table
    said: Said
    size: int
    image_at: np.ndarray
    header_at: np.ndarray | None = None
    buffer: memoryview = field(default_factory=lambda: memoryview(b""))


def tar_layout(members: pa.Table, recipe: str) -> Content:
    """Where everything of these rows stands in a tar: image, .txt and .json of one sample after another."""
    said = say(members, recipe)
    blocks = 1 + -(-_sizes(members, said).ravel() // BLOCK)  # of each member, its header included
    ends = np.cumsum(blocks)
    header_at = (ends - blocks).reshape(-1, 3)
    return Content(members, said, int(ends[-1]) * BLOCK, (header_at[:, 0] + 1) * BLOCK, header_at)


def _sizes(members: pa.Table, said: Said) -> np.ndarray:
    """int64 (rows, 3): bytes of image, .txt and .json."""
    sizes = np.empty((members.num_rows, 3), np.int64)
    sizes[:, 0] = members.column("bytes").to_numpy()
    sizes[:, 1] = [len(t) for t in said.texts]
    sizes[:, 2] = [len(j) for j in said.jsons]
    return sizes


def tar_fill(content: Content, buffer: memoryview) -> None:
    """Put headers, texts, JSON and the zeros behind each member into the buffer, which may hold anything before."""
    said, header_at, content.buffer = content.said, content.header_at, buffer
    assert header_at is not None
    sizes = _sizes(content.members, said)
    names = [b"%s.%s" % pair for pair in zip(said.keys, said.suffixes, strict=True)]
    names += [key + b".txt" for key in said.keys] + [key + b".json" for key in said.keys]
    lines = np.frombuffer(buffer, np.uint8).reshape(-1, BLOCK)
    lines[(header_at + -(-sizes // BLOCK)).ravel()] = 0  # the last block of a member, part of which is padding
    lines[header_at.T.ravel()] = headers(names, sizes.T.ravel())
    for column, words in ((1, said.texts), (2, said.jsons)):
        for at, word in zip(((header_at[:, column] + 1) * BLOCK).tolist(), words, strict=True):
            buffer[at : at + len(word)] = word


def bare_layout(members: pa.Table, recipe: str) -> Content:
    """The images of a block one after another."""
    size = members.column("bytes").to_numpy().astype(np.int64)
    ends = np.cumsum(size)
    return Content(members, say(members, recipe), int(ends[-1]), ends - size)


def bare_fill(content: Content, buffer: memoryview) -> None:
    content.buffer = buffer


class TarFile:
    """One tar being written: `write` and `hash` may run in two threads, each called in the order of the blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("wb", buffering=0)
        self._sha256 = hashlib.sha256()

    def write(self, content: Content) -> None:
        start = self._file.tell()
        _write_all(self._file, content.buffer)
        if hasattr(os, "posix_fadvise"):  # Linux begins to write such pages out: less is left for the fsync
            os.posix_fadvise(self._file.fileno(), start, content.size, os.POSIX_FADV_DONTNEED)

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


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as one file without any note of who wrote it."""
    sink = io.BytesIO()
    words = [f.name for f in table.schema if pa.types.is_dictionary(f.type)]
    pq.write_table(table, sink, compression="zstd", use_dictionary=words)
    return sink.getvalue()


def _write_all(file: BinaryIO, data: memoryview) -> None:
    while len(data):  # one call writes at most 2 GiB
        data = data[file.write(data) :]


@dataclass
class _Open:
    """A file under way: its writer, samples so far, and what the threads still owe."""

    sink: Any
    samples: int = 0
    bytes: int = 0
    index: list[pa.Table] = field(default_factory=list)
    owed: list[Future[None]] = field(default_factory=list)


class Buffers:
    """The memory of a task, used again and again: fresh pages cost more than the copying into them."""

    def __init__(self) -> None:
        self._in_use: list[tuple[np.ndarray, list[Future[None]]]] = []

    def take(self, size: int) -> tuple[memoryview, list[Future[None]]]:
        """(`size` bytes with anything in them; where the jobs that read them are to be noted)."""
        area = np.empty(0, np.uint8)
        if len(self._in_use) == BUFFERS:
            area, readers = self._in_use.pop(0)
            _settle(readers)
        if len(area) < size:
            area = np.empty(size + size // 8, np.uint8)  # so that the next, a little larger one fits too
        self._in_use.append((area, []))
        return memoryview(area.data)[:size], self._in_use[-1][1]


class FileWriters:
    """Files of one task. Leaving the block waits for the threads; an error leaves no temporary behind."""

    def __init__(self, storage: Storage, folder: str, spec: PackSpec, origin: Origin) -> None:
        self.storage, self.folder, self.spec, self.origin = storage, folder, spec, origin
        self._threads = [ThreadPoolExecutor(1) for _ in ("hash", "write", "commit")]
        self._files: dict[int, _Open] = {}
        self._buffers = Buffers()
        self._committed: list[Future[None]] = []

    def prepare(self, blocks: Sequence[pa.Table]) -> tuple[list[Content], list[Future[None]]]:
        """The blocks as they will be written, but for their images, in one buffer; and the list of its readers."""
        tar = self.spec.format == "webdataset"
        contents = [(tar_layout if tar else bare_layout)(b, self.origin.recipe) for b in blocks]
        buffer, readers = self._buffers.take(sum(c.size for c in contents))
        start = 0
        for content in contents:
            (tar_fill if tar else bare_fill)(content, buffer[start : start + content.size])
            start += content.size
        return contents, readers

    def write(self, file: int, content: Content, readers: list[Future[None]], *, last: bool) -> None:
        """Hand a block over; blocks of a file come in order, the last one commits it."""
        if file not in self._files:
            self._files[file] = _Open(self._sink(self.storage.scratch()))
        current = self._files[file]
        self._note(file, current, content)
        hasher, writer, committer = self._threads
        jobs = [hasher.submit(current.sink.hash, content), writer.submit(current.sink.write, content)]
        current.owed += jobs
        readers += jobs
        if last:
            self._committed.append(committer.submit(self._commit, file))

    def _note(self, file: int, current: _Open, content: Content) -> None:
        """Remember what the block adds to the file, and where its images will stand in it."""
        offsets = None if content.header_at is None else content.image_at + current.bytes
        current.index.append(index_rows(content.members, content.said, self.origin, self._name(file), offsets))
        current.samples += content.members.num_rows
        current.bytes += content.size

    def _name(self, file: int) -> str:
        return f"{shard_name(file)}.{self.spec.suffix}"

    def _sink(self, path: Path) -> Any:
        if self.spec.format == "webdataset":
            return TarFile(path)
        from curate.run.pack.tables import ParquetFile

        return ParquetFile(path)

    def _commit(self, file: int) -> None:
        current = self._files[file]
        _settle(current.owed)
        digest, size = current.sink.finish(), current.sink.path.stat().st_size
        name = self._name(file)
        if not self.storage.commit(f"{self.folder}/{name}", current.sink.path):
            # Somebody was first: what is said of the file must be true of theirs.
            theirs = self.storage.local(f"{self.folder}/{name}")
            with theirs.open("rb") as f:
                digest, size = hashlib.file_digest(f, "sha256").hexdigest(), theirs.stat().st_size
        index = pa.concat_tables(current.index).unify_dictionaries().combine_chunks()
        self.storage.commit(f"{self.folder}/{SAMPLES}/{shard_name(file)}.parquet", parquet_bytes(index))
        note = {"samples": current.samples, "bytes": size, "sha256": digest}
        self.storage.commit(f"{self.folder}/{NOTES}/{shard_name(file)}.json", json.dumps(note).encode())

    def __enter__(self) -> FileWriters:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                _settle(self._committed)
        finally:
            for thread in self._threads:
                thread.shutdown(wait=True, cancel_futures=True)
            for current in self._files.values():
                current.sink.abandon()  # nothing is left of those that were committed


def _settle(jobs: list[Future[None]]) -> None:
    for job in jobs:
        job.result()
