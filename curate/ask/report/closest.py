"""Which of some samples are near to which, by bits of a hash or by cosine: all pairs, compared in tiles.

    found = closest(points, reach=8, bound=4, size=6)
    found.counts        # pairs by distance, and whether both of them stayed
    found.kept          # the pairs of kept samples nearest to the bound

Bits become +1 and -1, so that both kinds are products of matrices. A report looks at some thousands of samples here,
whatever the pool's size: `BUDGET` bounds the work, a second or so for each filter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BUDGET = 4e10  # products and sums of one search: n * n * coordinates
TILE = 2048
BINS = 40


@dataclass(frozen=True)
class Points:
    """Different samples. x: float32 (n, dim), +1 and -1 for bits, else of length one. kept: bool (n,)."""

    x: np.ndarray
    kept: np.ndarray
    bits: bool

    def distances(self, rows: slice, columns: slice) -> np.ndarray:
        """float32 (rows, columns): bits that differ, or 1 - cosine."""
        dots = self.x[rows] @ self.x[columns].T
        return np.asarray((self.x.shape[1] - dots) / 2 if self.bits else 1 - dots)


@dataclass(frozen=True)
class Closest:
    """edges: n + 1 ascending numbers. counts: int64 (n, 2), pairs a bin: both kept, one or both dropped.

    kept: (distance, i, j) of pairs of which both were kept, nearest to the bound first; no sample is in two of them.
    """

    edges: np.ndarray
    counts: np.ndarray
    kept: tuple[tuple[float, int, int], ...]


def most_points(dim: int) -> int:
    """How many points of so many coordinates one search can compare."""
    return int((BUDGET / max(dim, 1)) ** 0.5)


def closest(points: Points, bound: float, size: int) -> Closest:
    """All pairs up to `reach_of(bound)`."""
    edges = edges_of(bound, bits=points.bits)
    counts = np.zeros((len(edges) - 1, 2), np.int64)
    nearest: list[tuple[float, float, int, int]] = []  # (from the bound, distance, i, j)
    for i, j, distance in _pairs(points, float(edges[-1])):
        both = points.kept[i] & points.kept[j]
        at = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, len(counts) - 1)
        counts += np.bincount(at * 2 + ~both, minlength=counts.size).reshape(-1, 2)
        i, j, distance = i[both], j[both], distance[both]
        apart = np.abs(distance - bound)
        first = np.lexsort((j, i, apart))[: 8 * size]  # some share a sample, and only one of those is shown
        found = zip(*(a[first].tolist() for a in (apart, distance, i, j)), strict=True)
        nearest = sorted([*nearest, *found])[: 8 * size]
    return Closest(edges, counts, tuple(_apart(nearest, size)))


def edges_of(bound: float, *, bits: bool) -> np.ndarray:
    """Bins that show as much beyond the bound as before it, whole numbers for bits; the bound ends a bin.

    A pair at the bound is near: for bits the bin of `bound` is [bound, bound + 1).
    """
    if bits:
        return np.arange(0, 2 * max(int(bound), 2) + 2, dtype=np.float64)
    return np.linspace(0, 2 * bound, BINS + 1)


def _pairs(points: Points, reach: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(i, j, distance) with i < j and distance < reach (for bits) or <= reach, tile by tile."""
    n = len(points.x)
    for top in range(0, n, TILE):
        for left in range(top, n, TILE):
            found = points.distances(slice(top, top + TILE), slice(left, left + TILE))
            i, j = np.nonzero(found < reach)
            later = left + j > top + i
            i, j = i[later], j[later]
            yield top + i, left + j, np.maximum(found[i, j], 0).astype(np.float64)


def _apart(nearest: list[tuple[float, float, int, int]], size: int) -> Iterator[tuple[float, int, int]]:
    seen: set[int] = set()
    for _, distance, i, j in nearest:
        if len(seen) == 2 * size:
            return
        if not {i, j} & seen:
            seen |= {i, j}
            yield distance, i, j
