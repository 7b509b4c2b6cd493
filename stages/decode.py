"""Encoded images in, upright RGB pixels out, or one named reason why not. Web images are hostile.

    picture = decode(data)                      # Decoded(pixels=<uint8 (h, w, 3)>, format="jpeg", plain=True)
    pixels = to_array(data, side=224)           # uint8 (224, 224, 3)

What counts as an image is an allow-list: JPEG (with MPO), PNG, WebP, GIF, BMP, TIFF, AVIF; of animations the first
frame. The size is checked from the header, before any pixel is decoded. Decoding runs in the calling process.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable
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
MAX_SIDE = {"jpg": 65_500, "png": 2**31 - 1, "webp": 16_383}  # pixels

# Corrupt EXIF and the like are Pillow's warnings about other people's files: thousands a shard, and nobody can act.
warnings.filterwarnings("ignore", module=r"PIL\.")

Outcome = Literal["not_image", "bomb", "decode_error", "truncated", "too_small"]
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
    """An upright RGB picture: `pixels` uint8 (height, width, 3), read-only where Pillow decoded it.

    `width`, `height`: of the whole picture upright, also where `pixels` were decoded smaller. `plain`: the encoded
    bytes show just these pixels to any reader, and no others.
    """

    pixels: np.ndarray
    width: int
    height: int
    format: str
    plain: bool

    @property
    def image(self) -> Image.Image:
        """The pixels as a PIL image, a copy."""
        return Image.fromarray(self.pixels)


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


def decode(
    data: bytes,
    max_pixels: int = MAX_PIXELS,
    min_side: int = 1,
    factor: Callable[[int, int], float] | None = None,
) -> Decoded:
    """The first frame as upright RGB: EXIF orientation applied, alpha laid on white, 16 bits made 8.

    Args:
        data: the encoded image, whole.
        max_pixels: larger pictures are refused before decoding; Pillow's own cap is 178,956,970.
        min_side: pictures with a shorter side are refused before decoding.
        factor: of (width, height): how much smaller the pixels are wanted. JPEGs then come at a half, a quarter
            or an eighth of their size (of the DCT), never below. Made to 256 pixels from there, 300 mosaics of photos
            are 38.9 dB (median; least 31.0) from the same decoded whole.

    Raises:
        DecodeError: for whatever these bytes do; no other exception comes out, but MemoryError.
    """
    image, name = _open(data, max_pixels)
    width, height = image.size
    if min(image.size) < min_side:
        raise DecodeError("too_small", f"{width}x{height}, less than {min_side} a side")
    try:
        plain = name in ("jpeg", "png", "webp") and image.mode in ("RGB", "L") and not _has_more(image)
        plain = plain and not _is_deep(image)
        pixels = None
        if name == "jpeg" and image.mode in ("RGB", "L"):
            pixels = _by_turbojpeg(data, width, height, factor(width, height) if factor else 1.0)
        if pixels is None:
            image.load()
            plain = plain and "transparency" not in image.info
            width, height = image.size  # TIFFs are upright only now
        orientation = _orientation(image)
        if pixels is None:
            pixels = np.asarray(_to_rgb(image))
        if orientation in _UPRIGHT:
            pixels, plain = _turned(pixels, orientation), False
            width, height = (height, width) if orientation >= 5 else (width, height)
    except MemoryError:
        raise
    except Exception as e:  # decoders raise anything on hostile bytes; it becomes a named outcome
        raise _named(e, name) from e
    return Decoded(pixels, width, height, name, plain)


def _by_turbojpeg(data: bytes, width: int, height: int, factor: float) -> np.ndarray | None:
    """Pixels of a JPEG of one or three channels, the same as Pillow's in 80 % of its time; None where it has a doubt.

    Pillow then says what is wrong with the file, or that nothing is.
    """
    import simplejpeg

    # A half, a quarter, an eighth: of other eighths the codec is slower than of the whole.
    part = 2.0 ** -min(3, math.floor(math.log2(1 / factor))) if factor < 1 else 1.0
    least = {"min_width": math.ceil(width * part), "min_height": math.ceil(height * part)} if part < 1 else {}
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", **least)
    except ValueError:  # any warning of the codec too
        return None
    return pixels if least or pixels.shape == (height, width, 3) else None


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
    picture = decode(data, PILLOW_PIXELS)
    if mode == "RGB" and (side is None or picture.pixels.shape == (side, side, 3)):
        return picture.pixels
    image = picture.image.convert(mode)
    if side is not None and image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BOX)
    return np.asarray(image)


def encode(image: Image.Image, format: StoredFormat, quality: int = 95) -> bytes:
    """The picture as jpg (4:2:0), png (quality not used) or webp, without metadata.

    Raises:
        DecodeError: bomb, where the format cannot hold so many pixels a side.
    """
    limit = MAX_SIDE[format]
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
_UPRIGHT = range(2, 9)


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


def _is_deep(image: Image.Image) -> bool:
    """Whether there are 16 bits in the file where `mode` has 8, as in a PNG of deep RGB; before `load()`."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation after `load()` (Pillow turns TIFF itself); a picture with broken EXIF counts as upright."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001 - EXIF is a file format of its own inside hostile bytes
        return 1


# ---------------------------------------------------------------------------------------------- turning and colours


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF orientations 2 to 8 made upright."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    down, across = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[orientation]
    return np.ascontiguousarray(pixels[::down, ::across])


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
