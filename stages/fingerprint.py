"""Perceptual hashes by an exact DCT: pHash-64 and pHash-256, bit-identical to `imagehash.phash` on photos.

    fingerprint = of_image(image)               # Fingerprint(phash64, phash256, quality) of a PIL image
    phash64_from_gray(thumbnails)               # uint8 (n, 32, 32) -> uint64 (n,)

The full-size luma is shrunk to 32x32 (64x64) by LANCZOS; of its unnormalised DCT-II the low 8x8 (16x16) block is
compared with its median, DC included: bit = coefficient > median, row by row, most significant bit first. The
cosines are integers (times 2^15), so every product and sum stays below 2^53 and float64 gives the exact answer on
any machine and in any batch; a flat picture is 0x8000000000000000, where float cosines give noise.
Definition: imagehash 4.3.2 `phash`; the integer DCT is this project's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from stages.lanczos import thumbnails

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = 1
"""Of the two hashes and the quality; it rises when their bits change."""


def decoders() -> dict[str, str]:
    """Versions of the packages that decode and shrink what is hashed: other ones may move last bits of pixels."""
    return {package: version(package) for package in ("pillow", "simplejpeg")}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """phash64: unsigned 64 bits. phash256: 32 bytes. quality: 0 (flat) to 100; see `quality_from_gray`."""

    phash64: int
    phash256: bytes
    quality: int


def of_image(image: Image) -> Fingerprint:
    """Both hashes and the quality of one picture at its full size (PIL, any mode; upright, alpha on white)."""
    return of_luma(np.asarray(image.convert("L")))


def of_pixels(rgb: np.ndarray) -> Fingerprint:
    """`of_image` of uint8 (height, width, 3), without a PIL image."""
    return of_luma(luma_of(rgb))


def luma_of(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma as Pillow rounds it: uint8 (height, width, 3) -> uint8 (height, width)."""
    from stages.kernels import luma

    gray = np.empty(rgb.shape[:2], np.uint8)
    luma(np.ascontiguousarray(rgb).reshape(-1), gray.reshape(-1))
    return gray


def of_luma(luma: np.ndarray) -> Fingerprint:
    """Both hashes and the quality of uint8 (height, width), ITU-R 601 luma as Pillow rounds it."""
    small, large = thumbnails(luma)
    return Fingerprint(
        int(phash64_from_gray(small[None])[0]),
        phash256_from_gray(large[None])[0].tobytes(),
        int(quality_from_gray(large[None])[0]),
    )


def phash64_from_gray(gray: np.ndarray) -> np.ndarray:
    """uint8 (n, 32, 32) -> uint64 (n,). The hex of a value is `str(imagehash.phash(image))`."""
    return _bits(gray, 32, 8).view(">u8").astype(np.uint64).reshape(-1)


def phash256_from_gray(gray: np.ndarray) -> np.ndarray:
    """uint8 (n, 64, 64) -> uint8 (n, 32). The hex of a row is `str(imagehash.phash(image, hash_size=16))`."""
    return _bits(gray, 64, 16)


def quality_from_gray(gray: np.ndarray) -> np.ndarray:
    """How much structure a picture has: uint8 (n, 64, 64) -> uint8 (n,), 0 (flat) to 100.

    The sum, over horizontal and vertical neighbours, of the absolute difference in whole percent of 255, divided
    by 90 and capped at 100: the measure that PDQ defines. Here it is taken on the LANCZOS thumbnail, which is
    sharper than PDQ's, so values run higher than `pdqhash` gives; flat and near-flat pictures score alike.
    """
    _check(gray, 64)
    values = gray.astype(np.int32)
    down = np.abs(np.diff(values, axis=1)) * 100 // 255
    across = np.abs(np.diff(values, axis=2)) * 100 // 255
    return np.minimum((down.sum(axis=(1, 2)) + across.sum(axis=(1, 2))) // 90, 100).astype(np.uint8)


def coefficients(gray: np.ndarray, low: int) -> np.ndarray:
    """What the bits are made of: uint8 (n, size, size) -> float64 (n, low, low), whole numbers, exact."""
    cosines = _cosines(gray.shape[1], low)
    return cosines @ gray.astype(np.float64) @ cosines.T  # type: ignore[no-any-return]


def bits(block: np.ndarray) -> np.ndarray:
    """Coefficients (n, low, low), each compared with the median of its block: uint8 (n, low * low / 8)."""
    flat = block.reshape(len(block), block.shape[1] * block.shape[2])
    return np.packbits(flat > np.median(flat, axis=1, keepdims=True), axis=1)


@cache
def _cosines(size: int, low: int) -> np.ndarray:
    """First `low` rows of the unnormalised DCT-II matrix times 2^15, rounded: float64 (low, size)."""
    k, n = np.arange(low)[:, None], np.arange(size)[None, :]
    return np.rint(np.cos(np.pi * k * (2 * n + 1) / (2 * size)) * 2.0**15)


def _bits(gray: np.ndarray, size: int, low: int) -> np.ndarray:
    """Packed bits, uint8 (n, low * low / 8)."""
    _check(gray, size)
    return bits(coefficients(gray, low))


def _check(gray: np.ndarray, size: int) -> None:
    if gray.dtype != np.uint8 or gray.ndim != 3 or gray.shape[1:] != (size, size):
        raise ValueError(f"thumbnails must be uint8 (n, {size}, {size}), not {gray.dtype} {gray.shape}")
