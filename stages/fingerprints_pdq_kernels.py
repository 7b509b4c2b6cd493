"""Inner loops of PDQ in float32, each sum in the order of the reference, never fused: the same bits on any machine.

Importing this takes a third of a second: import it where it is used (stages/fingerprints_pdq.py).
"""

from __future__ import annotations

import numpy as np
from numba import types

from stages.compiled import compiled

Array = np.ndarray
_U = np.uint64  # indices: signed ones may count from the end, which costs a test for each pixel
_RED, _GREEN, _BLUE = np.float64(0.299), np.float64(0.587), np.float64(0.114)

_pixels = types.Array(types.uint8, 1, "C", readonly=True)
_floats = types.Array(types.float32, 2, "C", readonly=True)
_out = types.float32[:, ::1]


@compiled(types.void(_pixels, types.float32[::1]))
def luma(rgb: Array, out: Array) -> None:
    """Luma of uint8 (3 n,) pixels, float32 (n,): summed in float64 and rounded once."""
    for i in range(len(out)):
        at = _U(i) * _U(3)
        r, g, b = np.float64(rgb[at]), np.float64(rgb[at + _U(1)]), np.float64(rgb[at + _U(2)])
        out[i] = np.float32(r * _RED + g * _GREEN + b * _BLUE)


@compiled(types.void(_floats, types.int64, _out))
def box(values: Array, window: int, out: Array) -> None:
    """Each column averaged over `window` rows around; at the edges over those that are there.

    One running sum a column, added to and taken from as downscaling.cpp's `box1DFloat` does it.
    """
    height, width = values.shape
    half = (window + 2) // 2
    total = np.zeros(width, np.float32)
    many, right, left, at = 0, 0, 0, 0
    while right < half - 1:
        for x in range(width):
            total[x] += values[right, x]
        many, right = many + 1, right + 1
    while many < window:
        many += 1
        by = np.float32(many)
        for x in range(width):
            total[x] += values[right, x]
            out[at, x] = total[x] / by
        right, at = right + 1, at + 1
    by = np.float32(many)
    while right < height:
        for x in range(width):
            total[x] = np.float32(total[x] + values[right, x]) - values[left, x]
            out[at, x] = total[x] / by
        right, left, at = right + 1, left + 1, at + 1
    while at < height:
        many -= 1
        by = np.float32(many)
        for x in range(width):
            total[x] -= values[left, x]
            out[at, x] = total[x] / by
        left, at = left + 1, at + 1


@compiled(types.void(_floats, _floats, _out))
def transformed(cosines: Array, values: Array, out: Array) -> None:
    """out (m, m) = cosines (m, n) @ values (n, n) @ cosines.T, each sum from the first term to the last."""
    rows, size = cosines.shape
    half = np.zeros((rows, size), np.float32)
    for i in range(rows):
        for k in range(size):
            by = cosines[i, k]
            for j in range(size):
                half[i, j] += by * values[k, j]
    for i in range(rows):
        for j in range(rows):
            total = np.float32(0)
            for k in range(size):
                total += half[i, k] * cosines[j, k]
            out[i, j] = total
