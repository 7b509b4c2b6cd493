"""The work of the phases that all near barriers share (`stages.near`): from nodes and pairs to groups and edges."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from stages.base import Inputs, Output, PhaseFile
from stages.draws import hash64_halves
from stages.near_forest import node_bucket, roots
from stages.shuffle import (
    Arrays,
    arrays,
    bucket,
    buckets_of,
    by_span,
    find,
    joined,
    places,
    split,
    stacked,
    starts_of,
)

NODES = "nodes"


def pairs_output(a: np.ndarray, b: np.ndarray, distance: np.ndarray, count: int) -> Output:
    """The output of a part of `pairs`: nodes, each pair once, in any order and either way round; `count` buckets."""
    a, b = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((b, a))
    rows = {"a": a[order], "b": b[order], "distance": distance[order].astype(np.int64)}
    return Output(split(rows, node_bucket(rows["a"], count), count), {"pairs": len(order)})


def unique(rows: Arrays) -> Output:
    """(node, high, low, count): each node once, with its smallest uid and the number of its samples."""
    order = np.argsort(rows["node"])
    starts = starts_of(rows["node"][order])
    count = np.diff(np.append(starts, len(order)))
    of_many = np.flatnonzero(np.repeat(count > 1, count))  # only among equal nodes uids are compared
    some = order[of_many]
    order[of_many] = some[np.lexsort((rows["low"][some], rows["high"][some], rows["node"][some]))]
    first = order[starts]
    table = {"node": rows["node"][first], "high": rows["high"][first], "low": rows["low"][first], "count": count}
    return Output(pa.table(table), {"nodes": len(first), "most_equal": int(count.max(initial=0))})


def key_rows(part: str, inputs: Inputs) -> Output:
    """(node, high, low, place) of each sample that takes part, by bucket of its node."""
    found: list[Arrays] = []
    for key, table in zip(inputs.keys, inputs, strict=True):
        assert isinstance(key, PhaseFile)
        there = table.column("node").is_valid().to_numpy()
        place = places(int(key.part), table.num_rows)
        rows = {n: table.column(n).fill_null(0).to_numpy() for n in ("node", "high", "low")} | {"place": place}
        found.append({n: a[there] for n, a in rows.items()})
    rows = joined(found)
    count = buckets_of(part)
    return Output(split(rows, node_bucket(rows["node"], count), count), {"keys": len(rows["node"])})


def named(part: str, inputs: Inputs) -> Output:
    """`keys` by the name that each node goes by, by bucket of it."""
    rows, aliases = (stacked(inputs.select(PhaseFile, name)) for name in ("keys", "aliases"))
    order = np.argsort(aliases["node"])
    hit, at = find(aliases["node"][order], rows["node"])
    node = put(rows["node"], np.flatnonzero(hit), aliases["canonical"][order[at[hit]]])
    count = buckets_of(part)
    return Output(split(rows | {"node": node}, node_bucket(node, count), count), {"renamed": int(hit.sum())})


def put(values: np.ndarray, at: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A copy with `others` at these places."""
    copy = values.copy()
    copy[at] = others
    return copy


def members(part: str, inputs: Inputs) -> Output:
    """`unique` rows that are not alone, with the root of their component, by bucket of the root."""
    own, *others = inputs.keys
    nodes = arrays(inputs.load(own))
    near, root = roots(part, Inputs(others, inputs.load), nodes["node"])
    touched = near | (nodes["count"] > 1)
    rows = {"root": root[touched]} | {n: a[touched] for n, a in nodes.items()}
    count = buckets_of(part)
    return Output(split(rows, node_bucket(rows["root"], count), count))


def labels(part: str, rows: Arrays) -> Output:
    """(node, high, low, size): the group of each node, by bucket of the node."""
    order = np.lexsort((rows["low"], rows["high"], rows["root"]))
    rows = {n: a[order] for n, a in rows.items()}
    starts = starts_of(rows["root"])
    length = np.diff(np.append(starts, len(order)))
    size = np.add.reduceat(rows["count"], starts) if len(starts) else np.empty(0, np.int64)
    first = np.repeat(starts, length)
    labels = {"node": rows["node"], "high": rows["high"][first], "low": rows["low"][first]}
    labels["size"] = np.repeat(size, length)
    count = buckets_of(part)
    sizes = np.unique(size, return_counts=True)
    stats = {"groups": len(starts), "largest": int(size.max(initial=0))}
    stats["sizes"] = dict(zip(map(str, sizes[0].tolist()), sizes[1].tolist(), strict=True))  # type: ignore[assignment]
    return Output(split(labels, node_bucket(labels["node"], count), count), stats)


def edges(part: str, inputs: Inputs) -> Output:
    """(high, low, a, b, distance): near nodes a < b and the uid of their group, by bucket of the group."""
    pairs, labels = (stacked(inputs.select(PhaseFile, name)) for name in ("pairs", "labels"))
    order = np.lexsort((pairs["b"], pairs["a"]))
    pairs = {n: a[order] for n, a in pairs.items()}
    order = np.argsort(labels["node"])
    at = order[np.searchsorted(labels["node"][order], pairs["a"])]  # look-ups in order are several times faster
    edges = {"high": labels["high"][at], "low": labels["low"][at], **pairs}
    value, times = np.unique(edges["distance"], return_counts=True)
    histogram = dict(zip(map(str, value.tolist()), times.tolist(), strict=True)) if len(value) <= 1000 else None
    count = buckets_of(part)
    into = bucket(edges["high"], edges["low"], count)
    return Output(split(edges, into, count), {"edges": len(into), "distances": histogram})


def answers(inputs: Inputs) -> Output:
    """(place, high, low, size) of every sample that is not alone; high and low are the group's uid.

    Where nodes were renamed, their node too.
    """
    named = inputs.select(PhaseFile, "named")
    rows = stacked(named if len(named) else inputs.select(PhaseFile, "keys"))
    labels = stacked(inputs.select(PhaseFile, "labels"))
    order, by_node = np.argsort(labels["node"]), np.argsort(rows["node"])  # look-ups in order are several times faster
    hit, at = find(labels["node"][order], rows["node"][by_node])
    at, found = order[at[hit]], by_node[hit]
    answer = {"place": rows["place"][found]} | {n: labels[n][at] for n in ("high", "low", "size")}
    if len(named):
        answer["node"] = rows["node"][found]
    return Output(by_span(answer, inputs, "keys"))


def digest64(words: np.ndarray) -> np.ndarray:
    """uint64 (n, w) -> uint64 (n,): a 64-bit hash of each row, for nodes of what is longer than 64 bits."""
    found = np.full(len(words), words.shape[1], np.uint64)
    for column in words.T:
        found = hash64_halves(0, "node", found, column)
    return found
