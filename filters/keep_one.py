"""Keep one sample of each group of duplicates: the best by stated columns, decided among survivors.

    KeepOne(over="survivors", by="sha256", prefer=("clip_score desc",))
    KeepOne(over="survivors", by="phash64", distance=4)

Rules, for near duplicates (among equal ones they say the same):

- greedy: best first; a sample is kept unless a kept one is within the distance. Whatever is dropped has a kept near
  neighbour, and no two kept ones are near: chains of small steps do not vanish into one sample.
- component: one sample of each connected component of the near graph among survivors.

The graph is that of the samples asked: one that an earlier filter dropped neither keeps nor connects others. The order
is total: the columns of `prefer`, one after another, then the smallest uid; numbers with a fraction are compared after
rounding to 1e-4, and a missing value or NaN is worst either way. So shards, workers and their order change nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from filters.base import VERDICT, Bound, GlobalFilter, Margin
from filters.prefer import Prefer, columns, ranks
from stages.base import Barrier, Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns
from stages.components import component_labels
from stages.hash_groups import By, HashGroups
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

DUPLICATE = "duplicate"


class KeepOne(GlobalFilter):
    """Drop all but one of what `HashGroups` finds equal or near; reason "duplicate".

    Args:
        by, distance, min_quality: as in `stages.hash_groups.HashGroups`.
        rule: greedy or component; see above.
        prefer: which sample is best, each "<column> asc" or "<column> desc"; "a * b" is a product of columns.

    Verdicts also say, of what is dropped: `dup_of`, the uid of a kept sample, and `distance`, the bits between the
    two hashes (0 for equal keys).
    """

    by: By
    distance: int = Field(default=0, ge=0, le=10)
    min_quality: int | None = Field(default=None, ge=0, le=100)
    rule: Literal["greedy", "component"] = "greedy"
    prefer: Prefer = ("original_width * original_height desc",)

    @model_validator(mode="after")
    def _groups_exist(self) -> KeepOne:
        self.groups()
        return self

    def groups(self) -> HashGroups:
        """The barrier whose groups this filter thins."""
        if self.min_quality is None:
            return HashGroups(by=self.by, distance=self.distance)
        return HashGroups(by=self.by, distance=self.distance, min_quality=self.min_quality)

    def reads(self) -> tuple[str | Column, ...]:
        groups = self.groups()
        names = columns(self.prefer)
        names += ["phash64"] if self.distance else []
        return (Column(groups, groups.group), *dict.fromkeys(names))

    def barriers(self) -> tuple[Barrier, ...]:
        return (self.groups(),) if self.distance else ()

    def extra_verdicts(self) -> pa.Schema:
        return pa.schema([("dup_of", pa.binary(16)), ("distance", pa.int16())])

    def margins(self) -> tuple[Margin, ...]:
        """Bits between the hash of a sample and of the one that stayed for it; who stays has no such number."""
        beyond: Bound = (self.distance + 1.0, "above", f"distance {self.distance}")
        return (Margin("bits apart", "distance", (beyond,)),) if self.distance else ()

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape)
        touched = layout.from_shards("touched")
        if self.distance:
            near = ("edges", layout.bucket_parts, self.groups())
            decide = layout.by_bucket("decide", ("touched", layout.spans), near)
        else:
            decide = layout.by_bucket("decide", ("touched", layout.spans))
        return touched, decide, layout.gathered("gather", "decide"), layout.to_shards("verdict", "gather")

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "touched":
                return self._touched(part, inputs)
            case "decide":
                return self._decide(inputs)
            case "gather":
                return gather(part, inputs)
            case "verdict":
                return self._verdict(inputs)
        raise ValueError(f"KeepOne has no phase {phase!r}")

    # ---- the samples that take part: asked, and not alone in the pool

    def _touched(self, part: str, inputs: Inputs) -> Output:
        """(group_high, group_low, node, rank0.., high, low, place), bucketed by group as the barrier's edges are.

        Samples of one node are equal: it is the hash where hashes may differ, else there is one node a group.
        """
        found: list[Arrays] = []
        for shard, table in zip(inputs.keys, inputs, strict=True):
            assert isinstance(shard, ShardColumns)
            group = table.column(self.groups().group)
            mine = pc.and_(table.column("asked"), group.is_valid()).to_numpy()
            place = places(shard.shard, table.num_rows)[mine]
            table = table.filter(pa.array(mine))
            rows: Arrays = {}
            rows["group_high"], rows["group_low"] = halves(table.column(self.groups().group))
            hashes = table.column("phash64").to_numpy() if self.distance else np.zeros(len(place), np.uint64)
            rows["node"] = hashes
            rows |= ranks(self.prefer, table)
            rows["high"], rows["low"] = halves(table.column("uid"))
            rows["place"] = place
            found.append(rows)
        all_rows = joined(found)
        count = buckets_of(part)
        into = bucket(all_rows["group_high"], all_rows["group_low"], count)
        return Output(split(all_rows, into, count), {"touched": len(into)})

    # ---- the decision, group by group

    def _decide(self, inputs: Inputs) -> Output:
        """(place, dup_high, dup_low, distance) of what is dropped."""
        rows = stacked(inputs.select(PhaseFile, "touched"))
        best_first = (rows["low"], rows["high"], *(rows[f"rank{i}"] for i in reversed(range(len(self.prefer)))))
        order = np.lexsort((*best_first, rows["node"], rows["group_low"], rows["group_high"]))
        starts = starts_of(*(rows[n][order] for n in ("group_high", "group_low", "node")))
        node_of = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
        best = order[starts]  # the best sample of each node
        winner = np.arange(len(best))  # the node that each node yields to: itself where it stays
        if self.distance:
            rank_of = np.argsort(np.lexsort([key[best] for key in best_first]))
            winner = self._winners(rows["node"][best], rank_of, inputs.select(PhaseFile, "edges"))
        kept = best[winner[node_of]]
        gone = np.flatnonzero(order != kept)
        lost, kept = order[gone], kept[gone]
        dropped = {"place": rows["place"][lost], "dup_high": rows["high"][kept], "dup_low": rows["low"][kept]}
        dropped["distance"] = np.bitwise_count(rows["node"][lost] ^ rows["node"][kept]).astype(np.int16)
        return Output(by_span(dropped, inputs, "touched"), {"nodes": len(starts), "dropped": len(gone)})

    def _winners(self, nodes: np.ndarray, rank_of: np.ndarray, edges: Inputs) -> np.ndarray:
        """The node that each node yields to, from the edges between nodes that are there; itself where it is kept."""
        by_hash = np.argsort(nodes)
        near = stacked(edges)
        there, ends = np.ones(len(near["a"]), bool), []
        for side in ("a", "b"):
            hit, at = find(nodes[by_hash], near[side])
            there &= hit
            ends.append(at)
        i, j = (rank_of[by_hash[end[there]]] for end in ends)  # from here on a node is its rank: 0 is best
        choose = component_labels if self.rule == "component" else greedy
        winner = choose(len(nodes), i, j)
        return np.argsort(rank_of)[winner][rank_of]

    # ---- the answer

    def _verdict(self, inputs: Inputs) -> Output:
        asked = inputs.select(ShardColumns).only().column("asked").to_numpy()
        found = stacked(inputs.select(PhaseFile))
        at, rows = rows_of(found["place"]), len(asked)
        dropped = np.zeros(rows, bool)
        dropped[at] = True
        high, low, distance = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64), np.zeros(rows, np.int16)
        high[at], low[at], distance[at] = found["dup_high"], found["dup_low"], found["distance"]
        answer = [
            pa.array(~dropped, mask=~asked),
            pa.array(np.where(dropped, DUPLICATE, ""), pa.string(), mask=~dropped),
            uid_array(high, low, dropped),
            pa.array(distance, mask=~dropped),
        ]
        return Output(pa.table(answer, schema=pa.schema([*VERDICT, *self.extra_verdicts()])), {"dropped": len(at)})


def greedy(n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """int64 (n,): for nodes 0..n-1, best first, and edges i - j, the kept node that each yields to (itself if kept).

    A node is kept unless a better kept one is its neighbour; it yields to the best of those. Linear in n and edges.
    """
    winner = np.arange(n)
    better, worse = np.minimum(i, j), np.maximum(i, j)
    order = np.lexsort((worse, better))
    ends = np.searchsorted(better[order], np.arange(n + 1)).tolist()
    after, yields = worse[order].tolist(), winner.tolist()
    for node in np.unique(better).tolist():
        if yields[node] == node:
            for other in after[ends[node] : ends[node + 1]]:
                if yields[other] == other:
                    yields[other] = node
    return np.array(yields, np.int64)
