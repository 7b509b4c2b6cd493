"""Crowds: where the join of hashes finds more near pairs than can be kept, each hash keeps those with its nearest.

    found = PartPairs(hashes=30_000)
    choice = found.choice("2-0007", keys, low, node_of)    # one choice of blocks, or one band
    choice.add(i, j, distance)                             # again and again, run after run
    choice.end()
    a, b, distance = found.all()

Thirty thousand hashes that are all near to one another, but not equal, make 450 million pairs, that no worker holds and
nobody needs. A *run* is what one choice of blocks or one band brings together: the hashes that are equal there. A run
of n hashes that finds no more pairs than its limit, the larger of `MOST_OF_RUN` and `MOST_OF_ROW` * n, keeps all. One
with more keeps, as crowds of vectors do (`stages.near_vector_crowds`),

- the pairs of each hash with its nearest limit // n - 1, at least one: a pair stays if either end wants it;
- the pair of each hash with its neighbour of least node, so that what hangs together mostly goes on doing so.

No pair is kept that is none, so what a keep rule drops has a near one that it yields to; of a crowd some stay where one
could. What is left out hangs on the hashes of the run, on which of them are new in the list at work, and on the scheme
(k of the blocks goes with the number of buckets, and so with the size of the pool); not on shards, order, partitions or
workers.

Where the runs of one part would keep more than it may hold together (`MOST_OF_PART`), the limits of all of them are
halved until they do not. Runs of up to `LEAST` pairs always keep all, and of larger ones each hash some two, whatever
they add up to. That alone hangs on which runs are in one part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stages.near_vector_crowds import CellPairs
from stages.shuffle import starts_of

MOST_OF_RUN = 1 << 21
"""Pairs of a run that are all kept: as many as 2,048 hashes have that are all near."""

MOST_OF_ROW = 1 << 4
"""Pairs for each hash of a run that are all kept, `MOST_OF_PART` at most: in long runs many are no crowd."""

MOST_OF_PART = 1 << 23
"""Pairs that the runs of a part keep together: 18 bytes each here, some 120 at work in what follows."""

PART_ROW, PART_LEAST = 16, 1 << 20
"""Fewer in a part of fewer hashes, since in a small pool some parts make one bucket: so many for each, or in all. Pools
without crowds stay well below: no answer may hang on which runs are in one part there."""

LEAST = 1 << 6
"""Pairs of a run that are never thinned: of a dozen hashes that are all near."""

TOLD = 20
"""Crowds that a footer names, the largest first."""

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Run:
    """A run with more pairs than `LEAST`; they are held by the places of their hashes in it."""

    choice: str
    start: int
    node: np.ndarray
    pairs: CellPairs

    def limit(self, halved: int) -> int:
        of_rows = min(MOST_OF_ROW * len(self.node), MOST_OF_PART)
        return max(max(MOST_OF_RUN, of_rows) >> halved, LEAST)

    def told(self) -> dict[str, Any]:
        """What a footer says of a crowd; see `PartPairs.stats`."""
        found = {"choice": self.choice, "hashes": len(self.node), "found": self.pairs.found, "kept": len(self.pairs)}
        return {**found, "complete_below": self.pairs.nearest_left_out}

    def nodes(self) -> Pairs:
        i, j, distance = self.pairs.kept()
        return self.node[i], self.node[j], distance.astype(np.int16)


class PartPairs:
    """The pairs that a part of the join keeps.

    Args:
        hashes: how many the part looks at.
    """

    def __init__(self, hashes: int) -> None:
        self._most = min(MOST_OF_PART, max(PART_ROW * hashes, PART_LEAST))
        self._few: list[Pairs] = []
        self._runs: list[Run] = []
        self._held = 0
        self.halved = 0
        """How often the limits were."""

    def choice(self, name: str, keys: np.ndarray, low: int, node_of: Callable[[np.ndarray], np.ndarray]) -> Choice:
        """What is found by one choice of blocks or one band; `end()` it before the next.

        Args:
            name: in footers.
            keys: uint64 (hashes,): those of a run are equal but for their `low` lowest bits.
            node_of: the nodes of hashes, int64 numbers.
        """
        return Choice(self, name, keys, np.uint64((1 << low) - 1), node_of)

    def few(self, a: np.ndarray, b: np.ndarray, distance: np.ndarray) -> None:
        """Nodes of pairs that all stay."""
        self._few.append((a, b, distance.astype(np.int16)))
        self._hold(len(a))

    def thin(self, run: Run) -> None:
        """For a run that is complete."""
        run.pairs.thin(run.limit(self.halved))
        self._runs.append(run)
        self._hold(len(run.pairs))

    def _hold(self, more: int) -> None:
        """So many more; all are thinned until they are no more than they may be together."""
        self._held += more
        while self._held > self._most and MOST_OF_PART >> self.halved > LEAST:
            self.halved += 1
            for run in self._runs:
                before = len(run.pairs)
                run.pairs.thin(run.limit(self.halved))
                self._held += len(run.pairs) - before

    def all(self) -> Pairs:
        """(a, b, distance): nodes uint64, bits int64, of all that is kept."""
        none = np.empty(0, np.uint64)
        parts = [(none, none, np.empty(0, np.int16)), *self._few, *(run.nodes() for run in self._runs)]
        a, b, distance = (np.concatenate([p[side] for p in parts]) for side in range(3))
        return a, b, distance.astype(np.int64)

    def stats(self) -> dict[str, Any]:
        """crowds: runs that left pairs out; left_out: how many pairs; limits_halved: how often.

        largest_crowds: of each its choice of blocks (or band), hashes, the pairs found and kept, and complete_below:
        all pairs of fewer bits are kept.
        """
        crowds = sorted((r for r in self._runs if r.pairs.found > len(r.pairs)), key=lambda r: -r.pairs.found)
        if not crowds:
            return {"crowds": 0}
        left_out = sum(r.pairs.found - len(r.pairs) for r in crowds)
        told = [r.told() for r in crowds[:TOLD]]
        return {"crowds": len(crowds), "left_out": left_out, "limits_halved": self.halved, "largest_crowds": told}


class Choice:
    """The pairs of the runs of one choice; those of a run come one after another. See `PartPairs.choice`."""

    def __init__(
        self,
        into: PartPairs,
        name: str,
        keys: np.ndarray,
        low: np.uint64,
        node_of: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self._into, self._name, self._keys, self._low, self._node_of = into, name, keys, low, node_of
        self._key: np.uint64 | None = None
        self._waiting: list[Pairs] = []
        self._run: Run | None = None

    def add(self, i: np.ndarray, j: np.ndarray, distance: np.ndarray) -> None:
        """Further pairs of numbers of hashes; each comes once."""
        if not len(i):
            return
        pairs = i.astype(np.int64), j.astype(np.int64), distance
        key = self._keys[pairs[0]] & ~self._low
        cuts = np.append(starts_of(key), len(key))
        if self._key is not None and key[0] == self._key:
            self._open(_cut(pairs, 0, cuts[1]))
            if len(cuts) == 2:
                return
            pairs, key, cuts = _cut(pairs, cuts[1], len(key)), key[cuts[1] :], cuts[1:] - cuts[1]
        self.end()
        self._whole(_cut(pairs, 0, cuts[-2]), cuts[:-1])
        self._key = key[-1]
        self._open(_cut(pairs, cuts[-2], len(key)))

    def end(self) -> None:
        """The run that came last is complete."""
        if self._run is not None:
            self._into.thin(self._run)
        elif self._waiting:
            self._few(_joined(self._waiting))
        self._key, self._waiting, self._run = None, [], None

    def _whole(self, pairs: Pairs, cuts: np.ndarray) -> None:
        """Runs that are complete."""
        sizes = np.diff(cuts)
        self._few(tuple(side[np.repeat(sizes <= LEAST, sizes)] for side in pairs))  # type: ignore[arg-type]
        for n in np.flatnonzero(sizes > LEAST).tolist():
            self._open(_cut(pairs, cuts[n], cuts[n + 1]))
            self.end()

    def _few(self, pairs: Pairs) -> None:
        i, j, distance = pairs
        self._into.few(self._node_of(i), self._node_of(j), distance)

    def _open(self, pairs: Pairs) -> None:
        """Further pairs of the run at work."""
        if self._run is None:
            self._waiting.append(pairs)
            if sum(len(i) for i, _, _ in self._waiting) <= LEAST:
                return
            pairs, self._waiting = _joined(self._waiting), []
            self._run = self._run_of(pairs[0][0])
        i, j = (self._places(side) - self._run.start for side in pairs[:2])
        own = i.astype(np.int32), j.astype(np.int32), pairs[2].astype(np.int32)
        self._run.pairs.add(own, self._run.limit(self._into.halved))

    # ---- where runs are

    @cached_property
    def _order(self) -> np.ndarray | None:
        """The hashes by key; None where they lie so."""
        ascending = bool((self._keys[1:] >= self._keys[:-1]).all())
        return None if ascending else np.argsort(self._keys, kind="stable")

    @cached_property
    def _ordered(self) -> np.ndarray:
        return self._keys if self._order is None else self._keys[self._order]

    @cached_property
    def _place(self) -> np.ndarray | None:
        if self._order is None:
            return None
        place = np.empty(len(self._order), np.int64)
        place[self._order] = np.arange(len(place))
        return place

    def _places(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._place is None else self._place[rows]

    def _run_of(self, row: int) -> Run:
        key = self._keys[row] & ~self._low
        start = int(np.searchsorted(self._ordered, key))
        end = int(np.searchsorted(self._ordered, key | self._low, side="right"))
        rows = np.arange(start, end) if self._order is None else self._order[start:end]
        node = np.ascontiguousarray(self._node_of(rows))
        return Run(self._name, start, node, CellPairs(node))


def _cut(pairs: Pairs, start: int, end: int) -> Pairs:
    i, j, distance = pairs
    return i[start:end], j[start:end], distance[start:end]


def _joined(pairs: list[Pairs]) -> Pairs:
    i, j, distance = (np.concatenate([p[side] for p in pairs]) for side in range(3))
    return i, j, distance
