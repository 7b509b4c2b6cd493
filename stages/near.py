"""Groups of near samples: what barriers that find near pairs have in common, whatever "near" means to them.

    class NearHashes(Near):
        ...                       # its own phases write `nodes` a shard and, at the end, `pairs`; the rest is here

A *node* is what a sample is compared by, as 64 bits: samples of one node are equal (distance 0), and nodes may be near.
A 64-bit hash is its own node; of longer hashes and of vectors it is a 64-bit hash of the bytes, which for a billion
different ones gives one false pair in a pool with a chance of 3 %. The phases, in order:

    nodes     local, a part a shard: (node, high, low), row-aligned; node is null where the sample takes part in nothing
    ...       the barrier's own way from nodes to pairs
    pairs     (a, b, distance), nodes a < b, distance int64 in units of `scale`; tables a bucket of a
    keys, unique, forest-*, roots, members, labels, edges, answers, gather, groups        here

`edges` is what keep rules read: a part a bucket of pairs, a table a bucket of groups with (high, low, a, b, distance),
where (high, low) is the group, the smallest uid of the component. Components: `stages.components`.

When the pool grows, phases before `keys` that are `local` are reused, and pairs of old nodes are not looked for again;
what is here is made anew from all pairs: its work goes with their number.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from stages.base import (
    Barrier,
    Column,
    Inputs,
    Output,
    Phase,
    PhaseFile,
    Shape,
    ShardColumns,
    per_shard,
    shard_name,
    tree,
)
from stages.components import merged
from stages.shuffle import (
    Arrays,
    Layout,
    bucket,
    buckets_of,
    by_span,
    find,
    gather,
    halves,
    joined,
    places,
    rows_of,
    split,
    stacked,
    starts_of,
    uid_array,
)

EDGES = "edges"
NODES = "nodes"


class Near(Barrier):
    """A barrier that finds near pairs of samples.

    Columns `<label>_group` binary(16): the smallest uid of the samples that hang together, null where one is alone;
    `<label>_group_size` int64; `<label>_node` uint64: null where the sample takes part in nothing.
    """

    scale: ClassVar[float] = 1
    """What one unit of a distance is: 1 bit; 1e-6 for vectors, whose distance is 1 - cosine."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Begins the names of the columns."""

    @property
    def group(self) -> str:
        """Name of the column with the group."""
        return f"{self.label}_group"

    def node(self) -> Column:
        """The column with each sample's node."""
        return Column(self, f"{self.label}_node")

    @abstractmethod
    def bound(self) -> tuple[float, str]:
        """(largest distance of a pair, what it is called): (4, "distance 4")."""

    def writes(self) -> pa.Schema:
        fields = [(self.group, pa.binary(16)), (f"{self.group}_size", pa.int64()), (f"{self.label}_node", pa.uint64())]
        return pa.schema(fields)

    # ---- for subclasses

    def nodes_phase(self, shape: Shape) -> Phase:
        """A part a shard; its work is `self.nodes_of`."""
        return per_shard(NODES, shape, local=True)

    @abstractmethod
    def nodes_of(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """(node uint64 (rows,), bool (rows,): who takes part) of a shard's table."""

    def closing(self, layout: Layout, pairs: Sequence[str]) -> tuple[Phase, ...]:
        """The phases after `pairs`, whose parts these are; `layout` is stamped."""
        buckets = layout.bucket_parts
        forests = tree("forest", "pairs", list(pairs))
        top = PhaseFile(forests[-1].name, "all")
        return (
            _keys(layout),
            layout.by_bucket("unique", ("keys", layout.spans)),
            *forests,
            Phase("roots", (f"all-of-{layout.buckets:05d}",), lambda _: (top,)),
            Phase(
                "members",
                buckets,
                lambda b: (PhaseFile("unique", b), PhaseFile("roots", f"all-of-{b[-5:]}", int(b[:5]))),
            ),
            layout.by_bucket("labels", ("members", buckets)),
            layout.by_bucket(EDGES, ("pairs", list(pairs)), ("labels", buckets)),
            layout.by_bucket("answers", ("keys", layout.spans), ("labels", buckets)),
            layout.gathered("gather", "answers"),
            _groups(layout),
        )

    def close(self, phase: str, part: str, inputs: Inputs) -> Output | None:
        """The work of `nodes` and of the phases of `closing`; None where the phase is none of them."""
        if phase.startswith("forest-"):
            return _forest(inputs)
        match phase:
            case "nodes":
                return self._nodes(inputs)
            case "keys":
                return _key_rows(part, inputs)
            case "unique":
                return unique(stacked(inputs))
            case "roots":
                found = stacked(inputs)
                return Output(split(found, node_bucket(found["node"], buckets_of(part)), buckets_of(part)))
            case "members":
                return _members(part, inputs)
            case "labels":
                return _labels(part, stacked(inputs))
            case "edges":
                return _edges(part, inputs)
            case "answers":
                return _answers(inputs)
            case "gather":
                return gather(part, inputs)
            case "groups":
                return self._group_rows(inputs)
        return None

    def _nodes(self, inputs: Inputs) -> Output:
        table = inputs.select(ShardColumns).only()
        node, there = self.nodes_of(table)
        high, low = halves(table.column("uid"))
        rows = {"node": pa.array(node, mask=~there), "high": high, "low": low}
        return Output(pa.table(rows), {"nodes": int(there.sum())})

    def _group_rows(self, inputs: Inputs) -> Output:
        node = inputs.select(PhaseFile, NODES).only().column("node")
        found = stacked(inputs.select(PhaseFile, "gather"))
        rows, at = len(node), rows_of(found["place"])
        high, low, size = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64), np.ones(rows, np.int64)
        together = np.zeros(rows, bool)
        high[at], low[at], size[at], together[at] = found["high"], found["low"], found["size"], True
        columns = [uid_array(high, low, together), pa.array(size), node]
        return Output(pa.table(columns, schema=self.writes()), {"grouped": len(at)})


