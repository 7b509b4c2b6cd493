"""Gray thumbnails of 32x32 and 64x64, to the bit those of Pillow's LANCZOS, at a third of its time.

    small, large = thumbnails(luma)             # uint8 (height, width) -> uint8 (32, 32) and (64, 64)

Pillow resamples rows, rounds to 8 bits, then resamples columns (of tall pictures the other way round), with
coefficients rounded to 22 bits and integer sums. Here the rows are matrix products in float32, whose error has a bound;
the few values that lie nearer than that bound to where rounding turns are summed again in integers. Columns are
products in float64, which are exact.
Source of the coefficients: Pillow's `Resample.c` (precompute_coeffs, normalize_coeffs_8bpc).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SIZES = (32, 64)
GROUPS = 8  # of neighbouring output columns; each needs only a part of a row
LINES = 448  # of a picture at a time
MOST = 16_384  # pixels a side; beyond, coefficients take more memory than they are worth
_UNIT = 2**22
_LOBES = 3


def thumbnails(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`luma` resized by LANCZOS: uint8 (height, width) to (32, 32) and to (64, 64), exactly as Pillow 13 does it."""
    if max(luma.shape) > MOST:
        return _by_pillow(luma)
    height, width = luma.shape
    # Pillow 13 begins with the columns where a picture is this much higher than wide (measured; elsewhere rows first).
    tall = [height > side and height + side > 2 * width for side in SIZES]
    lying = _rows_first(luma) if not all(tall) else None
    standing = _rows_first(luma.T) if any(tall) else None
    found = [standing[i].T if standing is not None and tall[i] else lying[i] for i in (0, 1)]  # type: ignore[index]
    return found[0], found[1]


