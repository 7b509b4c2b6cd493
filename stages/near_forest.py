"""From near pairs to the root of each node's component: the work of the phases between `pairs` and `members`.

A pool of few buckets goes through a tree of forests (`forest-0`, ...), whose last part holds all nodes. A large one
numbers its nodes bucket by bucket, so that only an array of numbers must be in one place, 4 bytes a node:

    links     a part a bucket of a: of its pairs (a, b) those that hang together what all of them do; tables by b
    numbers   a part a bucket: the nodes there are numbered in ascending order. A table a bucket of a: (node a,
              number of b), and one more: (node, number) of all nodes of this bucket
    joins     a part a bucket of a: (i, j), numbers of both ends of its links
    forest    one part: the smallest number of each component, by union-find; a table a bucket, by number

A number is bucket * 2^32 + place among the nodes of the bucket, as places of samples are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from stages.base import Inputs, Need, Output, Phase, PhaseFile, tree
from stages.components import merged, spanning, united
from stages.shuffle import (
    Arrays,
    Layout,
    arrays,
    bucket,
    bucket_of_part,
    buckets_of,
    find,
    places,
    rows_of,
    split,
    stacked,
)

FEW = 4
"""Buckets of a pool whose forest one part holds: some 100 bytes a node (measured), of 2^23 samples."""

AT_THE_TOP = 9
"""Bytes a node of `forest`: 4 for its number's parent, 4 in the file before it is committed (measured: 7.5 in all)."""

ALONE = np.uint64(1 << 63)
"""Begins the roots of nodes that are near to no other, where roots are numbers."""


def node_bucket(nodes: np.ndarray, count: int) -> np.ndarray:
    """int64 (n,): the bucket of each node."""
    return bucket(nodes, np.zeros_like(nodes), count)


# ---------------------------------------------------------------- which part reads what


def forest_phases(layout: Layout, pairs: Sequence[str]) -> tuple[Phase, ...]:
    """The phases after `pairs`, whose parts these are, up to the one that `root_files` names."""
    if layout.buckets <= FEW:
        return _tree(layout, pairs)
    buckets, (top,) = layout.bucket_parts, _top(layout)
    links = layout.by_bucket("links", ("pairs", list(pairs)))
    numbers = layout.by_bucket("numbers", ("links", buckets))
    joins = layout.by_bucket("joins", ("numbers", buckets))
    return (
        links,
        Phase("numbers", buckets, lambda b: (PhaseFile("links", b), *numbers.inputs(b)), need=numbers.need),
        Phase("joins", buckets, lambda b: (_nodes_of(b), *joins.inputs(b)), need=joins.need),
        Phase("forest", (top,), lambda _: tuple(PhaseFile("joins", b) for b in buckets), need=_all_nodes(layout)),
    )


def root_files(layout: Layout, pairs: Sequence[str], part: str) -> tuple[PhaseFile, ...]:
    """What says the roots of the nodes of a bucket, for `members`."""
    (top,) = _top(layout)
    if layout.buckets <= FEW:
        return (PhaseFile(_tree(layout, pairs)[-1].name, top, bucket_of_part(part)),)
    return _nodes_of(part), PhaseFile("forest", top, bucket_of_part(part))


def _tree(layout: Layout, pairs: Sequence[str]) -> tuple[Phase, ...]:
    """The last part's name says how many buckets there are."""
    *lower, last = tree("forest", "pairs", list(pairs), need=Need(memory_gb=2))
    return *lower, Phase(last.name, _top(layout), lambda _: last.inputs("all"), need=last.need)


def _top(layout: Layout) -> tuple[str]:
    return (f"all-of-{layout.buckets:05d}",)


def _nodes_of(part: str) -> PhaseFile:
    """The table of `numbers` with all nodes of a bucket."""
    return PhaseFile("numbers", part, buckets_of(part))


def _all_nodes(layout: Layout) -> Need:
    """Of the part that holds a number for each node, were all samples different and each near another."""
    return Need(memory_gb=max(2.0, 0.5 + layout.shape.total * AT_THE_TOP / 1e9))