def node_bucket(nodes: np.ndarray, count: int) -> np.ndarray:
    """int64 (n,): the bucket of each node."""
    return bucket(nodes, np.zeros_like(nodes), count)


def pairs_output(a: np.ndarray, b: np.ndarray, distance: np.ndarray, count: int) -> Output:
    """The output of a part of `pairs`: nodes, each pair once, in any order and either way round; `count` buckets."""
    a, b = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((b, a))
    rows = {"a": a[order], "b": b[order], "distance": distance[order].astype(np.int64)}
    return Output(split(rows, node_bucket(rows["a"], count), count), {"pairs": len(order)})


def unique(rows: Arrays) -> Output:
    """(node, high, low, count): each node once, with its smallest uid and the number of its samples."""
    order = np.lexsort((rows["low"], rows["high"], rows["node"]))
    starts = starts_of(rows["node"][order])
    first = order[starts]
    count = np.diff(np.append(starts, len(order)))
    table = {"node": rows["node"][first], "high": rows["high"][first], "low": rows["low"][first], "count": count}
    return Output(pa.table(table), {"nodes": len(first), "most_equal": int(count.max(initial=0))})


# ---------------------------------------------------------------- phases


def _keys(layout: Layout) -> Phase:
    """A part a span, reading the nodes of its shards."""
    plain = layout.from_shards("keys")

    def files(part: str) -> tuple[PhaseFile, ...]:
        keys = plain.inputs(part)
        return tuple(PhaseFile(NODES, shard_name(k.shard)) for k in keys if isinstance(k, ShardColumns))

    return Phase("keys", plain.parts, files, local=plain.local, need=plain.need)


def _groups(layout: Layout) -> Phase:
    """The last phase: a part a shard, from its nodes and its table of `gather`."""
    plain = layout.to_shards("groups", "gather")

    def files(part: str) -> tuple[PhaseFile, ...]:
        found = (k for k in plain.inputs(part) if isinstance(k, PhaseFile))
        return PhaseFile(NODES, part), *found

    return Phase("groups", plain.parts, files, need=plain.need)


def _key_rows(part: str, inputs: Inputs) -> Output:
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


def _forest(inputs: Inputs) -> Output:
    """(node, label): the components of the edges in all inputs; of pairs and forests alike the first two columns."""
    node, label = merged((t.column(0).to_numpy(), t.column(1).to_numpy()) for t in inputs)
    return Output(pa.table({"node": node, "label": label}), {"nodes": len(node)})


def _members(part: str, inputs: Inputs) -> Output:
    """`unique` rows that are not alone, with the root of their component, by bucket of the root."""
    nodes, roots = (stacked(inputs.select(PhaseFile, name)) for name in ("unique", "roots"))
    hit, at = find(roots["node"], nodes["node"])
    root = nodes["node"].copy()
    root[hit] = roots["label"][at[hit]]
    touched = hit | (nodes["count"] > 1)
    rows = {"root": root[touched]} | {n: a[touched] for n, a in nodes.items()}
    count = buckets_of(part)
    return Output(split(rows, node_bucket(rows["root"], count), count))


def _labels(part: str, rows: Arrays) -> Output:
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


def _edges(part: str, inputs: Inputs) -> Output:
    """(high, low, a, b, distance): near nodes a < b and the uid of their group, by bucket of the group."""
    pairs, labels = (stacked(inputs.select(PhaseFile, name)) for name in ("pairs", "labels"))
    order = np.argsort(labels["node"])
    at = order[np.searchsorted(labels["node"][order], pairs["a"])]
    edges = {"high": labels["high"][at], "low": labels["low"][at], **pairs}
    order = np.lexsort((edges["b"], edges["a"]))
    edges = {n: a[order] for n, a in edges.items()}
    value, times = np.unique(edges["distance"], return_counts=True)
    histogram = dict(zip(map(str, value.tolist()), times.tolist(), strict=True)) if len(value) <= 1000 else None
    count = buckets_of(part)
    into = bucket(edges["high"], edges["low"], count)
    return Output(split(edges, into, count), {"edges": len(order), "distances": histogram})


def _answers(inputs: Inputs) -> Output:
    """(place, high, low, size) of every sample that is not alone; high and low are the group's uid."""
    rows, labels = (stacked(inputs.select(PhaseFile, name)) for name in ("keys", "labels"))
    order = np.argsort(labels["node"])
    hit, at = find(labels["node"][order], rows["node"])
    at = order[at[hit]]
    answer = {"place": rows["place"][hit]} | {n: labels[n][at] for n in ("high", "low", "size")}
    return Output(by_span(answer, inputs, "keys"))
