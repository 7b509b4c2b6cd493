"""Inner loops over pixels, compiled by Numba: the one place where Python is too slow and no library is fast enough.

Importing this takes a third of a second, and some seconds the first time on a machine (the code is kept in a cache):
import it where it is used. Each kernel gives the same bits on any machine: integers, or float32 products and sums in a
fixed order, never fused. Their callers (stages/resize.py, stages/lanczos.py) say what for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import config, types

from stages.compiled import compiled

Array = np.ndarray
_U = np.uint64  # indices: signed ones may count from the end, which costs a test for each pixel
_0, _1, _2, _3 = _U(0), _U(1), _U(2), _U(3)
_ZERO, _MOST = np.float32(0), np.float32(255)
_HALF, _BITS = np.int32(1 << 21), np.int32(22)
_RED, _GREEN, _BLUE, _ROUND, _SIXTEEN = (np.uint32(n) for n in (19595, 38470, 7471, 0x8000, 16))

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_gray = types.Array(types.uint8, 2, "C", readonly=True)
_pixels = types.Array(types.uint8, 3, "C", readonly=True)
_ints = types.Array(types.int32, 1, "C", readonly=True)
_matrix = types.Array(types.int32, 2, "C", readonly=True)
_places = types.Array(types.uint64, 1, "C", readonly=True)
_weights = types.Array(types.float32, 1, "C", readonly=True)


# LLVM puts the channels of a pixel into one register only where Numba lets it; its default is a matter of compile time.
_settings: Any = config
_slp, _settings.SLP_VECTORIZE = _settings.SLP_VECTORIZE, 1


@compiled(types.Tuple((types.uint64[::1], types.uint64[::1], types.float32[::1]))(types.int64, types.int64))
def area_table(size: int, out: int) -> tuple[Array, Array, Array]:
    """Which inputs make up each output of an area average, and with what weights.

    Returns:
        first (out + 1,): where the entries of an output begin; at (n,): indices of inputs; weights (n,): their sum over
        an output is 1. Source: OpenCV, imgproc/src/resize.cpp, computeResizeAreaTab; shares below 1e-3 are left out.
    """
    scale = 1.0 / (out / size)  # as OpenCV has it, which may differ from size / out in the last bit
    first = np.zeros(out + 1, np.uint64)
    at = np.empty(size + 2 * out + 2, np.uint64)
    weights = np.empty(size + 2 * out + 2, np.float32)
    n = 0
    for i in range(out):
        begin = i * scale
        end = begin + scale
        cell = min(scale, size - begin)
        last = min(math.floor(end), size - 1)
        whole = min(math.ceil(begin), last)
        if whole - begin > 1e-3:
            at[n], weights[n] = whole - 1, (whole - begin) / cell
            n += 1
        for s in range(whole, last):
            at[n], weights[n] = s, 1.0 / cell
            n += 1
        if end - last > 1e-3:
            at[n], weights[n] = last, min(min(end - last, 1.0), cell) / cell
            n += 1
        first[i + 1] = n
    return first, at[:n].copy(), weights[:n].copy()


@compiled(types.void(_bytes, _places, _places, _weights, types.float32[::1]))
def _area_row(row: Array, first: Array, at: Array, weights: Array, out: Array) -> None:
    """out float32 (3 n + 1): the row's pixels averaged. Four channels at a time, of which the fourth is overwritten."""
    x = _0
    while x + _1 < _U(len(first)):
        a, b, c, d = _ZERO, _ZERO, _ZERO, _ZERO
        k = first[x]
        while k < first[x + _1]:
            s, weight = at[k] * _3, weights[k]
            a += np.float32(row[s]) * weight
            b += np.float32(row[s + _1]) * weight
            c += np.float32(row[s + _2]) * weight
            d += np.float32(row[s + _3]) * weight
            k += _1
        o = x * _3
        out[o], out[o + _1], out[o + _2], out[o + _3] = a, b, c, d
        x += _1


