"""Encoded images in, upright RGB pixels out, or one named reason why not. Web images are hostile.

    picture = decode(data)                      # Decoded(image=<PIL RGB>, format="jpeg", plain=True)
    pixels = to_array(data, side=224)           # uint8 (224, 224, 3)

What counts as an image is an allow-list: JPEG (with MPO), PNG, WebP, GIF, BMP, TIFF, AVIF; of animations the first
frame. The size is checked from the header, before any pixel is decoded. Decoding runs in the calling process.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

PLUGINS = (  # importing them registers them, so that Pillow never loads all its plugins to open one image
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
PILLOW_PIXELS = 2 * 89_478_485  # above this Pillow refuses by itself, whatever the cap asked for
MAX_PIXELS = 100_000_000

# Corrupt EXIF and the like are Pillow's warnings about other people's files: thousands a shard, and nobody can act.
warnings.filterwarnings("ignore", module=r"PIL\.")

Outcome = Literal["not_image", "bomb", "decode_error", "truncated", "too_small"]
Resize = Literal["none", "short", "long", "border", "crop"]
StoredFormat = Literal["jpg", "png", "webp"]


class DecodeError(ValueError):
    """Why some bytes are no picture for us: `outcome` is the kind, `detail` one line about this one."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome: Outcome = outcome
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.outcome}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes say. `format` is jpeg, png, webp, gif, bmp, tiff or avif; size before EXIF orientation."""

    format: str
    width: int
    height: int
    mode: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """An upright RGB picture. `plain`: the encoded bytes show just these pixels to any reader, and no others."""

    image: Image.Image
    format: str
    plain: bool


def sniff(data: bytes) -> str:
    """The format by its magic bytes.

    Raises:
        DecodeError: not_image, naming what it is instead where that is known.
    """
    head = data[:64]
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        brands = head[8 : min(64, int.from_bytes(head[:4], "big"))]
        if b"avif" in brands or b"avis" in brands:
            return "avif"
        raise DecodeError("not_image", f"a {_text(brands[:4])} file (HEIC or video), which is not supported")
    raise DecodeError("not_image", _what_instead(data))


def probe(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Format and size from the header, nothing decoded.

    Raises:
        DecodeError: not_image, bomb, truncated or decode_error.
    """
    image, name = _open(data, max_pixels)
    return Header(name, image.width, image.height, image.mode)


