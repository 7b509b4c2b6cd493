"""The k nearest rows of each of many queries, exactly, among rows that come a block at a time in any order.

    best = NearestRows(queries, k=4)
    for x, high, low, place in shards:
        best.among(x, high, low, place)
    best.table()                        # (query, level, high, low, place), the nearest first

Near is the cosine in whole millionths, of equal ones the smaller uid. Products in float32 find who may be among the k;
their error is known, and what it leaves open is decided by exact products (stages/vectors.py), so that neither order,
block, threads nor device change the answer. Memory: the queries, their k best, and one tile of products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stages.best_rows import ranks
from stages.shuffle import arrays
from stages.vectors import ERROR, Device, gpu_torch, lengths

UNIT = 1_000_000  # cosines are whole numbers of so many parts
QUERIES, ROWS = 1024, 8192  # of a tile of products: 32 MB
CLOSER = 1 << 14  # pairs looked at in float64 at a time
NONE = -UNIT - 1  # the level where there is no row yet: below any cosine's
FIELDS = ("level", "high", "low", "place")


class KBest:
    """The k best rows so far of each of `count` queries, by level, of equal ones the smaller uid."""

    def __init__(self, count: int, k: int) -> None:
        self.k = k
        self._level = np.full((count, k), NONE)
        self._uid = np.zeros((2, count, k), np.uint64)
        self._place = np.zeros((count, k), np.uint64)

    def merge(self, table: pa.Table) -> None:
        """Take over what `table()` of another one says of the same queries, among other rows."""
        found = arrays(table)
        near = found["level"] >= self._level[found["query"], -1]  # of equal ones the uid decides
        self.take(found["query"][near], [found[name][near] for name in FIELDS])

    def table(self) -> pa.Table:
        """(query, level, high, low, place, rank): by query, the nearest first; rank counts from 1."""
        at = query, rank = np.nonzero(self._level > NONE)
        found = [self._level[at], self._uid[0][at], self._uid[1][at], self._place[at]]
        return pa.table({"query": query, **dict(zip(FIELDS, found, strict=True)), "rank": rank + 1})

    def last(self, query: slice | np.ndarray) -> np.ndarray:
        """int64: the level of the k-th best; NONE where there are fewer."""
        return np.asarray(self._level[query, -1])

    def take(self, query: np.ndarray, found: Sequence[np.ndarray]) -> None:
        """Keep the best of what these queries have and of rows (level, high, low, place) found for them."""
        if not len(query):
            return
        touched = np.unique(query)
        have, at = np.nonzero(self._level[touched] > NONE)
        held = touched[have], at
        old = [self._level[held], self._uid[0][held], self._uid[1][held], self._place[held]]
        owner = np.concatenate([touched[have], query])
        level, high, low, place = (np.concatenate(both) for both in zip(old, found, strict=True))
        order = np.lexsort((low, high, -level, owner))
        rank = ranks(owner[order])
        order, rank = order[rank < self.k], rank[rank < self.k]
        best = owner[order], rank
        self._level[best], self._place[best] = level[order], place[order]
        self._uid[0][best], self._uid[1][best] = high[order], low[order]


class NearestRows(KBest):
    """The k nearest rows of each query.

    Args:
        queries: float32 (q, dim) on the grid, of length one. k: at least 1.
        device: cuda makes the products in float32 on a GPU, with torch.

    Raises:
        ValueError: no GPU.
    """

    def __init__(self, queries: np.ndarray, k: int, device: Device = "cpu") -> None:
        super().__init__(len(queries), k)
        self.queries, self._long = queries, _lengths(queries)
        # of a float32 product, of vectors rounded to the grid, and of rounding to millionths
        self._slack = ERROR * (queries.shape[1] + 2) * 2 + 4e-6
        self._torch: Any = gpu_torch("nearest rows") if device == "cuda" else None

    def among(self, x: np.ndarray, high: np.ndarray, low: np.ndarray, place: np.ndarray) -> None:
        """Look at more rows: float32 (n, dim) on the grid, of length one, with their uids and places, uint64 (n,)."""
        long = _lengths(x)
        for start in range(0, len(x), ROWS):
            part = x[start : start + ROWS]
            there = part.T if self._torch is None else self._on_gpu(part).T
            for begin in range(0, len(self.queries), QUERIES):
                i, j = self._candidates(slice(begin, begin + QUERIES), there)
                for at in range(0, len(i), CLOSER):
                    some = begin + i[at : at + CLOSER], start + j[at : at + CLOSER]
                    self._decide(*some, x, long, (high, low, place))

    def _on_gpu(self, x: np.ndarray) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(x)).cuda()

    def _candidates(self, tile: slice, there: Any) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (query within the tile, row of the part) that may be among the k best of their query."""
        least = self.last(tile) / UNIT  # below any cosine where there are not k yet
        k = min(self.k, there.shape[1])
        if self._torch is not None:
            products = self._on_gpu(self.queries[tile]) @ there
            best = products.topk(k, dim=1).values[:, -1].double()
            bound = (self._torch.maximum(self._torch.from_numpy(least).to(best.device), best) - self._slack).float()
            i, j = self._torch.nonzero(products >= bound[:, None], as_tuple=True)
            return i.cpu().numpy(), j.cpu().numpy()
        products = self.queries[tile] @ there
        open_ = np.flatnonzero(least < -1)
        if len(open_):
            least[open_] = np.partition(products[open_], -k, axis=1)[:, -k]
        i, j = np.nonzero(products >= (least - self._slack)[:, None].astype(np.float32))
        return i, j

    def _decide(
        self, i: np.ndarray, j: np.ndarray, x: np.ndarray, long: np.ndarray, rows: tuple[np.ndarray, ...]
    ) -> None:
        """Exact levels of pairs (query, row), and who is among the k best by them."""
        exact = np.einsum("nd,nd->n", self.queries[i].astype(np.float64), x[j].astype(np.float64))
        level = np.minimum(np.rint(exact / (self._long[i] * long[j]) * UNIT), UNIT).astype(np.int64)
        near = level >= self.last(i)
        j = j[near]
        self.take(i[near], [level[near], *(of[j] for of in rows)])


def _lengths(x: np.ndarray) -> np.ndarray:
    """float64 (n,): of many rows, some at a time."""
    return np.concatenate([lengths(x[at : at + ROWS]) for at in range(0, len(x), ROWS)] or [np.zeros(0)])
