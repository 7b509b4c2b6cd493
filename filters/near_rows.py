"""Rows that lie near to rows before them: what `semdedup` decides by, within one cluster.

    level, at = nearest_earlier(x)                     # the largest cosine to any earlier row, and which it is
    level, at = nearest_kept(x, bound_of(0.05))        # to any earlier row that is kept itself

Cosines are whole numbers of millionths, made of exact products: the same for any order and block. Memory: the rows,
once more in float64 where they are no more than `HELD` coordinates, and a few blocks of (BLOCK, BLOCK).
"""

from __future__ import annotations

import numpy as np

from stages.vectors import dots, lengths

UNIT = 1_000_000  # cosines are whole numbers of so many parts
BLOCK = 1024  # rows compared with as many earlier ones at a time
HELD = 1 << 27  # coordinates that may be held in float64: 1 GB; of more, each block is cast when it is looked at


def bound_of(epsilon: float) -> int:
    """The cosine, in millionths, above which a row is a duplicate."""
    return round((1 - epsilon) * UNIT)


def cosines(
    a: np.ndarray, b: np.ndarray, long_a: np.ndarray | None = None, long_b: np.ndarray | None = None
) -> np.ndarray:
    """int64 (n, m), millionths: of rows on the grid; exactly UNIT for equal ones.

    Args:
        a, b: (n, dim) and (m, dim), float32, or float64 which is cast no more.
        long_a, long_b: their lengths, where they are known.
    """
    both = (lengths(a) if long_a is None else long_a)[:, None] * (lengths(b) if long_b is None else long_b)[None]
    return np.minimum(np.rint(dots(a, b) / both * UNIT), UNIT).astype(np.int64)


def nearest_earlier(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cosine in millionths, row) of the nearest earlier row, the first of equal ones; without one (-UNIT, itself)."""
    return _Search(x).run(2 * UNIT)


def nearest_kept(x: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """The same among earlier rows that are kept: whose own cosine is not above the bound."""
    return _Search(x).run(bound)


class _Search:
    """Rows, block after block, against those before them, block by block, with a running maximum."""

    def __init__(self, x: np.ndarray) -> None:
        starts = range(0, len(x), BLOCK)
        self._long = np.concatenate([lengths(x[s : s + BLOCK]) for s in starts] or [np.zeros(0)])
        self._x = x.astype(np.float64) if x.size <= HELD else x
        self._keep = np.ones(len(x), bool)
        self._level, self._at = np.full(len(x), -UNIT), np.arange(len(x))

    def run(self, bound: int) -> tuple[np.ndarray, np.ndarray]:
        """(level, at); a row whose level is above the bound counts for none that follow."""
        for start in range(0, len(self._x), BLOCK):
            here = slice(start, start + BLOCK)
            mine, long = self._x[here].astype(np.float64, copy=False), self._long[here]
            for before in range(0, start, BLOCK):
                others = slice(before, before + BLOCK)
                if self._keep[others].any():
                    self._improve(here, cosines(mine, self._x[others], long, self._long[others]), before)
            self._among_themselves(here, cosines(mine, mine, long, long), bound)
        return self._level, self._at

    def _improve(self, here: slice, found: np.ndarray, before: int) -> None:
        """Take over what is nearer in an earlier block; of equal ones the first stays."""
        found[:, ~self._keep[before : before + found.shape[1]]] = -UNIT - 1
        best = found.argmax(axis=1)
        value = np.take_along_axis(found, best[:, None], 1)[:, 0]
        nearer = value > self._level[here]
        self._level[here][nearer], self._at[here][nearer] = value[nearer], best[nearer] + before

    def _among_themselves(self, here: slice, found: np.ndarray, bound: int) -> None:
        """Row after row within a block: only then it is known who counts."""
        level, at, keep = self._level[here], self._at[here], self._keep[here]
        for row in range(len(found)):
            if row:
                earlier = np.where(keep[:row], found[row, :row], -UNIT - 1)
                best = int(earlier.argmax())
                if earlier[best] > level[row]:
                    level[row], at[row] = earlier[best], here.start + best
            keep[row] = level[row] <= bound
