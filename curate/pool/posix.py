"""A pool on a POSIX file system: write under tmp/, fsync, link() to the final name; the first wins."""

from __future__ import annotations

import atexit
import os
import socket
import uuid
from functools import lru_cache
from pathlib import Path

from curate.errors import UserError
from curate.pool.storage import Entries, Entry, Names, Spans, Storage

TMP = "tmp"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@lru_cache(maxsize=64)
def _process_folder(root: Path, pid: int) -> Path:
    """One folder a process and host, so that gc can tell whose left-overs they are; gone with the process."""
    folder = root / TMP / f"{socket.gethostname()}-{pid}-{uuid.uuid4().hex[:8]}"
    atexit.register(_remove_if_empty, folder)
    return folder


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class PosixStorage(Storage):
    """Files below a local (or network-mounted) folder that has hard links."""

    is_local = True

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser().absolute()
        self.url = str(self.root)

    def path(self, rel: str) -> Path:
        return self.root / rel

    def read(self, rel: str) -> bytes:
        return self.path(rel).read_bytes()

    def read_range(self, rel: str, offset: int, size: int) -> bytes:
        with self.path(rel).open("rb") as f:
            return os.pread(f.fileno(), size, offset)

    def tail(self, rel: str, size: int) -> tuple[bytes, int]:
        with self.path(rel).open("rb") as f:
            total = os.fstat(f.fileno()).st_size
            return os.pread(f.fileno(), size, max(total - size, 0)), total

    def exists(self, rel: str) -> bool:
        return self.path(rel).is_file()

    def list(self, folder: str, prefix: str = "") -> Entries:
        try:
            with os.scandir(self.path(folder)) as found:
                wanted = (e for e in found if e.name.startswith(prefix) and e.is_file(follow_symlinks=False))
                files = [(e.name, e.stat()) for e in wanted]
        except FileNotFoundError:
            return []
        return sorted((Entry(n, s.st_size, s.st_mtime) for n, s in files), key=lambda e: e.name)

    def folders(self, folder: str) -> Names:
        try:
            with os.scandir(self.path(folder)) as found:
                return sorted(e.name for e in found if e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def commit(self, rel: str, data: bytes | Path) -> bool:
        temporary = self._written(data)
        final = self.path(rel)
        try:
            self._make_folder(final.parent)
            os.link(temporary, final)
        except FileExistsError:
            return False
        except PermissionError as e:
            raise UserError(f"cannot link {temporary} to {final}: {e.strerror}; the pool needs hard links") from e
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(final.parent)
        return True

    def _written(self, data: bytes | Path) -> Path:
        """The data in a temporary file that the disk has acknowledged."""
        path = data if isinstance(data, Path) else self.scratch()
        try:
            with path.open("r+b" if isinstance(data, Path) else "wb") as f:
                if not isinstance(data, Path):
                    f.write(data)
                    f.flush()
                os.fsync(f.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path

    def _make_folder(self, folder: Path) -> None:
        """mkdir -p, each new level made durable in its parent before anything is linked below it."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)

    def put(self, rel: str, data: bytes) -> None:
        temporary, final = self._written(data), self.path(rel)
        self._make_folder(final.parent)
        temporary.replace(final)

    def delete(self, rel: str) -> None:
        self.path(rel).unlink(missing_ok=True)

    def blank(self, rel: str, spans: Spans) -> None:
        with self.path(rel).open("r+b") as f:
            for offset, size in spans:
                f.seek(offset)
                f.write(bytes(size))
            f.flush()
            os.fsync(f.fileno())

    def scratch(self) -> Path:
        folder = _process_folder(self.root, os.getpid())
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    def local(self, rel: str) -> Path:
        return self.path(rel)
