"""Inner loops of `stages.verified_pairs`: which of many pairs of rows differ by little. Import it where it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from stages.compiled import compiled

Array = np.ndarray

_pairs = types.int64[::1]
_out = types.boolean[::1]
_bytes, _words, _floats = types.uint8[:, ::1], types.uint64[:, ::1], types.float32[:, ::1]

STRIDE = 32  # bytes after which a sum is looked at
_1, _2, _4, _56 = (np.uint64(n) for n in (1, 2, 4, 56))
_5S, _3S, _FS, _01 = (np.uint64(n * 0x0101010101010101) for n in (0x55, 0x33, 0x0F, 0x01))


@compiled(_out(_bytes, _pairs, _pairs, types.int64))
def bytes_within(rows: Array, i: Array, j: Array, limit: int) -> Array:
    """bool (pairs,): is the sum of absolute differences of the bytes of rows i and j at most the limit?"""
    near = np.empty(len(i), np.bool_)
    width = rows.shape[1]
    for p in range(len(i)):
        total = np.int64(0)
        at = 0
        a, b = rows[i[p]], rows[j[p]]
        while at < width and total <= limit:
            end = min(at + STRIDE, width)
            for c in range(at, end):
                total += abs(np.int64(a[c]) - np.int64(b[c]))
            at = end
        near[p] = total <= limit
    return near


@compiled(_out(_words, _pairs, _pairs, types.int64))
def bits_within(rows: Array, i: Array, j: Array, limit: int) -> Array:
    """bool (pairs,): do rows i and j differ in at most `limit` bits?"""
    near = np.empty(len(i), np.bool_)
    for p in range(len(i)):
        total = np.int64(0)
        a, b = rows[i[p]], rows[j[p]]
        for c in range(rows.shape[1]):
            x = a[c] ^ b[c]
            x = x - ((x >> _1) & _5S)
            x = (x & _3S) + ((x >> _2) & _3S)
            total += np.int64((((x + (x >> _4)) & _FS) * _01) >> _56)
        near[p] = total <= limit
    return near


@compiled(_out(_floats, types.float64[::1], _pairs, _pairs, types.int64, types.int64))
def cosines_within(rows: Array, long: Array, i: Array, j: Array, limit: int, unit: int) -> Array:
    """bool (pairs,): is 1 - cosine, in whole parts of `unit`, at most the limit?

    The rows lie on the grid of `stages.vectors` and have these lengths: sums are exact, whatever their order.
    """
    near = np.empty(len(i), np.bool_)
    for p in range(len(i)):
        total: Any = 0.0
        a, b = rows[i[p]], rows[j[p]]
        for c in range(rows.shape[1]):
            total += np.float64(a[c]) * np.float64(b[c])
        level = np.rint(total / (long[i[p]] * long[j[p]]) * unit)
        near[p] = unit - min(level, np.float64(unit)) <= limit
    return near
