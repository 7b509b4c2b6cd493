"""Crowds: cells with more near pairs than can be kept keep those of each row with its nearest rows.

    found = PartPairs(known)
    found.add(cell, (i, j, distance))             # again and again, cell after cell
    i, j, distance = found.all()

A picture that the web has in ten thousand encodings makes fifty million pairs, that no worker holds and nobody needs.
A cell (`stages.near_vector_cells`) of n rows with no more pairs than its limit, the larger of `MOST_OF_CELL` and
`MOST_OF_ROW` * n, keeps all. One with more keeps

- the pairs of each row with its nearest limit // n - 1 rows, at least one: a pair stays if either end wants it;
- the pair of each row with its neighbour of least node, so that what hangs together mostly goes on doing so.

Of equally near ones those are nearer that share more leading bits of the node: were it the smaller nodes, all rows of a
crowd whose distances round to the same would keep the same few, and hardly two of them each other. Rows with no more
neighbours than that, in the cell of a crowd or not, keep all their pairs. No pair is kept that is none, so what a keep
rule drops has a near one that it yields to; of a crowd some stay where one could. What is left out hangs on the cell's
rows and on which of them are new, not on the order in which pairs are found, nor on shards, tiles of products or
workers.

Where cells of one part would keep more than `MOST_OF_PART` together, the limits of all are halved until they do not;
that hangs on which clusters are in one bucket, and so on the first list of the pool, as the buckets do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.near_vector_cells import Cell
from stages.near_vector_tiles import UNIT, Pairs
from stages.shuffle import Arrays

MOST_OF_CELL = 1 << 21
"""Pairs of a cell that are all kept: as many as 2,048 rows have that are all near. Twice as many are held at work."""

MOST_OF_ROW = 1 << 4
"""Pairs for each row of a cell that are all kept, `MOST_OF_PART` at most: in large clusters many are no crowd."""

MOST_OF_PART = 1 << 23
"""Pairs that the cells of a part keep together: 12 bytes each here, some 120 at work in the phases after it."""

TOLD = 20
"""Crowds that a footer names, the largest first."""

_FAR, _LAST = np.iinfo(np.int32).max, np.iinfo(np.uint64).max


class CellPairs:
    """The pairs of one cell, by the numbers of their rows in it.

    Args:
        node: uint64 (n,), all different, of the cell's rows.
    """

    def __init__(self, node: np.ndarray) -> None:
        self._node = node
        self._held: list[Pairs] = []
        self._waiting = self._thinned = 0
        self._bounds = np.full(len(node), _FAR, np.int32), *(np.full(len(node), _LAST, np.uint64) for _ in range(2))
        self.found = 0
        self.nearest_left_out = _FAR

    def __len__(self) -> int:
        """Pairs that are held."""
        return sum(len(i) for i, _, _ in self._held)

    def add(self, pairs: Pairs, limit: int) -> None:
        """Further pairs (i, j, distance), int32; each comes once. The limit may fall from call to call."""
        from stages.near_vector_kernels import may_stay

        self.found += len(pairs[0])
        if self.found > limit:
            pairs = self._only(pairs, may_stay(*pairs, self._node, *self._bounds))
        self._held.append(pairs)
        self._waiting += len(pairs[0])
        if self._waiting > max(limit, self._thinned):  # not for every few
            self.thin(limit)

    def thin(self, limit: int) -> None:
        """Leaves out what a cell with this limit does not keep of all that was found so far."""
        from stages.near_vector_kernels import nearest_pairs

        pairs = i, j, distance = joined(self._held)
        if self.found > limit:
            most = max(limit // len(self._node) - 1, 1)
            order = np.lexsort((self._node[i] ^ self._node[j], distance))
            pairs = self._only(pairs, nearest_pairs(i, j, distance, self._node, order, most, *self._bounds))
        self._held, self._waiting, self._thinned = [pairs], 0, len(pairs[0])

    def kept(self) -> Pairs:
        return joined(self._held)

    def _only(self, pairs: Pairs, stays: np.ndarray) -> Pairs:
        i, j, distance = pairs
        self.nearest_left_out = min(self.nearest_left_out, int(distance[~stays].min(initial=_FAR)))
        return i[stays], j[stays], distance[stays]


@dataclass(frozen=True)
class Found:
    """The pairs of a cell of a bucket."""

    cell: Cell
    cluster: int
    tile: int
    pairs: CellPairs

    def told(self) -> dict[str, float]:
        """What a footer says of a crowd; see `PartPairs.stats`."""
        numbers = {"cluster": self.cluster, "tile": self.tile, "rows": self.cell.end - self.cell.start}
        numbers |= {"found": self.pairs.found, "kept": len(self.pairs)}
        return {**numbers, "complete_below": self.pairs.nearest_left_out / UNIT}


class PartPairs:
    """The pairs of all cells of a bucket, by the numbers of their rows in it.

    Args:
        known: node uint64, cluster and tile int32, (rows,) each.
    """

    def __init__(self, known: Arrays) -> None:
        self._known = known
        self._found: list[Found] = []
        self._held = 0
        self.halved = 0
        """How often the limits were."""

    def add(self, cell: Cell, pairs: Pairs) -> None:
        """Further pairs; those of one cell come one after another."""
        if not self._found or self._found[-1].cell.start != cell.start:
            self._end_cell()
            cluster, tile = (int(self._known[n][cell.start]) for n in ("cluster", "tile"))
            self._found.append(Found(cell, cluster, tile, CellPairs(self._known["node"][cell.start : cell.end])))
        i, j, distance = pairs
        own = (i - cell.start).astype(np.int32), (j - cell.start).astype(np.int32), distance.astype(np.int32)
        self._found[-1].pairs.add(own, self._limit(cell))

    def all(self) -> Pairs:
        """(i, j, distance), int32, of all that is kept; for once all was added."""
        self._end_cell()
        starts = [np.int32(f.cell.start) for f in self._found]
        kept = [f.pairs.kept() for f in self._found]
        return joined([(i + start, j + start, d) for start, (i, j, d) in zip(starts, kept, strict=True)])

    def stats(self) -> dict[str, Any]:
        """crowds: cells that left pairs out; left_out: how many pairs; limits_halved: how often.

        largest_crowds: of each its cluster, tile, rows, the pairs found and kept, and complete_below: all pairs whose
        1 - cosine is less are kept.
        """
        crowds = sorted((f for f in self._found if f.pairs.found > len(f.pairs)), key=lambda f: -f.pairs.found)
        if not crowds:
            return {"crowds": 0}
        left_out = sum(f.pairs.found - len(f.pairs) for f in crowds)
        told = [f.told() for f in crowds[:TOLD]]
        return {"crowds": len(crowds), "left_out": left_out, "limits_halved": self.halved, "largest_crowds": told}

    def _end_cell(self) -> None:
        """Thins the last cell, and all, until they hold no more than they may together."""
        if not self._found:
            return
        self._thin(self._found[-1])
        self._held += len(self._found[-1].pairs)
        while self._held > MOST_OF_PART and self.halved < MOST_OF_CELL.bit_length():
            self.halved += 1
            for found in self._found:
                self._thin(found)
            self._held = sum(len(f.pairs) for f in self._found)

    def _thin(self, found: Found) -> None:
        found.pairs.thin(self._limit(found.cell))

    def _limit(self, cell: Cell) -> int:
        of_rows = min(MOST_OF_ROW * (cell.end - cell.start), MOST_OF_PART)
        return max(MOST_OF_CELL, of_rows) >> self.halved


def joined(pairs: Sequence[Pairs]) -> Pairs:
    """Pairs of int32 after one another."""
    if len(pairs) == 1:
        return pairs[0]
    none = np.zeros(0, np.int32)
    i, j, distance = (np.concatenate([none, *(p[side] for p in pairs)]) for side in range(3))
    return i, j, distance
