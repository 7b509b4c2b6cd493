"""Edges between nodes that are numbered by rank, read from files as often as it takes, in bounded memory.

edges = Edges.of_files(nodes, inputs)          # nodes: uint64, best first; inputs: tables with a, b, distance
for better, worse, apart in edges.blocks(): ...
for start, end, (better, worse, apart) in edges.chunks(): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from stages.base import Inputs
from stages.shuffle import find

HELD = 1 << 24
"""Edges that are held at once: 12 bytes each, and as many again while they are joined."""

Block = tuple[np.ndarray, np.ndarray, np.ndarray]
"""int32 (edges,) each: the better and the worse end, by number, and how far they are apart."""


class Edges:
    """Edges among nodes 0..n-1, 0 the best. Few are held; of many, files are read again for every pass."""

    def __init__(self, n: int, load: Callable[[], Iterable[Block]], held: int | None = None) -> None:
        self.n = n
        self._load = load
        self._held = HELD if held is None else held
        self._all: Block | None = None
        self._many = False

    @classmethod
    def of_files(cls, nodes: np.ndarray, files: Inputs) -> Edges:
        """Edges of tables (a, b, distance, ...) whose ends are both among the nodes."""
        by_node = np.argsort(nodes).astype(np.int32)
        ascending = nodes[by_node]

        def load() -> Iterator[Block]:
            for table in files:
                a, b = (find(ascending, table.column(side).to_numpy()) for side in ("a", "b"))
                there = a[0] & b[0]
                i, j = by_node[a[1][there]], by_node[b[1][there]]
                apart = table.column("distance").to_numpy()[there].astype(np.int32)
                yield np.minimum(i, j), np.maximum(i, j), apart

        return cls(len(nodes), load)

    @classmethod
    def listed(cls, n: int, i: np.ndarray, j: np.ndarray, apart: np.ndarray, held: int | None = None) -> Edges:
        """Edges i - j that are at hand."""
        block = np.minimum(i, j).astype(np.int32), np.maximum(i, j).astype(np.int32), apart.astype(np.int32)
        return cls(n, lambda: [block], held)

    def blocks(self) -> Iterator[Block]:
        """All edges, in blocks of at least `held` but for the last one."""
        if self._all is not None:
            yield self._all
            return
        waiting: list[Block] = []
        for block in self._load():
            waiting.append(block)
            if sum(len(b[0]) for b in waiting) >= self._held:
                self._many = True
                yield _joined(waiting)
                waiting = []
        last = _joined(waiting)
        if not self._many:
            self._all = last
        yield last

    def chunks(self) -> Iterator[tuple[int, int, Block]]:
        """(start, end, the edges whose better end lies there), best nodes first, each of as many as are held."""
        counts = np.zeros(self.n, np.int64)
        for better, _, _ in self.blocks():
            counts += np.bincount(better, minlength=self.n)
        if self._all is not None:
            yield 0, self.n, self._all
            return
        ends, start = np.cumsum(counts), 0
        while start < self.n:
            before = int(ends[start - 1]) if start else 0
            end = max(start + 1, int(np.searchsorted(ends, before + self._held, side="right")))
            yield start, end, _joined([_between(block, start, end) for block in self.blocks()])
            start = end


def _between(block: Block, start: int, end: int) -> Block:
    mine = (block[0] >= start) & (block[0] < end)
    return block[0][mine], block[1][mine], block[2][mine]


def _joined(blocks: list[Block]) -> Block:
    none = np.empty(0, np.int32)
    better, worse, apart = (np.concatenate([none, *(b[i] for b in blocks)]) for i in range(3))
    return better, worse, apart
