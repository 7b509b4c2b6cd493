"""A pool on an object store: one conditional PUT (`If-None-Match: *`) straight to the final key.

Never copy-and-delete: fsspec's `mv` is not atomic there. Readers see whole objects only, and the first
writer of a key wins. Reads that need seeks go through a local cache of immutable files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from curate.errors import UserError
from curate.pool.storage import Entries, Entry, Names, Spans, Storage

# Schemes whose fsspec file system refuses to overwrite when asked with mode="create".
CONDITIONAL = ("s3", "s3a", "gs", "gcs", "memory")


def cache_root() -> Path:
    """Folder of downloaded pool files: $CURATE_CACHE, else ~/.cache/curate."""
    return Path(os.environ.get("CURATE_CACHE", "~/.cache/curate")).expanduser()


class ObjectStorage(Storage):
    """Objects below `scheme://bucket/prefix`."""

    is_local = False

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.scheme, _, path = self.url.partition("://")
        if self.scheme not in CONDITIONAL:
            raise UserError(
                f"{url}: a pool on {self.scheme}:// cannot be committed without overwriting; use one of "
                + ", ".join(f"{s}://" for s in CONDITIONAL)
            )
        self._prefix = path.strip("/") + "/"
        self._fs: Any = None

    def __getstate__(self) -> dict[str, object]:
        return {"url": self.url, "scheme": self.scheme, "_prefix": self._prefix, "_fs": None}

    @property
    def fs(self) -> Any:
        """The file system, made on first use in each process; listings are never cached."""
        if self._fs is None:
            import fsspec

            try:
                self._fs = fsspec.filesystem(self.scheme, use_listings_cache=False)
            except ImportError as e:
                raise UserError(f"{self.url}: {e}; install the extra: pip install 'curate[{self.scheme}]'") from e
        return self._fs

    def key(self, rel: str) -> str:
        return self._prefix + rel

    def read(self, rel: str) -> bytes:
        return bytes(self.fs.cat_file(self.key(rel)))

    def read_range(self, rel: str, offset: int, size: int) -> bytes:
        return bytes(self.fs.cat_file(self.key(rel), start=offset, end=offset + size))

    def tail(self, rel: str, size: int) -> tuple[bytes, int]:
        total = int(self.fs.info(self.key(rel))["size"])
        return self.read_range(rel, max(total - size, 0), size), total

    def exists(self, rel: str) -> bool:
        return bool(self.fs.isfile(self.key(rel)))

    def _infos(self, folder: str) -> list[dict[str, Any]]:
        try:
            found = self.fs.ls(self.key(folder).rstrip("/"), detail=True)
        except FileNotFoundError:
            return []
        return list(found)

    def list(self, folder: str, prefix: str = "") -> Entries:
        if prefix and self.scheme != "memory":  # the store itself narrows the listing down
            infos = list(self.fs.find(self.key(folder), prefix=prefix, detail=True).values())
        else:
            infos = self._infos(folder)
        root = self.key(folder).rstrip("/") + "/"
        inside = [i for i in infos if "/" not in i["name"].lstrip("/").removeprefix(root)]
        files = [i for i in inside if i["type"] == "file" and i["name"].rsplit("/", 1)[-1].startswith(prefix)]
        entries = [Entry(i["name"].rsplit("/", 1)[-1], int(i["size"] or 0), _mtime(i)) for i in files]
        return sorted((e for e in entries if e.name), key=lambda e: e.name)

    def folders(self, folder: str) -> Names:
        inside = [i for i in self._infos(folder) if i["type"] == "directory"]
        return sorted(i["name"].rstrip("/").rsplit("/", 1)[-1] for i in inside)

    def commit(self, rel: str, data: bytes | Path) -> bool:
        try:
            return self._create(rel, data)
        finally:
            if isinstance(data, Path):
                data.unlink(missing_ok=True)

    def _create(self, rel: str, data: bytes | Path) -> bool:
        # A store may answer 409 while another conditional write of the same key is in flight: ask again.
        for attempt in range(8):
            try:
                if isinstance(data, Path):
                    self.fs.put_file(str(data), self.key(rel), mode="create")
                else:
                    self.fs.pipe_file(self.key(rel), data, mode="create")
                return True
            except FileExistsError:
                return False
            except OSError as e:
                if "PreconditionFailed" in str(e) or "412" in str(e) or self.exists(rel):
                    return False
                if "ConditionalRequestConflict" not in str(e) or attempt == 7:
                    raise
                time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def put(self, rel: str, data: bytes) -> None:
        self.fs.pipe_file(self.key(rel), data)

    def delete(self, rel: str) -> None:
        try:
            self.fs.rm_file(self.key(rel))
        except FileNotFoundError:
            return

    def blank(self, rel: str, spans: Spans) -> None:
        data = bytearray(self.read(rel))
        for offset, size in spans:
            data[offset : offset + size] = bytes(size)
        self.fs.pipe_file(self.key(rel), bytes(data))

    def scratch(self) -> Path:
        folder = Path(tempfile.gettempdir()) / f"curate-{os.getpid()}"
        folder.mkdir(exist_ok=True)
        return folder / uuid.uuid4().hex

    def local(self, rel: str) -> Path:
        # Tars are the one thing that purge may change: their cache key has the object's present identity.
        tag = self._identity(rel) if rel.endswith(".tar") else ""
        path = cache_root() / "files" / hashlib.sha256(f"{self.url}/{rel}#{tag}".encode()).hexdigest()
        if path.exists():
            os.utime(path)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{uuid.uuid4().hex}")
        try:
            self.fs.get_file(self.key(rel), str(temporary))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _trim_cache(path.parent, keep=path)
        return path

    def _identity(self, rel: str) -> str:
        info = self.fs.info(self.key(rel))
        return f"{info.get('ETag') or info.get('etag') or _mtime(info)}-{info.get('size')}"


def _mtime(info: dict[str, Any]) -> float:
    stamp = info.get("LastModified") or info.get("created") or info.get("mtime")
    return float(stamp.timestamp()) if isinstance(stamp, datetime) else float(stamp or 0)


def _trim_cache(folder: Path, keep: Path) -> None:
    """Hold the cache under $CURATE_CACHE_GB (default 20): least recently used files go first."""
    limit = float(os.environ.get("CURATE_CACHE_GB", "20")) * 1e9
    if hash(keep.name) % 16:  # looking at every file each time would cost more than it saves
        return
    files = sorted((f.stat().st_mtime, f.stat().st_size, f) for f in folder.iterdir() if "." not in f.name)
    excess = sum(size for _, size, _ in files) - limit
    for _, size, path in files:
        if excess <= 0:
            return
        if path != keep:
            path.unlink(missing_ok=True)
            excess -= size