# ---------------------------------------------------------------- the work


def forest(part: str, inputs: Inputs) -> Output:
    """(node, label), components of the edges in all inputs: of pairs and forests alike the first two columns.

    At the top a table a bucket of the node.
    """
    node, label = merged((t.column(0).to_numpy(), t.column(1).to_numpy()) for t in inputs)
    rows, told = {"node": node, "label": label}, {"nodes": len(node)}
    if "-of-" not in part:
        return Output(pa.table(rows), told)
    return Output(split(rows, node_bucket(node, buckets_of(part)), buckets_of(part)), told)


def links(part: str, inputs: Inputs) -> Output:
    """(a, b): as few of the pairs as hang together what all do, by bucket of b."""
    pairs = stacked(inputs)
    kept = spanning(pairs["a"], pairs["b"])
    rows, count = {"a": pairs["a"][kept], "b": pairs["b"][kept]}, buckets_of(part)
    return Output(split(rows, node_bucket(rows["b"], count), count), {"links": len(rows["a"])})


def numbers(part: str, inputs: Inputs) -> Output:
    """(node, number): of each link hither the other node and the number of its end here; then the nodes here."""
    begin = [inputs.load(k).column("a") for k in inputs.keys if _whole(k)]
    hither = arrays(pa.concat_tables([inputs.load(k) for k in inputs.keys if not _whole(k)]))
    order = np.argsort(hither["b"])  # look-ups in order are several times faster
    a, b = hither["a"][order], hither["b"][order]
    nodes = np.unique(np.concatenate([*(x.to_numpy() for x in begin), b]))
    number, count = places(bucket_of_part(part), len(nodes)), buckets_of(part)
    ends = split({"node": a, "number": number[np.searchsorted(nodes, b)]}, node_bucket(a, count), count)
    return Output([*ends, pa.table({"node": nodes, "number": number})], {"nodes": len(nodes)})


def _whole(key: object) -> bool:
    return isinstance(key, PhaseFile) and key.bucket is None


def joins(part: str, inputs: Inputs) -> Output:
    """(i, j): numbers of both ends of the links that begin in this bucket."""
    here, *others = inputs.keys
    nodes = arrays(inputs.load(here))
    ends = arrays(pa.concat_tables([inputs.load(k) for k in others]))
    order = np.argsort(ends["node"])
    at = np.searchsorted(nodes["node"], ends["node"][order])
    return Output(pa.table({"i": nodes["number"][at], "j": ends["number"][order]}))


def numbered_forest(part: str, inputs: Inputs) -> Output:
    """(label): the root of the nodes of each bucket, by their place there: a number without gaps, the smallest.

    The inputs are read twice. Every bucket is given as much room as the largest needs; all have about as many.
    """
    count = buckets_of(part)
    room = max((1 + int(rows_of(t.column(n).to_numpy()).max(initial=-1)) for t in inputs for n in "ij"), default=0)

    def dense(number: np.ndarray) -> np.ndarray:
        return (number >> np.uint64(32)) * np.uint64(room) + (number & np.uint64(0xFFFFFFFF))

    label = united(count * room, ((dense(t.column("i").to_numpy()), dense(t.column("j").to_numpy())) for t in inputs))
    return Output([pa.table({"label": label[b * room : (b + 1) * room]}) for b in range(count)], {"room": room})


def roots(part: str, inputs: Inputs, node: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(near: bool (n,), which nodes are near another; root: uint64 (n,), the same for those of a component alone).

    inputs: `root_files`. node: ascending, those of this bucket.
    """
    numbered = len(inputs.select(PhaseFile, "numbers")) > 0
    known: Arrays = {}
    for table in inputs:
        known |= arrays(table)
    near, at = find(known["node"], node)
    root = ALONE | places(bucket_of_part(part), len(node)) if numbered else node.copy()
    root[near] = known["label"][at[near]]
    return near, root
