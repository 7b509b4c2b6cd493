"""Near pairs of one bucket of clusters, in bounded memory, whatever the size of a cluster and of its crowds.

found = Bucket(inputs, fresh, bound)
found.pairs()                                      # (a, b, distance): nodes, each pair once
found.stats()                                      # afterwards: for the footer
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stages.base import Inputs
from stages.near_vector_cells import Cell, cells, ordered
from stages.near_vector_crowds import PartPairs
from stages.near_vector_rows import VectorRows, batches
from stages.near_vector_tiles import Pairs, Products
from stages.shuffle import Arrays
from stages.vectors import Device


class Bucket:
    """The rows of a bucket, and the search among them.

    Args:
        inputs: tables (node, cluster, tile, group, home, visits, vector_*).
        fresh: of each table, whether its rows are new; only pairs with a new row are looked for.
        bound: the largest distance, in millionths.
    """

    def __init__(self, inputs: Inputs, fresh: list[bool], bound: int, device: Device = "cpu") -> None:
        self._rows = VectorRows(inputs)
        known = self._rows.known
        new = np.array(fresh, bool)[known["source"]] if known else np.zeros(0, bool)
        self._order: np.ndarray
        self._order, segment = ordered(known, new) if known else (np.zeros(0, np.int64),) * 2
        self._known: Arrays = {n: a[self._order] for n, a in known.items()}
        self._cells = list(cells(self._known["cluster"], self._known["tile"], segment)) if known else []
        self._search = Products(bound, self._rows.dim, device)
        self._found = PartPairs(self._known)

    def stats(self) -> dict[str, Any]:
        largest = max((c.end - c.start for c in self._cells), default=0)
        return {"rows": len(self._order), "cells": len(self._cells), "largest": largest,
                "candidates": self._search.candidates, **self._found.stats()}  # fmt: skip

    def pairs(self) -> Arrays:
        """(a, b, distance): uint64, uint64, int64, a < b, by a and b; each pair once. Of crowds, not all."""
        node = self._known.get("node", np.zeros(0, np.uint64))
        for cell, some in self._searched():
            self._found.add(cell, self._met(*some))
        i, j, distance = self._found.all()
        a, b = np.minimum(node[i], node[j]), np.maximum(node[i], node[j])
        order = np.lexsort((b, a))
        return {"a": a[order], "b": b[order], "distance": distance[order].astype(np.int64)}

    def _met(self, i: np.ndarray, j: np.ndarray, distance: np.ndarray) -> Pairs:
        """Those of the pairs that are decided in this cluster, and in no other."""
        cluster, home, visits = (self._known[n] for n in ("cluster", "home", "visits"))
        own, other = np.where(home[i] == cluster[i], i, j), np.where(home[i] == cluster[i], j, i)
        there = home[other]  # where the other one is at home, and the first may visit
        elsewhere = (there < cluster[i]) & (visits[own] == there[:, None]).any(axis=1)
        mine = ~elsewhere
        return i[mine], j[mine], distance[mine]

    # ---- what is compared with what, as much at a time as memory holds

    def _searched(self) -> Iterator[tuple[Cell, Pairs]]:
        """Near pairs, cell after cell, and the cell that they are of."""
        limit = self._rows.at_once()
        for first, end in batches([c.end - c.start for c in self._cells], limit):
            some = self._cells[first:end]
            if some[-1].end - some[0].start > limit:
                yield from self._in_chunks(some[0], max(limit // 2, 1))
            else:
                yield from self._whole(some)

    def _whole(self, some: list[Cell]) -> Iterator[tuple[Cell, Pairs]]:
        """Cells whose vectors are held together."""
        start = some[0].start
        x = self._rows.take(self._order[start : some[-1].end])
        for cell in some:
            for job in cell.jobs:
                a, b, c, d = (n - start for n in job)
                yield from ((cell, pairs) for pairs in self._job(x[a:b], x[c:d], job))

    def _in_chunks(self, cell: Cell, rows: int) -> Iterator[tuple[Cell, Pairs]]:
        """A cell that memory does not hold: two chunks of it at a time."""
        for a, b, c, d in cell.jobs:
            for top in range(a, b, rows):
                bottom = min(top + rows, b)
                x = self._rows.take(self._order[top:bottom])
                for left in range(top if a == c else c, d, rows):
                    right = min(left + rows, d)
                    y = x if (left, right) == (top, bottom) else self._rows.take(self._order[left:right])
                    yield from ((cell, pairs) for pairs in self._job(x, y, (top, bottom, left, right)))

    def _job(self, x: np.ndarray, y: np.ndarray, job: tuple[int, int, int, int]) -> Iterator[Pairs]:
        a, b, c, d = job
        for i, j, distance in self._search.by_tile(x, None if (a, b) == (c, d) else y):
            yield i + a, j + c, distance
