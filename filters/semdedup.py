"""Semantic duplicates: within clusters of pictures, drop what lies too near to one that comes before it.

    filters:
      - semdedup: {vectors: clip_image, clusters: {k: n/9000, spherical: true}, epsilon: 0.07, over: pool}
      - semdedup: {vectors: clip_image, clusters: {k: n/9000}, keep_rate: 0.5, semantics: reference, over: survivors}

SemDeDup (Abbas et al. 2023), followed as in facebookresearch/SemDeDup: rows of a cluster in the order of their cosine
distance to its centroid, farthest first ("keep hard"); row j has M_j = the largest cosine to an earlier row, and is
dropped if M_j > 1 - epsilon. Two semantics:

- greedy: earlier rows that were dropped do not count. Whatever is dropped has a kept near neighbour, as the paper says
  it: of each group of duplicates one is kept.
- reference: all earlier rows count, as in the code: of a chain A ~ B ~ C both B and C go, though A and C differ.

Differences: vectors are brought to length one; cosines are compared after rounding to 1e-6, so that epsilon 0 drops
nothing; equal distances (they are rounded to 1e-4) are ordered by uid. The clusters are of the whole pool, whoever is
asked; a filter with two of them (a `union`) tells them apart by name: `clusters: {k: ..., name: fine}`. The published
epsilons (.03 to .26) hold for their encoder only: calibrate by keep_rate. That half of LAION-440M
goes at no loss is [M]. No weights are needed. A cluster is compared by one worker, which reads its rows from files in
chunks where memory does not hold them; that takes time with the square of their number: for pools of many millions
choose k so that clusters stay below some 100,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from filters.base import MISSING, VERDICT, GlobalFilter, Margin, OnMissing
from filters.missing import refuse_missing
from filters.near_rows import Chunks, bound_of, nearest_earlier, nearest_kept
from stages.base import Column, Inputs, Need, Output, Phase, PhaseFile, Shape, ShardColumns, Source, tree
from stages.draws import hash64_halves
from stages.kmeans import Clusters, KMeans
from stages.near_vector_rows import VectorRows, batches, packed
from stages.near_vector_tiles import UNIT
from stages.shuffle import (
    Arrays,
    Layout,
    bucket,
    buckets_of,
    by_span,
    gather,
    halves,
    places,
    rows_of,
    starts_of,
    uid_array,
)
from stages.vectors import ROWS, joined, split_table, stored

DUPLICATE = "semantic_duplicate"
STEP = UNIT // 10_000  # epsilons that keep_rate chooses among: multiples of 1e-4


class SemDeDup(GlobalFilter):
    """Drop near duplicates within clusters; reason "semantic_duplicate".

    Args:
        vectors: column of vectors.
        clusters: parameters of `kmeans`.
        epsilon: what is nearer than this, as 1 - cosine, is a duplicate.
        keep_rate: instead: the largest epsilon, in steps of 1e-4, that keeps at least this share of the rows that are
            compared. With `semantics: reference`, whose M_j hang on no epsilon.
        order: which of duplicates stays: hard (farthest from the centroid), easy (nearest), or random.
        semantics: greedy or reference; see above.
        seed: of `order: random`.
        on_missing: what becomes of rows without a vector: drop (reason "missing"), keep, or error.

    Verdicts also say `similarity`, M_j, and of what is dropped `dup_of`, the uid of the row that it was too near to.
    Footers of the phase `epsilon` have the one that keep_rate chose.

    Raises:
        ValueError: neither or both of epsilon and keep_rate; a row without a vector and on_missing: error.
    """

    vectors: Source
    clusters: Clusters
    epsilon: float | None = Field(default=None, ge=0, le=2)
    keep_rate: float | None = Field(default=None, gt=0, le=1)
    order: Literal["hard", "easy", "random"] = "hard"
    semantics: Literal["greedy", "reference"] = "greedy"
    seed: int = 0
    on_missing: OnMissing = "error"

    @model_validator(mode="after")
    def _one_bound(self) -> SemDeDup:
        if (self.epsilon is None) == (self.keep_rate is None):
            raise ValueError("give epsilon or keep_rate")
        if self.keep_rate is not None and self.semantics == "greedy":
            raise ValueError("keep_rate goes with `semantics: reference`; or give an epsilon")
        return self

    @classmethod
    def method(cls) -> str:
        return "semdedup"

    def kmeans(self) -> KMeans:
        return self.clusters.of(self.vectors)

    def reads(self) -> tuple[str | Column, ...]:
        return (self.vectors, self.kmeans().column("cluster"), self.kmeans().column("distance"))

    def extra_verdicts(self) -> pa.Schema:
        return pa.schema([("similarity", pa.float32()), ("dup_of", pa.binary(16))])

    def margins(self) -> tuple[Margin, ...]:
        if self.epsilon is None:
            return (Margin("similarity", "similarity", cut=("below", f"keep_rate {self.keep_rate:g}")),)
        return (Margin("similarity", "similarity", ((1 - self.epsilon, "below", f"epsilon {self.epsilon:g}"),)),)

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape, ROWS)
        nearest = layout.by_bucket("nearest", ("packed", layout.spans))
        verdict = layout.to_shards("verdict", "gather")
        need = Need(memory_gb=2, deadline_s=86_400)
        head = (layout.from_shards("packed"), Phase("nearest", nearest.parts, nearest.inputs, need=need))
        if self.keep_rate is None:
            return (*head, layout.gathered("gather", "nearest"), verdict)
        levels = Phase("levels", layout.bucket_parts, lambda part: (PhaseFile("nearest", part),))
        add = tree("add", "levels", layout.bucket_parts)
        chosen = PhaseFile("epsilon", "all")
        return (
            *head, levels, *add,
            Phase("epsilon", ("all",), lambda _: (PhaseFile(add[-1].name, "all"),)),
            layout.gathered("gather", "nearest"),
            Phase(verdict.name, verdict.parts, lambda part: (*verdict.inputs(part), chosen)),
        )  # fmt: skip

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase.startswith("add-"):
            return _added(inputs)
        match phase:
            case "packed":
                return self._rows(part, inputs)
            case "nearest":
                return self._nearest(inputs)
            case "levels":
                return _levels(inputs.only())
            case "epsilon":
                return self._chosen(inputs.only())
            case "gather":
                return gather(part, inputs)
            case "verdict":
                return self._verdict(inputs)
        raise ValueError(f"SemDeDup has no phase {phase!r}")

    # ---- rows to their clusters

    def _rows(self, part: str, inputs: Inputs) -> Output:
        """(cluster, rank, high, low, place, vector_*) of rows that are asked and have a vector, by cluster."""
        table = joined(self._of_shard(key, table) for key, table in zip(inputs.keys, inputs, strict=True))
        cluster = table.column("cluster").to_numpy().astype(np.uint64)
        into = bucket(cluster, np.zeros_like(cluster), buckets_of(part))
        return Output(split_table(table, into, buckets_of(part)), {"compared": table.num_rows})

    def _of_shard(self, shard: object, table: pa.Table) -> pa.Table:
        assert isinstance(shard, ShardColumns)
        asked = table.column("asked").to_numpy()
        x, there = stored(table, self.vectors.field)
        if self.on_missing == "error":
            refuse_missing("semdedup", table, asked & ~there, repr(self.vectors.field))
        mine = asked & there
        high, low = (half[mine] for half in halves(table.column("uid")))
        cluster, distance = (
            table.column(self.kmeans().column(n).field).to_numpy()[mine] for n in ("cluster", "distance")
        )
        tenth = np.rint(distance.astype(np.float64) * 1e4).astype(np.int64)
        rank = {"hard": -tenth, "easy": tenth}.get(self.order)
        if rank is None:
            rank = (hash64_halves(self.seed, "semdedup", high, low) >> np.uint64(1)).astype(np.int64)
        rows = {"cluster": cluster.astype(np.int32), "rank": rank, "high": high, "low": low}
        rows |= {"place": places(shard.shard, table.num_rows)[mine]}
        return pa.table({**rows, **packed(x[mine])})

    # ---- cluster by cluster

    def _nearest(self, inputs: Inputs) -> Output:
        """(place, level, high, low): of each row, M_j in millionths (-UNIT: it is the first), and the uid it is of."""
        found = VectorRows(inputs)
        order = np.lexsort([found.known[n] for n in ("low", "high", "rank", "cluster")])
        rows: Arrays = {n: a[order] for n, a in found.known.items()}
        level, at = np.full(len(order), -UNIT), np.arange(len(order))
        starts = starts_of(rows["cluster"])
        for start, chunks in self._clusters(found, order, [*starts.tolist(), len(order)]):
            here = slice(start, start + chunks.count)
            level[here], near = self._within(chunks)
            at[here] = start + near
        answer = {"place": rows["place"], "level": level, "high": rows["high"][at], "low": rows["low"][at]}
        return Output(by_span(answer, inputs, "packed"), {"clusters": len(starts)})

    @staticmethod
    def _clusters(found: VectorRows, order: np.ndarray, cuts: list[int]) -> Iterator[tuple[int, Chunks]]:
        """(first row, vectors) of each cluster: several loaded together, or one in chunks of what memory holds."""
        limit = found.at_once()
        for first, end in batches(np.diff(cuts), limit):
            begin = cuts[first]
            if cuts[end] - begin > limit:
                load = lambda a, b, begin=begin: found.take(order[begin + a : begin + b])  # noqa: E731
                yield begin, Chunks(cuts[end] - begin, max(limit // 2, 1), load)
                continue
            x = found.take(order[begin : cuts[end]])
            for start, stop in pairwise(cuts[first : end + 1]):
                mine = x[start - begin : stop - begin]
                yield start, Chunks(len(mine), max(len(mine), 1), lambda a, b, mine=mine: mine[a:b])  # type: ignore[misc]

    def _within(self, x: Chunks) -> tuple[np.ndarray, np.ndarray]:
        if self.epsilon is None or self.semantics == "reference":
            return nearest_earlier(x)
        return nearest_kept(x, bound_of(self.epsilon))

    # ---- the answer

    def _chosen(self, levels: pa.Table) -> Output:
        """(bound): what is above it is dropped."""
        assert self.keep_rate is not None
        level, rows = (levels.column(n).to_numpy() for n in ("level", "rows"))
        bounds = UNIT - STEP * np.arange(2 * UNIT // STEP, -1, -1)  # from the largest epsilon to 0
        kept = np.append(0, np.cumsum(rows))[np.searchsorted(level, bounds, side="right")]
        enough = np.flatnonzero(kept >= self.keep_rate * rows.sum())
        at = int(enough[0])
        stats = {"epsilon": round(1 - int(bounds[at]) / UNIT, 4), "kept": int(kept[at]), "compared": int(rows.sum())}
        return Output(pa.table({"bound": [int(bounds[at])]}), stats)

    def _verdict(self, inputs: Inputs) -> Output:
        asked = inputs.select(ShardColumns).only().column("asked").to_numpy()
        found = inputs.select(PhaseFile, "gather").only()
        bound = bound_of(self.epsilon) if self.epsilon is not None else None
        if bound is None:
            bound = inputs.select(PhaseFile, "epsilon").only().column("bound")[0].as_py()
        at, rows = rows_of(found.column("place").to_numpy()), len(asked)
        compared, level = np.zeros(rows, bool), np.full(rows, -UNIT)
        compared[at], level[at] = True, found.column("level").to_numpy()
        high, low = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64)
        high[at], low[at] = found.column("high").to_numpy(), found.column("low").to_numpy()
        dropped = compared & (level > bound)
        keep = np.where(compared, ~dropped, self.on_missing == "keep")
        reason = np.where(compared, DUPLICATE, MISSING)
        columns = [
            pa.array(keep, mask=~asked),
            pa.array(reason, pa.string(), mask=keep | ~asked),
            pa.array(level / UNIT, pa.float32(), mask=~compared | (level == -UNIT)),
            uid_array(high, low, dropped),
        ]
        stats = {"dropped": int(dropped.sum()), "compared": len(at)}
        return Output(pa.table(columns, schema=pa.schema([*VERDICT, *self.extra_verdicts()])), stats)


def _levels(nearest: pa.Table) -> Output:
    """(level, rows), by level."""
    level, rows = np.unique(nearest.column("level").to_numpy(), return_counts=True)
    return Output(pa.table({"level": level, "rows": rows}))


def _added(inputs: Inputs) -> Output:
    table = pa.concat_tables(list(inputs)).group_by("level").aggregate([("rows", "sum")]).sort_by("level")
    return Output(pa.table({"level": table.column("level"), "rows": table.column("rows_sum")}))
