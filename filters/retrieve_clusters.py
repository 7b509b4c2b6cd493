"""What clusters that queries hit give: so many samples each, at most so many in all, by keyed draws.

The smallest draws are taken, of each cluster and then of all: so a span thins what it has before it is moved, and the
answer hangs on neither shards nor order. Rows: (set, cluster, draw, high, low, place).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from filters.retrieve_sets import QuerySet
from stages.best_rows import ranks
from stages.draws import hash64_halves
from stages.kmeans import nearest_by
from stages.kmeans_training import Training
from stages.shuffle import Arrays, halves, joined, places

ROW = {"set": np.int64, "cluster": np.int64, "draw": np.uint64, "high": np.uint64, "low": np.uint64, "place": np.uint64}


def hit_clusters(chosen: QuerySet, found: np.ndarray, by: Training) -> tuple[pa.Table, int]:
    """((cluster, queries): those that are nearest to more than `hits` of the set's queries; queries without a vector).

    Args:
        found: float32 (k, dim), the centroids.

    Raises:
        ValueError: the set's vectors are of another length.
    """
    counts, lacking = np.zeros(len(found), np.int64), 0
    if len(found):  # none, where nobody who is asked has a vector
        file, search = chosen.file(), nearest_by(found, by)
        same_dim(chosen, found.shape[1])
        for _, queries in file.blocks():
            first, _, _ = search.of(queries)
            counts += np.bincount(first, minlength=len(found))
        lacking = file.shape[0] - int(counts.sum())
    hit = np.flatnonzero(counts > chosen.hits)
    return pa.table({"cluster": hit, "queries": counts[hit]}), lacking


def same_dim(chosen: QuerySet, dim: int) -> None:
    """Refuse queries of another model than the pool's vectors."""
    theirs = chosen.file().shape[1]
    if dim and theirs != dim:
        raise ValueError(
            f"retrieve: the vectors of {chosen.name} have {theirs} dimensions and the pool's {dim}; take one model"
        )


def members(
    table: pa.Table, shard: int, sets: Sequence[tuple[int, QuerySet]], hit: Sequence[np.ndarray], seed: int
) -> Arrays:
    """Rows of a shard that lie in a cluster that a set hits, once for each such set.

    Args:
        table: (uid, asked, cluster) of `filters.measured`. sets: their numbers and themselves. hit: of each, the
            clusters, ascending.
    """
    there = np.flatnonzero(table.column("cluster").is_valid().to_numpy())
    cluster = table.column("cluster").fill_null(0).to_numpy()[there].astype(np.int64)
    high, low = (half[there] for half in halves(table.column("uid")))
    place = places(shard, table.num_rows)[there]
    found = [nothing()]
    for (number, chosen), clusters in zip(sets, hit, strict=True):
        mine = np.isin(cluster, clusters)
        draw = hash64_halves(seed, f"retrieve:{chosen.name}", high[mine], low[mine])
        rows = {"set": np.full(len(draw), number), "cluster": cluster[mine], "draw": draw}
        found.append(rows | {"high": high[mine], "low": low[mine], "place": place[mine]})
    return joined(found)


def nothing() -> Arrays:
    return {name: np.empty(0, kind) for name, kind in ROW.items()}


def thinned(rows: Arrays, sets: Sequence[tuple[int, QuerySet]]) -> Arrays:
    """Of each set and cluster, the `per_cluster` rows with the smallest draws, in that order."""
    order = np.lexsort((rows["low"], rows["high"], rows["draw"], rows["cluster"], rows["set"]))
    most = np.zeros(1 + max(number for number, _ in sets), np.int64)
    most[[number for number, _ in sets]] = [chosen.per_cluster for _, chosen in sets]
    kept = order[ranks(rows["set"][order], rows["cluster"][order]) < most[rows["set"][order]]]
    return {name: values[kept] for name, values in rows.items()}


def smallest(rows: Arrays, most: int) -> Arrays:
    """The `most` rows with the smallest draws."""
    order = np.lexsort((rows["low"], rows["high"], rows["draw"]))[:most]
    return {name: values[order] for name, values in rows.items()}
