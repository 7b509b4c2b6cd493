"""Where a pool lies: one small interface over POSIX file systems and object stores.

    storage = Storage.at("s3://bucket/pool")
    storage.commit("columns/x@1/00000000.parquet", data)   # True: ours; False: somebody was first

Files appear whole or not at all and are never overwritten: the first commit of a name wins.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from curate.errors import UserError


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a folder: `name` without the folder, size in bytes, mtime in seconds since 1970."""

    name: str
    size: int
    mtime: float


# `list` is a method below; these stand for the built-in one in annotations.
Entries = list[Entry]
Names = list[str]
Spans = list[tuple[int, int]]


class Storage(abc.ABC):
    """Files below one root. Names (`rel`) are relative, with "/" between folders. Instances pickle."""

    url: str
    is_local: bool

    @staticmethod
    def at(url: str | Path) -> Storage:
        """The storage at a local path or a URL that fsspec opens.

        Raises:
            UserError: the scheme is unknown, or cannot commit without overwriting.
        """
        text = str(url)
        if "://" not in text or text.startswith("file://"):
            from curate.pool.posix import PosixStorage

            return PosixStorage(text.removeprefix("file://"))
        from curate.pool.objects import ObjectStorage

        return ObjectStorage(text)

    @abc.abstractmethod
    def read(self, rel: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""

    @abc.abstractmethod
    def read_range(self, rel: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer at the end of the file."""

    @abc.abstractmethod
    def tail(self, rel: str, size: int) -> tuple[bytes, int]:
        """(the last `size` bytes, or all of a smaller file; size of the whole file). Raises FileNotFoundError."""

    @abc.abstractmethod
    def exists(self, rel: str) -> bool: ...

    @abc.abstractmethod
    def list(self, folder: str, prefix: str = "") -> Entries:
        """Files directly inside a folder whose name begins with `prefix`, by name; none where it is missing."""

    @abc.abstractmethod
    def folders(self, folder: str) -> Names:
        """Names of the folders directly inside a folder."""

    @abc.abstractmethod
    def commit(self, rel: str, data: bytes | Path) -> bool:
        """Make the file appear whole, unless there is one already. A `Path` is consumed.

        Returns: True if the file is ours, False if somebody was first (theirs is complete).
        """

    @abc.abstractmethod
    def put(self, rel: str, data: bytes) -> None:
        """Write or overwrite, atomically. For reports on a run only, never for what a run reads."""

    @abc.abstractmethod
    def delete(self, rel: str) -> None:
        """Remove a file; nothing happens where there is none."""

    @abc.abstractmethod
    def blank(self, rel: str, spans: Spans) -> None:
        """Overwrite (offset, size) spans with zeros, in place: `curate purge` and nothing else."""

    @abc.abstractmethod
    def scratch(self) -> Path:
        """A fresh local file name to write before `commit(rel, path)`, on the right disk for it."""

    @abc.abstractmethod
    def local(self, rel: str) -> Path:
        """A local path with the file's bytes: the file itself, or a cached download."""

    @contextmanager
    def open(self, rel: str) -> Iterator[BinaryIO]:
        """The file, opened to read with seeks."""
        with self.local(rel).open("rb") as f:
            yield f

    def __str__(self) -> str:
        return self.url


def full_disk(error: OSError, where: str) -> UserError:
    """A full or read-only disk, in words that say what to do."""
    return UserError(
        f"cannot write to {where}: {error.strerror or error}. What was committed before is safe; "
        "make room (`curate gc` removes left-over temporaries) and run the same command again"
    )
