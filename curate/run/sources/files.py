"""Input files: globs, local or remote opening, gzip, digests, and errors that name the file."""

from __future__ import annotations

import glob
import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
import xxhash

from curate.errors import UserError
from curate.pool.objects import cache_root

CHUNK = 1 << 20
GZIP = b"\x1f\x8b"


def is_local(path: str) -> bool:
    return "://" not in path


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Turn what reading a damaged or missing file raises into a `UserError` that names it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise UserError(f"{path}: damaged or cut-off gzip: {e}; fetch the file again") from e
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise UserError(f"{path}: cannot be read: {e}") from e
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror or e}") from e


def expand(paths: tuple[str, ...]) -> list[str]:
    """Files and folders that the globs match: absolute paths or URLs, each glob's in order of name, none twice.

    Raises:
        UserError: a glob matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in paths:
        with naming(pattern):
            matches = _local_matches(pattern) if is_local(pattern) else _remote_matches(pattern)
        if not matches:
            raise UserError(f"{pattern}: no such file; `path:` under `source:` is relative to {os.getcwd()}")
        found.update(dict.fromkeys(matches))
    return list(found)


def _local_matches(pattern: str) -> list[str]:
    path = os.path.abspath(os.path.expanduser(pattern))
    return [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))


def _remote_matches(pattern: str) -> list[str]:
    if pattern.startswith("file://"):
        return _local_matches(pattern.removeprefix("file://"))
    fs, path = fsspec.core.url_to_fs(pattern)
    if not glob.has_magic(path):
        return [pattern.rstrip("/")] if fs.exists(path) else []
    return [fs.unstrip_protocol(p) for p in sorted(fs.glob(path))]


def is_folder(path: str) -> bool:
    if is_local(path):
        return os.path.isdir(path)
    fs, inner = fsspec.core.url_to_fs(path)
    return bool(fs.isdir(inner))


def open_bytes(path: str) -> BinaryIO:
    """The file as it lies there, with seeks."""
    return open(path, "rb") if is_local(path) else fsspec.open(path, "rb").open()


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file's content, unzipped where it is gzip (by its first bytes, not by its name)."""
    with naming(path), open_bytes(path) as f:
        if is_gzip(f):
            with gzip.open(f) as plain:
                yield plain  # type: ignore[misc]
        else:
            yield f


def is_gzip(f: BinaryIO) -> bool:
    head = f.read(2)
    f.seek(0)
    return head == GZIP


@contextmanager
def seekable(path: str) -> Iterator[BinaryIO]:
    """Like `opened`, but with fast seeks: what is gzipped is unzipped to a temporary file."""
    with naming(path), open_bytes(path) as f:
        if not is_gzip(f):
            yield f
            return
        with tempfile.TemporaryFile() as plain, gzip.open(f) as packed:
            while chunk := packed.read(CHUNK):
                plain.write(chunk)
            plain.seek(0)
            yield plain  # type: ignore[misc]


def digest(path: str) -> str:
    """32 hex digits of the content (xxh3-128), remembered by size and time; of a remote file its etag if any."""
    stamp, etag = _stamp(path)
    return etag or remembered(path, stamp, lambda: _content_digest(path))


def _stamp(path: str) -> tuple[str, str | None]:
    with naming(path):
        if is_local(path):
            status = os.stat(path)
            return f"{status.st_size}-{status.st_mtime_ns}", None
        fs, inner = fsspec.core.url_to_fs(path)
        info = fs.info(inner)
    tag = next((str(info[k]) for k in ("ETag", "etag", "md5Hash", "crc32c", "content_md5") if info.get(k)), None)
    return "", tag and xxhash.xxh3_128_hexdigest(f"{tag}-{info.get('size')}".encode())


def _content_digest(path: str) -> str:
    found = xxhash.xxh3_128()
    with naming(path), open_bytes(path) as f:
        while chunk := f.read(CHUNK):
            found.update(chunk)
    return str(found.hexdigest())


def remembered(path: str, stamp: str, make: Any) -> str:
    """The digest made for this path and stamp; without a stamp it is made each time."""
    if not stamp:
        return str(make())
    file = cache_root() / "digests.json"
    known = _cache(file)
    if path in known and known[path][0] == stamp:
        return str(known[path][1])
    value = str(make())
    known = {**_cache(file), path: [stamp, value]}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as f:
            json.dump(known, f)
        os.replace(f.name, file)
    except OSError:
        return value  # a cache that cannot be written (read-only home) only costs time
    return value


def _cache(file: Path) -> dict[str, list[str]]:
    try:
        return dict(json.loads(file.read_bytes()))
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return {}
