"""Difference hashes, to the bit those of imagehash: is each pixel of a small gray picture lighter than the one before?

    dhash64_from_gray(thumbnails)       # uint8 (n, 8, 9) -> uint64 (n,)
    dhash256_from_gray(thumbnails)      # uint8 (n, 16, 17) -> uint8 (n, 32)
    dhash64_of_luma(luma), dhash256_of_luma(luma)       # of uint8 (height, width)

Thumbnails by Pillow's LANCZOS from the full size. Flat pictures and shades that fall from left to right are zeros here.
Definition: imagehash 4.3.2 `dhash`; N. Krawetz, "Kind of Like That", hackerfactor.com, 2013.
"""

from __future__ import annotations

import numpy as np


def dhash64_of_luma(luma: np.ndarray) -> int:
    """Of uint8 (height, width), ITU-R 601 luma as Pillow rounds it."""
    return int(dhash64_from_gray(_thumbnail(luma, 8))[0])


def dhash256_of_luma(luma: np.ndarray) -> bytes:
    """Of uint8 (height, width), ITU-R 601 luma as Pillow rounds it: 32 bytes."""
    return dhash256_from_gray(_thumbnail(luma, 16))[0].tobytes()


def dhash64_from_gray(gray: np.ndarray) -> np.ndarray:
    """uint8 (n, 8, 9) -> uint64 (n,). The hex of a value is `str(imagehash.dhash(image))`."""
    return _bits(gray, 8).view(">u8").astype(np.uint64).reshape(-1)


def dhash256_from_gray(gray: np.ndarray) -> np.ndarray:
    """uint8 (n, 16, 17) -> uint8 (n, 32). The hex of a row is `str(imagehash.dhash(image, hash_size=16))`."""
    return _bits(gray, 16)


def _thumbnail(luma: np.ndarray, side: int) -> np.ndarray:
    """uint8 (1, side, side + 1)."""
    from PIL import Image

    return np.asarray(Image.fromarray(luma).resize((side + 1, side), Image.Resampling.LANCZOS))[None]


def _bits(gray: np.ndarray, side: int) -> np.ndarray:
    if gray.dtype != np.uint8 or gray.shape[1:] != (side, side + 1):
        raise ValueError(f"thumbnails must be uint8 (n, {side}, {side + 1}), not {gray.dtype} {gray.shape}")
    return np.packbits((gray[:, :, 1:] > gray[:, :, :-1]).reshape(len(gray), side * side), axis=1)
