"""A tar in row order, filled in whatever order rows come, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from curate.pool.tar import TarWriter
from curate.run.fetch.direct import DirectFile

HELD_BYTES = 64 << 20  # of members that came early, in memory; more wait in the second file


class OrderedTar:
    """Members go to the tar in row order; those that come early wait in memory, or in a second file.

    with OrderedTar(storage.scratch(), storage.scratch()) as tar:
        tar.put(1, "01.jpg", data)
        tar.skip(0)
        tar.close()
    tar.offsets, tar.size, tar.digest8

    Both files are removed where the `with` is left without `close()`.
    """

    def __init__(self, path: Path, spool: Path) -> None:
        self.path = path
        self.offsets: dict[int, int] = {}
        self._spool_path = spool
        self._spool: BinaryIO | None = None
        self._spooled = 0
        self._waiting: dict[int, tuple[str, int, int] | tuple[str, bytes] | None] = {}
        self._held = 0
        self._next = 0
        self._file = DirectFile(path)
        self._tar = TarWriter(self._file)  # type: ignore[arg-type]
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes of the tar so far."""
        return self._tar.size

    @property
    def digest8(self) -> str:
        """Eight hex digits of the xxh3-128 of the tar, once it is closed."""
        return self._file.hexdigest()[:8]

    def put(self, row: int, name: str, data: bytes) -> None:
        """One member. Each row is put or skipped exactly once."""
        if row == self._next:
            self.offsets[row] = self._tar.add(name, data)
            self._next += 1
            self._catch_up()
            return
        if self._held + len(data) <= HELD_BYTES:
            self._waiting[row] = name, data
            self._held += len(data)
            return
        if self._spool is None:
            self._spool = self._spool_path.open("w+b")
        self._spool.seek(self._spooled)
        self._spool.write(data)
        self._waiting[row] = (name, self._spooled, len(data))
        self._spooled += len(data)

    def skip(self, row: int) -> None:
        """A row without an image."""
        self._waiting[row] = None
        self._catch_up()

    def _catch_up(self) -> None:
        while self._next in self._waiting:
            found = self._waiting.pop(self._next)
            if found is not None and len(found) == 2:
                self._held -= len(found[1])
                self.offsets[self._next] = self._tar.add(*found)
            elif found is not None:
                name, at, size = found
                assert self._spool is not None
                self._spool.seek(at)
                self.offsets[self._next] = self._tar.add(name, self._spool.read(size))
            self._next += 1

    def close(self) -> None:
        """End the tar, and let the second file go.

        Raises:
            RuntimeError: a row before the last was neither put nor skipped.
        """
        if self._waiting:
            raise RuntimeError(f"row {self._next} is missing, {len(self._waiting)} rows wait for it")
        self._tar.close()
        self._file.close()
        self._let_go()
        self._closed = True

    def _let_go(self) -> None:
        self._file.abandon()
        if self._spool is not None:
            self._spool.close()
            self._spool_path.unlink(missing_ok=True)
            self._spool = None

    def __enter__(self) -> OrderedTar:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if not self._closed:
            self._let_go()
            self.path.unlink(missing_ok=True)
