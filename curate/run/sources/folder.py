"""A folder of pictures: captions in sidecars of the same stem, or in a table that names the files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import fsspec
import pyarrow as pa
import xxhash

from curate.errors import UserError
from curate.pool.facts import PLACE
from curate.run.sources.files import CHUNK, digest, is_local, naming, open_bytes, remembered
from curate.run.sources.raw import Raw, Reading
from curate.run.sources.sidecars import CAPTIONS, IMAGES, LONGEST, Sample, batches, read_sidecars
from curate.run.sources.tables import read_table_file


def read_folder(path: str, reading: Reading) -> Iterator[Raw]:
    """The pictures below a folder in order of name, each with its sidecars."""
    yield from batches(path, _samples(path, reading), reading)


def read_folder_table(path: str, table: str, reading: Reading) -> Iterator[Raw]:
    """The rows of the table whose pictures are there. Names in it are relative to the folder."""
    for raw in read_table_file(table, reading, ("text", "file"), "file"):
        names = raw.files if not isinstance(raw.files, pa.Array) else raw.files.to_pylist()
        places, content = [], []
        for number, name, url in zip(raw.numbers, names or (), _urls(raw), strict=True):
            found = _find(path, name, table, int(number), reading)
            content.append(_hash(found[0]) if found and reading.survey and not url else None)
            places.append(found and {"path": found[0], "offset": None, "size": found[1], "row": None})
        yield replace(raw, place=pa.array(places, PLACE), content=content, local=True)


def folder_digest(path: str) -> str:
    """Digest of the names and contents of everything below a folder; remembered until a size or a time changes."""
    stamp, every = xxhash.xxh3_128(), []
    for folder, names in _walk(path):
        for name in names:
            with naming(f"{folder}/{name}"):
                if not is_local(path):
                    every.append(f"{folder}/{name}")
                    continue
                if os.path.exists(f"{folder}/{name}"):
                    status = os.stat(f"{folder}/{name}")
                    stamp.update(f"{folder}/{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="replace"))
    return remembered(path, stamp.hexdigest() if is_local(path) else "", lambda: _content(path))


def _content(path: str) -> str:
    found = xxhash.xxh3_128()
    for folder, names in _walk(path):
        for name in names:
            file = f"{folder}/{name}"
            inner = file.removeprefix(path)
            if is_local(path):
                found.update(f"{inner}\0".encode(errors="replace"))
                if os.path.isfile(file):
                    found.update(_hash(file).encode())
            else:
                found.update(f"{inner}\0{digest(file)}".encode())
    return str(found.hexdigest())


def _walk(path: str) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files in order), folder after folder in order of name."""
    if is_local(path):
        for folder, folders, names in os.walk(path, onerror=_raise):
            folders.sort()
            yield folder, sorted(names)
        return
    fs, inner = fsspec.core.url_to_fs(path)
    for folder, folders, files in fs.walk(inner, detail=True):
        for name in sorted(folders):
            folders[name] = folders.pop(name)
        yield fs.unstrip_protocol(folder), sorted(files)


def _raise(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error


def images_of(path: str) -> Iterator[tuple[str, list[str]]]:
    """(picture, its sidecars) below a folder, in order of name; nothing is opened."""
    for folder, names in _walk(path):
        there = set(names)
        for name in names:
            stem, _, suffix = name.rpartition(".")
            if stem and suffix.lower() in IMAGES:
                yield f"{folder}/{name}", [f"{folder}/{stem}.{s}" for s in CAPTIONS if f"{stem}.{s}" in there]


def _samples(path: str, reading: Reading) -> Iterator[Sample]:
    for number, (image, sidecars) in enumerate(images_of(path), 1):
        sample = folder_sample(image, sidecars, number, reading)
        if sample:
            yield sample


def folder_sample(image: str, sidecars: list[str], number: int, reading: Reading) -> Sample | None:
    """One picture with what its sidecars say; nothing, and a count, where it or they cannot be read."""
    try:
        texts = {s.rpartition(".")[2]: _read(s) for s in sidecars}
        roles, extras = read_sidecars(texts, reading)
        size = _size(image)
        content = _hash(image) if reading.survey and not roles["url"] else None
    except OSError as e:
        reading.findings.refuse(image, image, "cannot be read", e.strerror or str(e))
        return None
    except ValueError as e:
        reading.findings.refuse(image, image, "bad sidecar", str(e))
        return None
    return Sample(number, (image, None, size, None), roles, extras, content, sum(map(len, texts.values())))


def _read(path: str) -> bytes:
    with open_bytes(path) as f:
        data = f.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise ValueError(f"{path} has more than {LONGEST >> 20} MB")
    return data


def _size(path: str) -> int:
    if is_local(path):
        return os.stat(path).st_size
    fs, inner = fsspec.core.url_to_fs(path)
    return int(fs.size(inner))


def _hash(path: str) -> str:
    found = hashlib.sha256()
    with open_bytes(path) as f:
        while chunk := f.read(CHUNK):
            found.update(chunk)
    return f"sha256:{found.hexdigest()}"


def _urls(raw: Raw) -> list[Any]:
    if raw.url is None:
        return [None] * len(raw)
    return raw.url.to_pylist() if isinstance(raw.url, pa.Array) else raw.url


def _find(path: str, name: Any, table: str, number: int, reading: Reading) -> tuple[str, int] | None:
    """(path, size) of a picture that the table names; None, counted below as without bytes, if it cannot be had."""
    if not isinstance(name, str) or not name or name.startswith("/") or "\0" in name or ".." in name.split("/"):
        return None
    image = f"{path}/{name}"
    try:
        return image, _size(image)
    except OSError:
        return None
