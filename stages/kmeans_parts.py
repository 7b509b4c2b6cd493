"""What parts of k-means keep and hand on: the vectors with the smallest draws, and sums of clusters.

smallest = Smallest(wanted=1000)
smallest.add(keys, rows)                                      # any number of times
first = smallest.rows()

table = sums_table(counts, sums)                              # of one part; exact, so that order does not matter
add_table(table, counts, sums)
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from stages.base import Inputs, Output
from stages.lloyd import BLOCK
from stages.vectors import as_column, rows_of


class Smallest:
    """The vectors with the smallest keys of those added; it holds no more than about twice as many as are wanted.

    limit: no vector whose draw is above it is among them.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted, self.limit = wanted, np.uint64(2**64 - 1)
        self._keys, self._rows, self._held = [np.zeros((3, 0), np.uint64)], [np.zeros((0, 0), np.float32)], 0

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """keys: uint64 (3, n), the draw first; rows: float32 (n, dim)."""
        self._keys.append(keys)
        self._rows = [*(r for r in self._rows if len(r)), rows]
        self._held += len(rows)
        if self._held > 2 * self.wanted:
            self._cut()

    def rows(self) -> np.ndarray:
        """float32 (up to wanted, dim), the smallest key first."""
        self._cut()
        return self._rows[0]

    def _cut(self) -> None:
        keys = np.hstack(self._keys)
        order = np.lexsort(keys[::-1])[: self.wanted]
        self._keys, self._rows, self._held = [keys[:, order]], [np.concatenate(self._rows)[order]], len(order)
        if 0 < self.wanted == len(order):
            self.limit = self._keys[0][0, -1]


def sums_table(counts: np.ndarray, sums: np.ndarray) -> pa.Table:
    """(cluster, count, sum) of clusters that have vectors, by cluster."""
    hit = np.flatnonzero(counts)
    return pa.table({"cluster": hit, "count": counts[hit], "sum": as_column(sums[hit])})


def add_table(table: pa.Table, counts: np.ndarray, sums: np.ndarray) -> None:
    """Add what such a table has to int64 (k,) and float64 (k, dim); exactly, so that no order shows."""
    at = table.column("cluster").to_numpy()
    counts[at] += table.column("count").to_numpy()
    more = rows_of(table.column("sum"), "k-means")[0]
    for start in range(0, len(at), BLOCK):
        sums[at[start : start + BLOCK]] += more[start : start + BLOCK]


def merged(inputs: Inputs) -> Output:
    """The sums of some parts as one table."""
    counts, sums = np.zeros(0, np.int64), np.zeros((0, 0))
    for table in (t for t in inputs if t.num_rows):
        more = table.column("cluster")[-1].as_py() + 1 - len(counts)
        if more > 0:
            dim = table.schema.field("sum").type.list_size
            counts = np.append(counts, np.zeros(more, np.int64))
            sums = np.vstack([sums.reshape(-1, dim), np.zeros((more, dim))])
        add_table(table, counts, sums)
    return Output(sums_table(counts, sums))
