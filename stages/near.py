"""Groups of near samples: what barriers that find near pairs have in common, whatever "near" means to them.

    class NearHashes(Near):
        ...                       # its own phases write `nodes` a shard and, at the end, `pairs`; the rest is here

A *node* is what a sample is compared by, as 64 bits: samples of one node are equal (distance 0), and nodes may be near.
A 64-bit hash is its own node; of longer hashes and of vectors it is a 64-bit hash of the bytes, which for a billion
different ones gives one false pair in a pool with a chance of 3 %. The phases, in order:

    nodes     local, a part a shard: (node, high, low), row-aligned; node is null where the sample takes part in nothing
    ...       the barrier's own way from nodes to pairs
    pairs     (a, b, distance), nodes a < b, distance int64 in units of `scale`; tables a bucket of a
    keys, [named,] unique, forest-* or (links, numbers, joins, forest), members, labels, edges, answers, gather, groups
                        here

`edges` is what keep rules read: a part a bucket of pairs, a table a bucket of groups with (high, low, a, b, distance),
where (high, low) is the group, the smallest uid of the component. Components: `stages.near_forest`.

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
)
from stages.near_forest import forest, forest_phases, joins, links, node_bucket, numbered_forest, numbers, root_files
from stages.near_steps import (
    NODES,
    answers,
    digest64,
    edges,
    key_rows,
    labels,
    members,
    named,
    pairs_output,
    put,
    unique,
)
from stages.shuffle import (
    Layout,
    gather,
    halves,
    rows_of,
    stacked,
    uid_array,
)

EDGES = "edges"
__all__ = ["EDGES", "NODES", "Near", "digest64", "keys_phase", "node_bucket", "pairs_output", "unique"]


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

    def closing(
        self, layout: Layout, pairs: Sequence[str], *, keyed: bool = False, renamed: Sequence[str] = ()
    ) -> tuple[Phase, ...]:
        """The phases after `pairs`, whose parts these are; `layout` is stamped.

        Args:
            keyed: `keys_phase` was among the phases before.
            renamed: parts of a phase `aliases`, a table a bucket of the node with (node, canonical): nodes that go by
                the name of another one from here on.
        """
        buckets = layout.bucket_parts
        spans, rows = ("keys", layout.spans), ("named", buckets) if renamed else ("keys", layout.spans)
        answered = dict.fromkeys((spans, rows, ("labels", buckets)))  # of `keys` the answers look at the names of spans
        return (
            *(() if keyed else (keys_phase(layout),)),
            *((layout.by_bucket("named", spans, ("aliases", renamed)),) if renamed else ()),
            layout.by_bucket("unique", rows),
            *forest_phases(layout, pairs),
            Phase("members", buckets, lambda b: (PhaseFile("unique", b), *root_files(layout, pairs, b))),
            layout.by_bucket("labels", ("members", buckets)),
            layout.by_bucket(EDGES, ("pairs", list(pairs)), ("labels", buckets)),
            layout.by_bucket("answers", *answered),
            layout.gathered("gather", "answers"),
            _groups(layout),
        )

    def close(self, phase: str, part: str, inputs: Inputs) -> Output | None:
        """The work of `nodes` and of the phases of `closing`; None where the phase is none of them."""
        if phase.startswith("forest-"):
            return forest(part, inputs)
        match phase:
            case "nodes":
                return self._nodes(inputs)
            case "keys":
                return key_rows(part, inputs)
            case "named":
                return named(part, inputs)
            case "unique":
                return unique(stacked(inputs))
            case "links":
                return links(part, inputs)
            case "numbers":
                return numbers(part, inputs)
            case "joins":
                return joins(part, inputs)
            case "forest":
                return numbered_forest(part, inputs)
            case "members":
                return members(part, inputs)
            case "labels":
                return labels(part, stacked(inputs))
            case "edges":
                return edges(part, inputs)
            case "answers":
                return answers(inputs)
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
        if "node" in found:  # by the name that counts
            node = pa.array(put(node.fill_null(0).to_numpy(), at, found["node"]), mask=node.is_null().to_numpy())
        columns = [uid_array(high, low, together), pa.array(size), node]
        return Output(pa.table(columns, schema=self.writes()), {"grouped": len(at)})


# ---------------------------------------------------------------- phases


def keys_phase(layout: Layout) -> Phase:
    """`keys`: a part a span, reading the nodes of its shards; (node, high, low, place) by bucket of the node."""
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