@compiled(types.void(_bytes, _bytes, _bytes, _bytes, _places, _places, _weights, types.float32[:, ::1]))
def _area_rows(p: Array, q: Array, r: Array, s: Array, first: Array, at: Array, weights: Array, out: Array) -> None:
    """`_area_row` of four rows, out float32 (4, 3 n + 1): sums that do not wait for each other."""
    x = _0
    while x + _1 < _U(len(first)):
        pa, pb, pc, pd = _ZERO, _ZERO, _ZERO, _ZERO
        qa, qb, qc, qd = _ZERO, _ZERO, _ZERO, _ZERO
        ra, rb, rc, rd = _ZERO, _ZERO, _ZERO, _ZERO
        sa, sb, sc, sd = _ZERO, _ZERO, _ZERO, _ZERO
        k = first[x]
        while k < first[x + _1]:
            i, weight = at[k] * _3, weights[k]
            pa += np.float32(p[i]) * weight
            pb += np.float32(p[i + _1]) * weight
            pc += np.float32(p[i + _2]) * weight
            pd += np.float32(p[i + _3]) * weight
            qa += np.float32(q[i]) * weight
            qb += np.float32(q[i + _1]) * weight
            qc += np.float32(q[i + _2]) * weight
            qd += np.float32(q[i + _3]) * weight
            ra += np.float32(r[i]) * weight
            rb += np.float32(r[i + _1]) * weight
            rc += np.float32(r[i + _2]) * weight
            rd += np.float32(r[i + _3]) * weight
            sa += np.float32(s[i]) * weight
            sb += np.float32(s[i + _1]) * weight
            sc += np.float32(s[i + _2]) * weight
            sd += np.float32(s[i + _3]) * weight
            k += _1
        o = x * _3
        out[0, o], out[0, o + _1], out[0, o + _2], out[0, o + _3] = pa, pb, pc, pd
        out[1, o], out[1, o + _1], out[1, o + _2], out[1, o + _3] = qa, qb, qc, qd
        out[2, o], out[2, o + _1], out[2, o + _2], out[2, o + _3] = ra, rb, rc, rd
        out[3, o], out[3, o + _1], out[3, o + _2], out[3, o + _3] = sa, sb, sc, sd
        x += _1


@compiled(
    types.void(_pixels, _places, _places, _weights, _places, _places, _weights, types.uint8[:, :, ::1]),
)
def area(
    pixels: Array,
    y_first: Array,
    y_at: Array,
    y_weights: Array,
    x_first: Array,
    x_at: Array,
    x_weights: Array,
    out: Array,
) -> None:
    """Area averages of uint8 (height, width, 3) to the size of `out`, given the tables of both axes.

    float32, horizontal before vertical, in the order of OpenCV's ResizeArea_Invoker, rounded half to even. Rows are
    averaged once each and four at a time; of those before, as many are kept, for outputs that share a row.
    """
    height, width = np.int64(pixels.shape[0]), np.int64(pixels.shape[1])
    flat = pixels.reshape(-1)
    long = 3 * width
    last = np.zeros(long + 1, np.uint8)  # with the fourth channel that the last pixel does not have
    last[:long] = flat[long * (height - 1) :]
    many = 3 * out.shape[1]
    rows, total = np.empty((8, many + 1), np.float32), np.empty(many, np.float32)
    done = np.int64(0)
    for y in range(out.shape[0]):
        for j in range(y_first[y], y_first[y + 1]):
            at = np.int64(y_at[j])
            while done <= at:
                if done + 4 < height:
                    p, q = flat[long * done : long * (done + 1) + 1], flat[long * (done + 1) : long * (done + 2) + 1]
                    r = flat[long * (done + 2) : long * (done + 3) + 1]
                    s = flat[long * (done + 3) : long * (done + 4) + 1]
                    into = np.int64(done % 8)
                    _area_rows(p, q, r, s, x_first, x_at, x_weights, rows[into : into + 4])
                    done += 4
                else:
                    row = flat[long * done : long * (done + 1) + 1] if done + 1 < height else last
                    _area_row(row, x_first, x_at, x_weights, rows[done % 8])
                    done += 1
            weight, averaged = y_weights[j], rows[at % 8]
            if j == np.int64(y_first[y]):
                for x in range(many):
                    total[x] = weight * averaged[x]
            else:
                for x in range(many):
                    total[x] += weight * averaged[x]
        line = out[y].reshape(-1)
        for x in range(many):
            line[x] = np.uint8(min(max(np.rint(total[x]), _ZERO), _MOST))


@compiled(types.void(_bytes, types.uint8[::1]))
def luma(rgb: Array, out: Array) -> None:
    """ITU-R 601 luma of uint8 (3 n,) pixels, uint8 (n,), as Pillow rounds it (Convert.c, L24)."""
    for i in range(len(out)):
        at = _U(i) * _3
        r, g, b = np.uint32(rgb[at]), np.uint32(rgb[at + _1]), np.uint32(rgb[at + _2])
        out[_U(i)] = np.uint8((r * _RED + g * _GREEN + b * _BLUE + _ROUND) >> _SIXTEEN)


@compiled(types.void(_gray, _ints, _matrix, types.uint8[:, ::1]))
def resample(gray: Array, starts: Array, values: Array, out: Array) -> None:
    """The columns of uint8 (height, width) to those of uint8 (n, width), by 22-bit coefficients and integer sums.

    Args:
        values: int32 (n, taps), of the inputs from `starts`, int32 (n,), on. Source: Pillow, Resample.c.
    """
    taps, width = values.shape[1], gray.shape[1]
    total = np.empty(width, np.int32)
    for y in range(out.shape[0]):
        total[:] = _HALF
        for k in range(min(taps, gray.shape[0] - starts[y])):
            line, value = gray[starts[y] + k], values[y, k]
            for x in range(width):
                total[x] = np.int32(total[x] + np.int32(np.int32(line[x]) * value))
        for x in range(width):
            out[y, x] = np.uint8(min(max(total[x] >> _BITS, 0), 255))


_settings.SLP_VECTORIZE = _slp
