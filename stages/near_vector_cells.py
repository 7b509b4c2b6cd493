"""Where vectors meet: in their own cluster, as visitors in others, and in tiles of what is large.

Two vectors are compared in the cluster of one of them, where the other is at home or visits (`near_vector_visits`).
Where both visit the other's, the cluster with the smaller number decides. A cluster of more than about `CAP` own rows,
as its share of the sample says, is cut into groups by node, and each two groups meet in a *tile*, so that the square of
their number is shared among many parts: a row goes to one tile for each group. Nothing is lost by it.

    rows = meetings(node, visits, groups)   # (row, cluster, tile, ...) of each place that a row is sent to
    order, segment = ordered(rows, fresh)   # of a bucket's rows those to look at, by cell
    cells(cluster, tile, segment)           # and what is compared with what in each
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stages.shuffle import Arrays, starts_of

CAP = 1 << 17
"""Own rows of a cluster, about, above which it is cut into tiles."""

MOST = 1 << 11
"""Groups that a cluster is cut into, at most; a tile's number is that of one group times this, and the other's."""


def groups_of(counts: np.ndarray, total: int) -> np.ndarray:
    """int64 (k,): groups that each cluster is cut into, from its vectors in the sample and the number of all."""
    expected = counts * (total / max(int(counts.sum()), 1))
    return np.clip(np.ceil(expected / CAP), 1, MOST).astype(np.int64)


def meetings(node: np.ndarray, visits: np.ndarray, groups: np.ndarray) -> Arrays:
    """Each place that rows are sent to: (row int64, cluster, tile, group, home), int32; home is the row's own cluster.

    Args:
        node: uint64 (n,).
        visits: int32 (n, m), the clusters of each row, its own first; -1 where there are fewer.
        groups: int64 (k,), of each cluster.
    """
    at, which = np.nonzero(visits >= 0)
    cluster = visits[at, which].astype(np.int64)
    count = groups[cluster]
    mine = (node[at] % count.astype(np.uint64)).astype(np.int64)
    begin = np.cumsum(count) - count
    sent = np.repeat(np.arange(len(at)), count)
    peer = np.arange(len(sent)) - begin[sent]
    tile = np.minimum(mine[sent], peer) * MOST + np.maximum(mine[sent], peer)
    numbers = {"cluster": cluster[sent], "tile": tile, "group": mine[sent], "home": visits[at[sent], 0]}
    return {"row": at[sent]} | {n: a.astype(np.int32) for n, a in numbers.items()}


# ---------------------------------------------------------------- within a bucket


@dataclass(frozen=True)
class Cell:
    """The rows of one tile of one cluster: positions `start` to `end`, and the ranges of them that are compared.

    jobs: (first, end, first, end) of two ranges; twice the same: each pair in it once.
    """

    start: int
    end: int
    jobs: tuple[tuple[int, int, int, int], ...]


def ordered(rows: Arrays, fresh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(order, segment): rows to look at, by cell and segment; of equal vectors in a cell one, an old one if there is.

    segment: 0..7 in that order: the group's side of the tile, whether it visits, whether it is old.
    """
    same = np.lexsort((fresh, rows["node"], rows["tile"], rows["cluster"]))
    starts = starts_of(*(rows[n][same] for n in ("cluster", "tile", "node")))
    kept = same[starts]
    low, high = np.divmod(rows["tile"][kept], MOST)
    side = (rows["group"][kept] == high) & (low != high)
    visitor = rows["home"][kept] != rows["cluster"][kept]
    segment = side * 4 + visitor * 2 + ~fresh[kept]
    order = np.lexsort((rows["node"][kept], segment, rows["tile"][kept], rows["cluster"][kept]))
    return kept[order], segment[order]


def cells(cluster: np.ndarray, tile: np.ndarray, segment: np.ndarray) -> Iterator[Cell]:
    """The cells of rows in the order of `ordered`."""
    starts = starts_of(cluster, tile)
    for start, end in pairwise([*starts.tolist(), len(cluster)]):
        edges = start + np.searchsorted(segment[start:end], np.arange(9))
        across = tile[start] // MOST != tile[start] % MOST
        jobs = tuple(_jobs(edges.tolist(), bool(across)))
        if jobs:
            yield Cell(start, end, jobs)


def _jobs(edges: list[int], across: bool) -> Iterator[tuple[int, int, int, int]]:
    """Ranges of segments that meet: one its own cluster's, one fresh, and in a tile of two groups one of each."""
    for a in range(8):
        for b in range(a, 8):
            both = a & b
            if both & 2 or both & 1 or (across and (a ^ b) < 4) or edges[a] == edges[a + 1] or edges[b] == edges[b + 1]:
                continue
            if a != b or edges[a] + 1 < edges[a + 1]:
                yield edges[a], edges[a + 1], edges[b], edges[b + 1]