def _rows_first(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = luma.shape
    rows = _rows(luma, _bands(width))
    small, large = (
        np.clip(np.floor(matrix @ part.astype(np.float64) + 0.5), 0, 255).astype(np.uint8)
        for matrix, part in zip(_columns(height), rows, strict=True)
    )
    return small, large


def _by_pillow(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    image = Image.fromarray(luma)
    small, large = (np.asarray(image.resize((side, side), Image.Resampling.LANCZOS)) for side in SIZES)
    return small, large


@dataclass(frozen=True, slots=True)
class _Taps:
    """Coefficients of one axis to one size: `values` int32 (out, taps), of the input from `starts` (out,) on."""

    starts: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class _Bands:
    """The rows' coefficients of both sizes, as float32 for each group's part [low, high) of a row."""

    parts: list[tuple[int, int, np.ndarray]]
    shift: np.ndarray  # float32 (96, 1): 128 times a column's sum of coefficients, and a half
    bound: float  # of the error of a float32 sum
    taps: tuple[_Taps, _Taps]


def _rows(luma: np.ndarray, bands: _Bands) -> tuple[np.ndarray, np.ndarray]:
    """The horizontal pass: uint8 (height, 32) and (height, 64)."""
    height = len(luma)
    sums = np.empty((sum(SIZES), height), np.float32)
    per = len(sums) // GROUPS
    for top in range(0, height, LINES):  # so that the floats stay in the cache
        lines = slice(top, top + LINES)
        centred = (luma[lines] ^ 128).view(np.int8).astype(np.float32)  # less 128, which halves the error
        for i, (low, high, matrix) in enumerate(bands.parts):
            np.matmul(matrix, centred[:, low:high].T, out=sums[per * i : per * (i + 1), lines])
    sums += bands.shift
    whole = np.floor(sums)
    found = np.clip(whole, 0, 255).astype(np.uint8)
    np.subtract(sums, whole, out=whole)
    np.subtract(whole, 0.5, out=whole)
    doubtful = np.flatnonzero(np.abs(whole, out=whole) > 0.5 - bands.bound)
    by_group = found.reshape(GROUPS, per, height)
    if len(doubtful):
        line, y = np.divmod(doubtful, height)
        group, at = np.divmod(line, per)
        split = per * SIZES[0] // sum(SIZES)
        for taps, first, count in ((bands.taps[0], 0, split), (bands.taps[1], split, per - split)):
            mine = (at >= first) & (at < first + count)
            x = group[mine] * count + at[mine] - first
            by_group[group[mine], at[mine], y[mine]] = _exactly(luma, y[mine], x, taps)
    split = per * SIZES[0] // sum(SIZES)
    small = by_group[:, :split].reshape(SIZES[0], height).T
    large = by_group[:, split:].reshape(SIZES[1], height).T
    return small, large


def _exactly(luma: np.ndarray, y: np.ndarray, x: np.ndarray, taps: _Taps) -> np.ndarray:
    """Values of the horizontal pass at rows `y` and output columns `x`, in integers as Pillow sums them."""
    columns = taps.starts[x][:, None] + np.arange(taps.values.shape[1])
    # Beyond the last column all coefficients are 0.
    pixels = luma[y[:, None], np.minimum(columns, luma.shape[1] - 1)]
    sums = np.einsum("ij,ij->i", pixels.astype(np.int64), taps.values[x])
    return np.clip((sums + _UNIT // 2) >> 22, 0, 255).astype(np.uint8)


@lru_cache(maxsize=48)
def _bands(width: int) -> _Bands:
    taps = _taps(width, SIZES[0]), _taps(width, SIZES[1])
    parts = []
    for i in range(GROUPS):
        mine = [
            (t.starts[n * i : n * (i + 1)], t.values[n * i : n * (i + 1)])
            for t, n in zip(taps, (SIZES[0] // GROUPS, SIZES[1] // GROUPS), strict=True)
        ]
        low = min(int(starts[0]) for starts, _ in mine)
        high = min(width, max(int(starts[-1]) + values.shape[1] for starts, values in mine))
        parts.append((low, high, np.concatenate([_dense(s, v, low, high) for s, v in mine]).astype(np.float32)))
    sums = np.concatenate([matrix.sum(axis=1, dtype=np.float64) for _, _, matrix in parts])
    magnitude = max(float(np.abs(matrix).sum(axis=1).max()) for _, _, matrix in parts)
    longest = max(t.values.shape[1] for t in taps)
    # Each of n products and sums is off by half a unit of the last place of at most 128 times the coefficients' sum;
    # the zeros of a band add nothing. The shift is off by as much of at most 256 times.
    bound = (longest + 8) * 2.0**-24 * 128 * magnitude * 1.01
    return _Bands(parts, (128 * sums + 0.5).astype(np.float32)[:, None], bound, taps)


@lru_cache(maxsize=48)
def _columns(height: int) -> tuple[np.ndarray, np.ndarray]:
    """float64 (32, height) and (64, height): multiples of 2^-22, so that every product and sum is exact."""
    found = []
    for size in SIZES:
        taps = _taps(height, size)
        found.append(_dense(taps.starts, taps.values, 0, height))
    return found[0], found[1]


def _dense(starts: np.ndarray, values: np.ndarray, low: int, high: int) -> np.ndarray:
    """float64 (out, high - low): the coefficients where they belong, as parts of 1."""
    out, taps = values.shape
    matrix = np.zeros((out, high - low + taps))
    at = (starts - low)[:, None] + np.arange(taps)
    matrix[np.arange(out)[:, None], at] = values / _UNIT
    return matrix[:, : high - low]


def _taps(length: int, out: int) -> _Taps:
    scale = length / out
    wide = max(scale, 1.0)
    support = _LOBES * wide
    centres = (np.arange(out) + 0.5) * scale
    starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    ends = np.minimum((centres + support + 0.5).astype(np.int64), length)
    taps = int((ends - starts).max())
    at = starts[:, None] + np.arange(taps)
    weights = _lanczos((at - centres[:, None] + 0.5) * (1.0 / wide))
    weights[at >= ends[:, None]] = 0
    weights *= _UNIT / weights.sum(axis=1, keepdims=True)
    values = np.rint(weights)
    # numpy's sine and sums differ from C's in the last place: where that could tell, C's are taken.
    for row in np.flatnonzero((np.abs(np.abs(weights - values) - 0.5) < 1e-6).any(axis=1)):
        values[row] = _taps_as_c(float(centres[row]), int(starts[row]), int(ends[row]), 1.0 / wide, taps)
    return _Taps(starts, values.astype(np.int32))


def _lanczos(x: np.ndarray) -> np.ndarray:
    inside = (x >= -_LOBES) & (x < _LOBES)
    return np.where(inside, np.sinc(x) * np.sinc(x / _LOBES), 0.0)


def _taps_as_c(centre: float, start: int, end: int, unit: float, taps: int) -> list[float]:
    def sinc(x: float) -> float:
        return 1.0 if x == 0 else math.sin(x * math.pi) / (x * math.pi)

    weights = []
    for i in range(end - start):
        x = (i + start - centre + 0.5) * unit
        weights.append(sinc(x) * sinc(x / _LOBES) if -_LOBES <= x < _LOBES else 0.0)
    total = 0.0
    for weight in weights:
        total += weight
    scaled = [weight / total * _UNIT for weight in weights]
    whole = [float(int(w - 0.5 if w < 0 else w + 0.5)) for w in scaled]
    return whole + [0.0] * (taps - len(whole))