def decode(data: bytes, max_pixels: int = MAX_PIXELS, min_side: int = 1) -> Decoded:
    """The first frame as upright RGB: EXIF orientation applied, alpha laid on white, 16 bits divided by 257.

    Args:
        data: the encoded image, whole.
        max_pixels: larger pictures are refused before decoding; Pillow's own cap is 178,956,970.
        min_side: pictures with a shorter side are refused before decoding.

    Raises:
        DecodeError: for whatever these bytes do; no other exception comes out.
    """
    image, name = _open(data, max_pixels)
    if min(image.size) < min_side:
        raise DecodeError("too_small", f"{image.width}x{image.height}, less than {min_side} a side")
    try:
        plain = name in ("jpeg", "png", "webp") and image.mode in ("RGB", "L") and not _has_more(image)
        image.load()
        plain = plain and "transparency" not in image.info
        orientation = _orientation(image)
        rgb = _to_rgb(image)
        if orientation in _UPRIGHT:
            rgb, plain = rgb.transpose(_UPRIGHT[orientation]), False
    except Exception as e:  # decoders raise anything on hostile bytes; it becomes a named outcome
        raise _named(e, name) from e
    rgb.info = {}  # comments, profiles and EXIF are not pixels: they must not follow into what we store
    return Decoded(rgb, name, plain)


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture alone; see `decode`."""
    return decode(data, max_pixels).image


def to_array(data: bytes, side: int | None = None, mode: str = "RGB") -> np.ndarray:
    """Decoded pixels, uint8, read-only: (height, width, 3) for "RGB", (height, width) for "L".

    Args:
        data: the encoded image.
        side: None for full size; else squashed to side x side by averaging areas (Pillow's BOX).
        mode: "RGB" or "L" (ITU-R 601 luma).

    Raises:
        DecodeError: the bytes do not decode.
        ValueError: another mode.
    """
    if mode not in ("RGB", "L"):
        raise ValueError(f'mode must be "RGB" or "L", not {mode!r}')
    image = open_image(data, PILLOW_PIXELS).convert(mode)
    if side is not None and image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BOX)
    return np.asarray(image)


def resize(image: Image.Image, how: Resize, side: int, only_if_bigger: bool = True) -> Image.Image:
    """The picture at the size to store; the same object where nothing changes.

    none: as it is. short, long: that side becomes `side`, aspect kept. border: fitted into and centred on a
    white square of `side`. crop: short side to `side`, then the central square. With `only_if_bigger` nothing is
    enlarged (border still pads; crop cuts to at most `side` a side).

    Raises:
        DecodeError: bomb, where enlarging would make more pixels than MAX_PIXELS.
    """
    if how == "none":
        return image
    reference = min(image.size) if how in ("short", "crop") else max(image.size)
    if reference != side and not (only_if_bigger and reference < side):
        image = _scale(image, side, reference)
    if how == "border":
        return _centred(image, side)
    if how == "crop" and max(image.size) > side:
        width, height = min(side, image.width), min(side, image.height)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))
    return image


def encode(image: Image.Image, format: StoredFormat, quality: int = 95) -> bytes:
    """The picture as jpg (4:2:0), png (quality not used) or webp, without metadata.

    Raises:
        DecodeError: bomb, where the format cannot hold so many pixels a side.
    """
    limit = _MAX_SIDE[format]
    if max(image.size) > limit:
        raise DecodeError("bomb", f"{image.width}x{image.height}: {format} holds at most {limit} a side")
    out = io.BytesIO()
    if format == "png":
        image.save(out, "PNG")
    else:
        image.save(out, "JPEG" if format == "jpg" else "WEBP", quality=quality)
    return out.getvalue()


# ---------------------------------------------------------------------------------------------- opening and naming

_MAGIC = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
}
_UNSUPPORTED = {
    b"%PDF": "a PDF",
    b"8BPS": "a Photoshop file",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\x01\0": "an icon",
}
_MAX_SIDE = {"jpg": 65_500, "png": 2**31 - 1, "webp": 16_383}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _open(data: bytes, max_pixels: int) -> tuple[Image.Image, str]:
    name = sniff(data)
    if name == "webp" and int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise DecodeError("truncated", f"webp of {int.from_bytes(data[4:8], 'little') + 8} bytes, {len(data)} came")
    try:
        image = Image.open(io.BytesIO(data), formats=(name.upper(),))
        width, height = image.size
    except Exception as e:  # as in decode()
        raise _named(e, name) from e
    if width * height > max_pixels:
        raise DecodeError("bomb", f"{width}x{height} is more than {max_pixels} pixels")
    if width < 1 or height < 1:
        raise DecodeError("decode_error", f"{name} of {width}x{height}")
    return image, name


def _named(error: Exception, name: str) -> DecodeError:
    if isinstance(error, DecodeError):
        return error
    detail = f"{name}: {_text(str(error).encode()) or type(error).__name__}"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DecodeError("bomb", detail)
    if isinstance(error, UnidentifiedImageError):
        return DecodeError("decode_error", f"{name}: the header cannot be read")
    if isinstance(error, EOFError) or re.search(r"truncat|unexpected end|premature", str(error), re.IGNORECASE):
        return DecodeError("truncated", detail)
    if "too large" in str(error):  # Pillow's cap on compressed text chunks
        return DecodeError("bomb", detail)
    return DecodeError("decode_error", detail)


def _what_instead(data: bytes) -> str:
    start = data[:1024].lstrip().lower()
    if not data:
        return "no bytes"
    if b"<svg" in start:
        return "an SVG drawing, which is not supported"
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<!--")):
        return "a web page"
    if start.startswith((b"<?xml", b"{", b"[")):
        return "XML or JSON"
    for magic, name in _UNSUPPORTED.items():
        if data.startswith(magic):
            return f"{name}, which is not supported"
    return f"no known format; begins with {data[:8].hex(' ')}"


def _text(raw: bytes) -> str:
    """At most 200 printable characters on one line: it goes into logs and reports."""
    return re.sub(r"\s+|[^\x20-\x7e]", " ", raw.decode("utf-8", "replace")).strip()[:200]


def _has_more(image: Image.Image) -> bool:
    return image.format == "MPO" or bool(getattr(image, "is_animated", False))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation after `load()` (Pillow turns TIFF itself); a picture with broken EXIF counts as upright."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001 - EXIF is a file format of its own inside hostile bytes
        return 1


# ---------------------------------------------------------------------------------------------- colours and sizes


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("LA").convert("RGBA") if mode == "La" else image.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image if mode == "RGB" else image.convert("RGB")


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Deep gray to uint8. 16-bit samples are divided by 257; 32-bit ones by what their largest value tells.

    Integers up to 255 and floats up to 1 or 255 are taken for what they look like; up to 65535 as 16 bits.

    Raises:
        DecodeError: decode_error, where values are negative, not finite or larger than 65535.
    """
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535):  # also when either is NaN
        raise DecodeError("decode_error", f"32-bit gray from {low:g} to {high:g}: no 8-bit meaning is known")
    unit = np.issubdtype(values.dtype, np.floating) and high <= 1
    scale = 255.0 if unit else 1.0 if high <= 255 else 1 / 257
    return np.rint(values.astype(np.float64) * scale).astype(np.uint8)


def _scale(image: Image.Image, side: int, reference: int) -> Image.Image:
    width, height = (max(1, (2 * n * side + reference) // (2 * reference)) for n in image.size)
    if width * height > MAX_PIXELS:
        raise DecodeError("bomb", f"{image.width}x{image.height} would be enlarged to {width}x{height}")
    if side > reference:
        return image.resize((width, height), Image.Resampling.BICUBIC)
    return image.resize((width, height), Image.Resampling.HAMMING, reducing_gap=3.0)


def _centred(image: Image.Image, side: int) -> Image.Image:
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side), (255, 255, 255))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
