"""Size of a JPEG, PNG or WebP from its first bytes, in Python, nothing decoded and nothing allocated.

    facts = header_of(data)                     # HeaderFacts(format="jpeg", width=640, height=480), upright

For `decode: header`, where bytes are kept unseen: a file that is broken behind its header is not noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

from stages.decode import DecodeError, sniff

SEGMENTS = 1000  # of a JPEG before its size; ICC profiles and EXIF take some dozens
EMPTY = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without content
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # that tell the size


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """`width` and `height` in pixels as shown: a JPEG's EXIF orientation is applied. `format` as `sniff` names it."""

    format: str
    width: int
    height: int


def header_of(data: bytes) -> HeaderFacts | None:
    """Format and size; None for a known format whose header is not read here (gif, bmp, tiff, avif).

    Raises:
        DecodeError: not_image; truncated or decode_error where the header ends early or makes no sense.
    """
    name = sniff(data)
    reader = {"jpeg": _jpeg, "png": _png, "webp": _webp}.get(name)
    if reader is None:
        return None
    try:
        width, height = reader(data)
    except IndexError:
        raise DecodeError("truncated", f"{name}: ends within its header") from None
    if width < 1 or height < 1:
        raise DecodeError("decode_error", f"{name} of {width}x{height}")
    return HeaderFacts(name, width, height)


def _number(data: bytes, at: int, size: int, order: str = "big") -> int:
    if at < 0 or at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "little" if order == "little" else "big")


def _jpeg(data: bytes) -> tuple[int, int]:
    at, turned = 2, False
    for _ in range(SEGMENTS):
        if data[at] != 0xFF:
            raise DecodeError("decode_error", "jpeg: no marker where one must be")
        marker = data[at + 1]
        while marker == 0xFF:  # fill bytes
            at += 1
            marker = data[at + 1]
        if marker in EMPTY:
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            break
        length = data[at + 2] << 8 | data[at + 3]
        if marker in FRAMES:
            height, width = data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
            return (height, width) if turned else (width, height)
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            turned = _orientation(data[at + 10 : at + 2 + length]) >= 5
        at += 2 + max(2, length)
    raise DecodeError("decode_error", "jpeg: no size before the picture begins")


def _orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory; 1 where there is none or the EXIF is broken."""
    order = "little" if tiff[:2] == b"II" else "big"
    try:
        directory = _number(tiff, 4, 4, order)
        for i in range(min(_number(tiff, directory, 2, order), SEGMENTS)):
            entry = directory + 2 + 12 * i
            if _number(tiff, entry, 2, order) == 0x0112:
                found = _number(tiff, entry + 8, 2, order)
                return found if 1 <= found <= 8 else 1
    except IndexError:
        pass  # a picture with broken EXIF counts as upright, as where it is decoded
    return 1


def _png(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise DecodeError("decode_error", "png: does not begin with IHDR")
    return _number(data, 16, 4), _number(data, 20, 4)


def _webp(data: bytes) -> tuple[int, int]:
    size = _number(data, 4, 4, "little") + 8
    if size > len(data):
        raise DecodeError("truncated", f"webp of {size} bytes, {len(data)} came")
    kind = data[12:16]
    if kind == b"VP8X":
        return _number(data, 24, 3, "little") + 1, _number(data, 27, 3, "little") + 1
    if kind == b"VP8L":
        bits = _number(data, 21, 4, "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return _number(data, 26, 2, "little") & 0x3FFF, _number(data, 28, 2, "little") & 0x3FFF
    raise DecodeError("decode_error", "webp: unknown first chunk")
