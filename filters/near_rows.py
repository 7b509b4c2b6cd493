"""Rows that lie near to rows before them: what `semdedup` decides by, within one cluster.

    level, at = nearest_earlier(x)                     # the largest cosine to any earlier row, and which it is
    level, at = nearest_kept(x, bound_of(0.05))        # to any earlier row that is kept itself
    level, at = nearest_earlier(Chunks(n, 10_000, load))        # of more rows than memory holds

Cosines are whole numbers of millionths, made of exact products: the same for any order, block and chunk. Memory: two
chunks of rows, once more in float64 where they are no more than `HELD` coordinates, and a few blocks of (BLOCK, BLOCK).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stages.near_vector_tiles import UNIT, as_units
from stages.vectors import dots, lengths

BLOCK = 1024  # rows compared with as many earlier ones at a time
HELD = 1 << 25  # coordinates that may be held in float64: 256 MB; of more, each block is cast when it is looked at


@dataclass(frozen=True)
class Chunks:
    """Rows that are loaded some at a time: `load(start, end)` gives float32 (end - start, dim), on the grid."""

    count: int
    rows: int
    load: Callable[[int, int], np.ndarray]


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
    return as_units(dots(a, b), both)


def nearest_earlier(x: np.ndarray | Chunks) -> tuple[np.ndarray, np.ndarray]:
    """(cosine in millionths, row) of the nearest earlier row, the first of equal ones; without one (-UNIT, itself)."""
    return _Search(x).run(2 * UNIT)


def nearest_kept(x: np.ndarray | Chunks, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """The same among earlier rows that are kept: whose own cosine is not above the bound."""
    return _Search(x).run(bound)


class _Rows:
    """Rows `start` to `end`, in blocks of float64, with their lengths."""

    def __init__(self, x: np.ndarray, start: int) -> None:
        self.start, self.end = start, start + len(x)
        self._x = x.astype(np.float64) if x.size <= HELD else x
        blocks = range(0, len(x), BLOCK)
        self._long = np.concatenate([lengths(x[s : s + BLOCK]) for s in blocks] or [np.zeros(0)])

    def blocks(self) -> range:
        return range(self.start, self.end, BLOCK)

    def block(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        here = slice(start - self.start, start - self.start + BLOCK)
        return self._x[here].astype(np.float64, copy=False), self._long[here]


class _Search:
    """Rows, block after block, against those before them, block by block, with a running maximum."""

    def __init__(self, x: np.ndarray | Chunks) -> None:
        if isinstance(x, np.ndarray):
            x = Chunks(len(x), max(len(x), 1), lambda start, end, x=x: x[start:end])  # type: ignore[misc]
        self._chunks = x
        self._keep = np.ones(x.count, bool)
        self._level, self._at = np.full(x.count, -UNIT), np.arange(x.count)

    def run(self, bound: int) -> tuple[np.ndarray, np.ndarray]:
        """(level, at); a row whose level is above the bound counts for none that follow."""
        for start in range(0, self._chunks.count, self._chunks.rows):
            mine = self._loaded(start)
            for before in range(0, start, self._chunks.rows):
                self._against(mine, self._loaded(before))
            for block in mine.blocks():
                self._against_block(mine, block, mine, range(start, block, BLOCK))
                x, long = mine.block(block)
                self._among_themselves(slice(block, min(block + BLOCK, mine.end)), cosines(x, x, long, long), bound)
        return self._level, self._at

    def _loaded(self, start: int) -> _Rows:
        return _Rows(self._chunks.load(start, min(start + self._chunks.rows, self._chunks.count)), start)

    def _against(self, mine: _Rows, others: _Rows) -> None:
        for block in mine.blocks():
            self._against_block(mine, block, others, others.blocks())

    def _against_block(self, mine: _Rows, block: int, others: _Rows, before: range) -> None:
        x, long = mine.block(block)
        for start in before:
            if self._keep[start : min(start + BLOCK, others.end)].any():
                y, long_y = others.block(start)
                self._improve(slice(block, block + len(x)), cosines(x, y, long, long_y), start)

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
