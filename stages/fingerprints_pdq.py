"""PDQ, the 256-bit photo hash that platforms exchange, with its quality: this project's own code to Meta's definition.

    found = of_pixels(rgb)          # Pdq(hash=<32 bytes>, quality=100); found.hash.hex() is what others print

The luma is blurred by two passes of a box of 1/128 of each side, thinned to 64x64 and transformed; of its DCT the 16x16
coefficients after the constant ones are compared with their median. Bits are named from the last coefficient to the
first, as in hexadecimal print. At full size, as the packages `pdqhash` and `threatexchange` do it; Meta's
command line first thins what is larger than 512 pixels to 512x512, which moves some bits.
Definition: facebook/ThreatExchange, pdq/cpp (pdqhashing.cpp, downscaling.cpp) and hashing.pdf there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

SIDE, LOW = 64, 16
LEAST = 5  # pixels a side: below there is no hash
PASSES = 2


@dataclass(frozen=True, slots=True)
class Pdq:
    """hash: 32 bytes. quality: 0 (flat) to 100; Meta's advice is to pair nothing below 50."""

    hash: bytes
    quality: int


def of_pixels(rgb: np.ndarray) -> Pdq | None:
    """PDQ of uint8 (height, width, 3); None where a side is shorter than 5 pixels."""
    from stages.fingerprints_pdq_kernels import luma

    height, width = rgb.shape[:2]
    if min(height, width) < LEAST:
        return None
    gray = np.empty((height, width), np.float32)
    luma(np.ascontiguousarray(rgb).reshape(-1), gray.reshape(-1))
    return of_luma(gray)


def of_luma(luma: np.ndarray) -> Pdq:
    """PDQ of float32 (height, width), 0 to 255, both at least 5.

    Raises:
        ValueError: another dtype or a shorter side.
    """
    from stages.fingerprints_pdq_kernels import transformed

    if luma.dtype != np.float32 or luma.ndim != 2 or min(luma.shape) < LEAST:
        raise ValueError(f"luma must be float32 and at least {LEAST}x{LEAST}, not {luma.dtype} {luma.shape}")
    small = thinned(luma)
    block = np.empty((LOW, LOW), np.float32)
    transformed(_cosines(), small, block)
    bits = block > np.sort(block, axis=None)[LOW * LOW // 2 - 1]
    return Pdq(np.packbits(bits.reshape(-1)[::-1]).tobytes(), quality(small))


def quality(small: np.ndarray) -> int:
    """How much structure there is in float32 (64, 64): differences of neighbours in whole percent of 255, over 90."""
    steps = (np.diff(small, axis=axis) * np.float32(100) / np.float32(255) for axis in (0, 1))
    return min(100, sum(int(np.abs(s.astype(np.int32)).sum()) for s in steps) // 90)


def thinned(luma: np.ndarray) -> np.ndarray:
    """float32 (height, width) blurred and decimated to (64, 64)."""
    if luma.shape == (SIDE, SIDE):
        return np.ascontiguousarray(luma)
    height, width = luma.shape
    for _ in range(PASSES):
        luma = _turned(_box(_turned(luma), width))
        luma = _box(luma, height)
    centres = np.arange(SIDE) + 0.5
    rows, columns = (centres * height / SIDE).astype(np.int64), (centres * width / SIDE).astype(np.int64)
    return np.ascontiguousarray(luma[rows[:, None], columns[None, :]])


def _box(values: np.ndarray, length: int) -> np.ndarray:
    from stages.fingerprints_pdq_kernels import box

    out = np.empty_like(values)
    box(values, (length + 2 * SIDE - 1) // (2 * SIDE), out)
    return out


def _turned(values: np.ndarray) -> np.ndarray:
    import cv2

    turned: np.ndarray = cv2.transpose(values)
    return turned


@cache
def _cosines() -> np.ndarray:
    """Rows 1 to 16 of the DCT of 64, float32 (16, 64), rounded as the reference rounds them."""
    scale = float(np.float32(math.sqrt(2 / SIDE)))
    step = math.pi / 2 / SIDE
    return np.array(
        [[scale * math.cos(step * (i + 1) * (2 * j + 1)) for j in range(SIDE)] for i in range(LOW)], np.float32
    )
