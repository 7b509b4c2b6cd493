"""The files of a pack, wherever it lies: local ones as they are, remote ones copied once into a cache of bounded size.

    files = open_files("s3://bucket/pack")
    files.read("manifest.json")                        # small files, straight from there
    files.keep(folder, {"00000000.tar": sha256})       # where copies go, and what they must be
    handle = files.handle("00000000.tar")              # waits for the copy; the next one finds it
    handle.read(offset=512, size=100)

Processes on one machine share the cache: a file is copied by whoever asks first, under a lock that the kernel lifts
when its holder dies, and appears whole. When it holds more than $CURATE_CACHE_GB (20), what was opened longest ago
goes. So it is with what `training_smoke.resident` keeps, counted by itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from training_smoke.errors import TrainingError

ATTEMPTS = 4
PARTIAL, LOCK = ".partial", ".lock"


def cache_root() -> Path:
    """Folder of what can be had again: $CURATE_CACHE, else ~/.cache/curate."""
    return Path(os.environ.get("CURATE_CACHE", "~/.cache/curate")).expanduser()


def cache_limit() -> int:
    """Bytes that the copies of remote packs may take, and as many again what was decoded of packs."""
    return int(float(os.environ.get("CURATE_CACHE_GB", "20")) * 1e9)


class Handle:
    """A file open to be read at any place by any thread; closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self._file = -1  # until there is one to close
        self._file = os.open(path, os.O_RDONLY)

    @property
    def size(self) -> int:
        return os.fstat(self._file).st_size

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes, fewer at the end of the file."""
        return os.pread(self._file, size, offset)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


class Files(Protocol):
    """Files below one root. Each method raises TrainingError, naming the file, where there is none."""

    url: str
    remote: bool

    def read(self, name: str) -> bytes: ...

    def handle(self, name: str) -> Handle: ...

    def keep(self, folder: Path, digests: Mapping[str, str]) -> None: ...


def open_files(url: str | Path) -> Files:
    """The files at a local path or a URL that fsspec opens.

    Raises:
        TrainingError: no file system is known for the URL, or its package is missing.
    """
    text = str(url).rstrip("/")
    if "://" not in text or text.startswith("file://"):
        return LocalFiles(Path(text.removeprefix("file://")).expanduser())
    return RemoteFiles(text)


class LocalFiles:
    """Files of a folder, read where they are."""

    remote = False

    def __init__(self, root: Path) -> None:
        self.url, self._root = str(root), root

    def read(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except OSError as e:
            raise TrainingError(f"{self.url}/{name}: {e.strerror}") from e

    def handle(self, name: str) -> Handle:
        try:
            return Handle(self._root / name)
        except OSError as e:
            raise TrainingError(f"{self.url}/{name}: {e.strerror}") from e

    def keep(self, folder: Path, digests: Mapping[str, str]) -> None:
        """Nothing: they are here already."""


class RemoteFiles:
    """Files behind a URL; `handle` opens their copies."""

    remote = True

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as e:
            raise TrainingError(f"{url}: {e}") from e
        self.url = url
        self._folder = cache_root() / "packs"
        self._digests: Mapping[str, str] = {}

    def keep(self, folder: Path, digests: Mapping[str, str]) -> None:
        """Copies go into this folder; those of files that have a sha256 here must have it."""
        self._folder, self._digests = folder, digests

    def read(self, name: str) -> bytes:
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        except OSError as e:
            raise TrainingError(f"{self.url}/{name}: {_said(e)}") from e

    def handle(self, name: str) -> Handle:
        for _ in range(ATTEMPTS):
            path = self._folder / name
            if not path.exists():
                self._copy(name, path)
            try:
                os.utime(path)
                return Handle(path)
            except FileNotFoundError:
                continue  # another process needed the room just now
        raise TrainingError(f"{self._folder} has room for too few files at a time: raise CURATE_CACHE_GB")

    def _copy(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if path.exists():
                return
            partial = path.with_name(path.name + PARTIAL)
            self._fetch(name, partial)
            partial.replace(path)
        trim(self._folder.parent, cache_limit(), keep=path)

    def _fetch(self, name: str, path: Path) -> None:
        """Bring the file, again after a failure of the net; a file that is not there is not asked for again."""
        wanted, problem = self._digests.get(name), ""
        for attempt in range(ATTEMPTS):
            time.sleep(2**attempt - 1)
            try:
                self._fs.get_file(f"{self._root}/{name}", str(path))
            except FileNotFoundError as e:
                raise TrainingError(f"{self.url}/{name}: {_said(e)}") from e
            except OSError as e:
                problem = _said(e)
                continue
            if wanted is None or _sha256(path) == wanted:
                return
            problem = "its sha256 is not the one in manifest.json: the pack was changed, or the copy is damaged"
        path.unlink(missing_ok=True)
        raise TrainingError(f"{self.url}/{name}: {problem} ({ATTEMPTS} times)")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone with this path among all threads and processes of the machine; the kernel frees it when its holder dies."""
    lock = os.open(path.with_name(path.name + LOCK), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def trim(folder: Path, limit: int, keep: Path | None = None, remove: Callable[[Path], bool] | None = None) -> None:
    """Hold the whole files of a folder under so many bytes: what was opened longest ago goes first, `keep` never.

    Args:
        remove: takes a file away and says whether it could; default: who has it open goes on reading.
    """
    whole: list[tuple[float, int, Path]] = []
    for path in folder.rglob("*.*"):
        if path.suffix in (PARTIAL, LOCK):
            continue
        try:
            found = path.stat()
        except FileNotFoundError:
            continue  # another process was first
        whole.append((found.st_mtime, found.st_size, path))
    excess = sum(size for _, size, _ in whole) - limit
    for _, size, path in sorted(whole):
        if excess <= 0:
            return
        if path != keep and (remove or _removed)(path):
            excess -= size


def _removed(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _said(error: Any) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
