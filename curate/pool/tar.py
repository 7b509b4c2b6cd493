"""Deterministic tars and a fast look into anybody's: plain ustar out; ustar, GNU and pax in.

    with open(path, "wb") as file, TarWriter(file) as tar:
        offset = tar.add("00ff.jpg", data)          # where the data begins in the tar
    for member in members(path):                    # Member(name, offset, size), in file order
        ...

Same names and data, same bytes: time 0, owner 0, mode 0644. tarfile, GNU tar and webdataset read them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

import numpy as np

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_NAME = 100  # bytes: what a ustar header holds without tricks
MAX_SIZE = 8**11 - 1  # bytes of one member: eleven octal digits
MAX_EXTENDED = 1 << 20  # a longer name record than this is an attack, not a name


class TarError(ValueError):
    """A tar that is cut or damaged, or a member that may not be written."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: its data are the `size` bytes from `offset`."""

    name: str
    offset: int
    size: int


def padded(size: int) -> int:
    """Bytes that data of this size take in a tar."""
    return -(-size // BLOCK) * BLOCK


def check_name(name: str) -> bytes:
    """The name as it stands in a header.

    Raises:
        TarError: empty, over 100 bytes, with control characters, absolute, or with a part "..".
    """
    raw = name.encode()
    if not raw or len(raw) > MAX_NAME:
        raise TarError(f"member name {name[:120]!r} has {len(raw)} bytes; 1 to {MAX_NAME} are possible")
    if not name.isprintable():
        raise TarError(f"member name {name!r} has control characters")
    if name[0] == "/" or name[-1] == "/" or ".." in name.split("/"):
        raise TarError(f"member name {name!r} is no plain relative path")
    return raw


def header(name: str, size: int) -> bytes:
    """The 512 bytes before the data of one member.

    Raises:
        TarError: a name that `check_name` refuses, or more than 8 GiB.
    """
    raw = check_name(name)
    if not 0 <= size <= MAX_SIZE:
        raise TarError(f"member {name!r} of {size} bytes; a tar member holds at most {MAX_SIZE}")
    digits = b"%011o" % size
    checksum = b"%06o" % (_TEMPLATE_SUM + sum(raw) + sum(digits))
    return b"%s%s%s%s%s" % (
        raw.ljust(MAX_NAME, b"\0"),
        _TEMPLATE[100:124],
        digits + _TEMPLATE[135:148],
        checksum,
        _TEMPLATE[154:],
    )


def headers(names: Sequence[bytes], sizes: np.ndarray) -> np.ndarray:
    """The headers of many members at once: uint8 (n, 512), row for row what `header` gives.

    Args:
        names: checked by the caller (see `check_name`); more than 100 bytes are refused here too.
        sizes: int64 (n,), bytes of data.

    Raises:
        TarError: a name or a size that a header cannot hold.
    """
    sizes = np.asarray(sizes, np.int64)
    if len(names) != len(sizes):
        raise TarError(f"{len(names)} names for {len(sizes)} sizes")
    if any(not 0 < len(n) <= MAX_NAME for n in names) or ((sizes < 0) | (sizes > MAX_SIZE)).any():
        raise TarError(f"a name not of 1 to {MAX_NAME} bytes, or a size not of 0 to {MAX_SIZE}")
    out = np.tile(np.frombuffer(_TEMPLATE, np.uint8), (len(names), 1))
    out[:, :MAX_NAME] = np.array(names, f"S{MAX_NAME}").view(np.uint8).reshape(-1, MAX_NAME)
    out[:, 124:135] = _octal(sizes, 11)
    varying = out[:, :MAX_NAME].sum(axis=1, dtype=np.int64) + out[:, 124:135].sum(axis=1, dtype=np.int64)
    out[:, 148:154] = _octal(_TEMPLATE_SUM + varying, 6)
    return out


class TarWriter:
    """Appends members to an empty binary file; `close` (or leaving the `with`) writes the end of the tar."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0

    def add(self, name: str, data: bytes) -> int:
        """Write one member and return the offset of its data."""
        offset = self.size + BLOCK
        gap = padded(len(data)) - len(data)
        self._file.write(header(name, len(data)))
        self._file.write(data)
        self._file.write(bytes(gap))
        self.size = offset + len(data) + gap
        return offset

    def close(self) -> None:
        """Write the two zero blocks; the file itself stays open and is the caller's."""
        self._file.write(END)
        self.size += len(END)

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self.close()


def members(source: str | os.PathLike[str] | BinaryIO) -> Iterator[Member]:
    """The regular files of a tar, in order, from its headers alone; directories and links are passed over.

    Args:
        source: a local path (memory-mapped), or an open, seekable binary file.

    Raises:
        TarError: after the last whole member, where the tar is cut, damaged or no tar; it says at which byte.
    """
    if not isinstance(source, str | os.PathLike):
        size = source.seek(0, os.SEEK_END)
        yield from _scan(_reader(source), size, str(getattr(source, "name", "tar")))
        return
    with open(source, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise TarError(f"{os.fspath(source)}: empty file, not a tar")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield from _scan(lambda at, n: mapped[at : at + n], size, os.fspath(source))


# ---------------------------------------------------------------------------------------------- headers, in and out


def _template() -> bytes:
    fields = b"\0" * 100 + b"0000644\0" + b"0000000\0" * 2 + b"0" * 11 + b"\0" + b"0" * 11 + b"\0" + b" " * 8
    return (fields + b"0" + bytes(100) + b"ustar\x0000").ljust(BLOCK, b"\0")


_TEMPLATE_SUM = sum(_template()) - 11 * ord("0")  # what every header adds to its sum; the checksum counts as blanks
_TEMPLATE = _template()[:154] + b"\0 " + _template()[156:]


def _octal(values: np.ndarray, digits: int) -> np.ndarray:
    """Octal digits as ASCII, most significant first: uint8 (n, digits)."""
    shifts = 3 * np.arange(digits - 1, -1, -1, dtype=np.int64)
    return (((values[:, None] >> shifts) & 7) + ord("0")).astype(np.uint8)


def _reader(file: BinaryIO) -> Callable[[int, int], bytes]:
    def read_at(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    return read_at


def _scan(read_at: Callable[[int, int], bytes], total: int, where: str) -> Iterator[Member]:
    at, long_name, long_size = 0, None, None
    while True:
        block = read_at(at, BLOCK)
        if block == _ZERO:
            return
        if len(block) < BLOCK:
            what = "has no end blocks" if not block else "ends inside a header"
            raise TarError(f"{where}: truncated: {what} (byte {at} of {total})")
        size = _checked_size(block, at, where) if long_size is None else long_size
        kind, data = block[156:157], at + BLOCK
        if data + size > total:
            raise TarError(f"{where}: truncated: the member at byte {at} says {size} bytes, {total - data} are there")
        at = data + padded(size)
        if kind in b"LKxg":
            if size > MAX_EXTENDED:
                raise TarError(f"{where}: a name record of {size} bytes at byte {data}")
            found_name, found_size = _extended(kind, read_at(data, size), where)
            long_name = long_name if found_name is None else found_name
            long_size = long_size if found_size is None else found_size
            continue
        if kind in (b"0", b"\0", b"7"):
            name = _name(block) if long_name is None else long_name
            if not name.endswith("/"):  # old tars mark directories so
                yield Member(name, data, size)
        elif kind == b"S":
            raise TarError(f"{where}: a sparse member at byte {data - BLOCK}: write the tar without --sparse")
        long_name = long_size = None


_ZERO = bytes(BLOCK)


def _checked_size(block: bytes, at: int, where: str) -> int:
    try:
        stated = int(block[148:156].strip(b"\0 ") or b"x", 8)
        counted = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        if stated != counted:
            raise ValueError("checksum")
        field = block[124:136]
        if field[0] & 0x80:  # GNU: a binary number
            return int.from_bytes(field, "big") & ((1 << 95) - 1)
        digits = field.strip(b"\0 ") or b"0"
        if not digits.isdigit():
            raise ValueError("size")
        return int(digits, 8)
    except ValueError as e:
        raise TarError(f"{where}: no tar header at byte {at}: damaged, or not a tar") from e


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return _decoded(prefix + b"/" + name if prefix else name)


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _extended(kind: bytes, data: bytes, where: str) -> tuple[str | None, int | None]:
    """Name and size that a GNU or pax record gives to the member after it."""
    if kind == b"L":
        return _decoded(data.rstrip(b"\0")), None
    name, size = None, None
    while data and kind == b"x":
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(data):
            raise TarError(f"{where}: a damaged pax record")
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        if key == b"path":
            name = _decoded(value)
        elif key == b"size":
            if not value.isdigit():
                raise TarError(f"{where}: a damaged pax record: size {value[:20]!r}")
            size = int(value)
        data = data[int(length) :]
    return name, size
