"""Samples of a WebDataset tar: members that follow each other and share the name up to the first dot.

Nothing is unpacked to disk. Headers are untrusted: links, devices, sparse members and names that would leave the
folder are refused with their sample; of a tar that is cut off the whole samples before the cut are taken.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from curate.errors import UserError
from curate.run.sources.files import CHUNK, is_gzip, naming, open_bytes
from curate.run.sources.raw import Raw, Reading
from curate.run.sources.sidecars import CAPTIONS, IMAGES, LONGEST, Sample, batches, read_sidecars

_KEY = re.compile(r"^((?:.*/|)[^./]+)[.]([^/]*)$", re.DOTALL)
_META = "meta"  # `__name__.*`: about the tar, for webdataset; no sample
HEADER_LIMIT = 1 << 20  # bytes of one extended header


class Damaged(Exception):
    """The tar cannot be read on from here; `whole` if at least the samples before are as they were written."""

    def __init__(self, reason: str, *, whole: bool = False) -> None:
        super().__init__(reason)
        self.whole = whole


class _Limited:
    """The file under `tarfile`, which would read an extended header of any size that it claims."""

    def __init__(self, f: BinaryIO) -> None:
        self.f = f
        self.seek, self.tell = f.seek, f.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= HEADER_LIMIT:
            raise Damaged(f"an extended header of {size} bytes")
        return self.f.read(size)


@dataclass
class _Group:
    """Members that share a key."""

    key: str
    images: list[tarfile.TarInfo] = field(default_factory=list)
    sidecars: dict[str, bytes] = field(default_factory=dict)
    refusal: tuple[str, str] | None = None  # reason, detail


def read_tar(path: str, reading: Reading) -> Iterator[Raw]:
    """The samples of one tar.

    Raises:
        UserError: not a tar, or one that is compressed, so that pictures have no place in it.
    """
    with naming(path), open_bytes(path) as f:
        if is_gzip(f):
            raise UserError(f"{path}: is compressed; pictures are read from their places in a tar: unzip it first")
        yield from batches(path, tar_samples(path, f, reading), reading)


def tar_samples(path: str, f: BinaryIO, reading: Reading) -> Iterator[Sample]:
    """The samples of an open tar, one by one; the bytes of pictures are read in the survey only."""
    group: _Group | None = None
    number = 0
    size = f.seek(0, os.SEEK_END)
    f.seek(0)
    try:
        for member in _members(path, f, size):
            key, suffix = _split(member.name)
            if member.isdir() or not key:
                if not member.isdir() and suffix != _META:
                    reading.findings.refuse(path, _printable(member.name), "hidden, or without a suffix")
                continue
            if group is None or group.key != key:
                if group:
                    number += 1
                    yield from _sample(path, f, number, group, reading)
                group = _Group(key)
            if member.isreg() and member.offset_data + member.size > size:
                raise Damaged(f"cut off at byte {size}, inside {_printable(member.name)!r}")
            _add(group, member, suffix, f)
    except Damaged as e:
        lost = "" if e.whole or not group else f"; sample {_printable(group.key)!r} was being read and is left out"
        reading.findings.damage(path, f"{e}{lost}")
        if not e.whole:
            return
    if group:
        yield from _sample(path, f, number + 1, group, reading)


def _members(path: str, f: BinaryIO, size: int) -> Iterator[tarfile.TarInfo]:
    """Headers one by one. `tarfile` itself takes a broken header in the middle for the end: this does not."""
    try:
        archive = tarfile.TarFile(fileobj=cast(Any, _Limited(f)), mode="r", errors="surrogateescape", encoding="utf-8")
    except (tarfile.TarError, Damaged, ValueError, OverflowError) as e:
        raise UserError(f"{path}: is not a tar: {e}") from e
    archive.offset = 0
    while True:
        at = archive.offset
        f.seek(at)
        try:
            member = tarfile.TarInfo.fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            _check_end(f, size)
            return
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise Damaged(f"cut off at byte {at}: it has no end mark") from None
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as e:
            raise Damaged(f"broken header at byte {at}: {e}") from e
        if member.size < 0 or archive.offset <= at:
            raise Damaged(f"broken header at byte {at}: a size of {member.size}")
        yield member


def _check_end(f: BinaryIO, size: int) -> None:
    """After the end mark there is padding only; tars that were joined by `cat` have more samples there."""
    rest = f.read(min(size - f.tell(), tarfile.RECORDSIZE + tarfile.BLOCKSIZE))
    if rest.strip(b"\0"):
        at = f.tell() - len(rest)
        raise Damaged(f"more data after its end mark at byte {at}: joined tars must be given one by one", whole=True)


def _split(name: str) -> tuple[str, str]:
    """(key, suffix in lower case). What could leave the folder has a key even without a suffix, to be refused."""
    found = _KEY.match(name)
    if found:
        base = found.group(1).rpartition("/")[2]
        return (
            ("", _META) if base.startswith("__") and base.endswith("__") else (found.group(1), found.group(2).lower())
        )
    return (name, "") if _leaves_folder(name) else ("", "")


def _leaves_folder(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or bool(re.match(r"^[A-Za-z]:", parts[0]))


def _add(group: _Group, member: tarfile.TarInfo, suffix: str, f: BinaryIO) -> None:
    name = _printable(member.name)
    if _leaves_folder(member.name):
        group.refusal = group.refusal or ("member name leaves the folder", name)
    elif not member.isreg() or member.issparse():
        group.refusal = group.refusal or ("member is no plain file", f"{name}, {_type_name(member)}")
    elif suffix in IMAGES:
        group.images.append(member)
    elif suffix in CAPTIONS:
        if member.size > LONGEST:
            group.refusal = group.refusal or ("caption too big", f"{name}, {member.size} bytes")
        elif suffix in group.sidecars:
            group.refusal = group.refusal or ("member is there twice", name)
        else:
            f.seek(member.offset_data)
            group.sidecars[suffix] = f.read(member.size)


def _type_name(member: tarfile.TarInfo) -> str:
    kinds = {tarfile.SYMTYPE: "symbolic link", tarfile.LNKTYPE: "hard link", tarfile.FIFOTYPE: "pipe"}
    kinds |= {tarfile.CHRTYPE: "device", tarfile.BLKTYPE: "device", tarfile.GNUTYPE_SPARSE: "sparse file"}
    return kinds.get(member.type, "sparse file" if member.issparse() else f"type {member.type!r}")


def _sample(path: str, f: BinaryIO, number: int, group: _Group, reading: Reading) -> Iterator[Sample]:
    """The sample of a group; nothing, and a count, where it is none."""
    refusal = group.refusal
    roles: dict[str, str | None] = {}
    extras: dict[str, Any] = {}
    if not refusal and not group.images:
        refusal = ("no image", "")
    if not refusal and len(group.images) > 1:
        refusal = ("several images", ", ".join(_printable(m.name) for m in group.images[:4]))
    if not refusal:
        try:
            roles, extras = read_sidecars(group.sidecars, reading)
        except ValueError as e:
            refusal = ("bad json", str(e))
    if refusal:
        reading.findings.refuse(path, _printable(group.key), *refusal)
        return
    image = group.images[0]
    sample = Sample(
        number, (path, image.offset_data, image.size, None), roles, {"member": _printable(image.name), **extras}
    )
    sample.size = sum(map(len, group.sidecars.values()))
    if reading.survey and not roles["url"]:
        sample.content = _hash(f, image.offset_data, image.size)
    yield sample


def _hash(f: BinaryIO, offset: int, size: int) -> str:
    found = hashlib.sha256()
    f.seek(offset)
    while size > 0:
        chunk = f.read(min(size, CHUNK))
        if not chunk:
            raise Damaged(f"cut off at byte {f.tell()}")
        found.update(chunk)
        size -= len(chunk)
    return f"sha256:{found.hexdigest()}"


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
