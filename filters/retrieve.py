"""Keep what looks like pictures that one wants: retrieval from the pool by query sets, as LVD-142M was made.

    filters:
      - retrieve:
          vectors: dinov2_image
          queries:
            - {name: imagenet22k, path: given/imagenet22k.parquet, column: dinov2_image, nearest: 4}
            - {name: flowers, path: given/flowers.npy}                       # by clusters
          clusters: {k: 100000, spherical: true}
          over: survivors

DINOv2 (Oquab et al. 2023), appendix A, followed as the paper tells it; its code was not released [D]. Two ways:

- sample-based, for sets of more than a million pictures: the k nearest of each query, k 4 (32 for a part of
  ImageNet-22k that the set is to be made of);
- cluster-based, for small sets: the pool is cut into 100,000 clusters, and each that more than 3 queries are nearest to
  gives 10,000 samples, at most a million a set.

What any set takes is kept. The k nearest are found exactly, by cosine in whole millionths, of equal ones the smaller
uid; the paper searched with an index that finds most. Samples of a cluster, and those of a set that is over its
million, are drawn by uid: how the paper chose is not said. Clusters are made of what the filter is asked about
(`stages.kmeans_training`): of the deduplicated pool, where it stands below the deduplication. No weights are needed but
those of the stage that made the vectors; vectors of the queries must be of the same model. A pool of the query pictures
gives them: `curate sql <its pool> "SELECT uid, dinov2_image FROM samples" --format parquet > queries.parquet`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from filters.base import MISSING, VERDICT, GlobalFilter, OnMissing
from filters.measured import MEASURED, cluster
from filters.missing import refuse_missing
from filters.retrieve_clusters import hit_clusters, members, nothing, same_dim, smallest, thinned
from filters.retrieve_phases import block_of, phases
from filters.retrieve_sets import QuerySet
from stages.base import Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, Source
from stages.best_rows import first_of, folded, ranks
from stages.kmeans_training import Training, centroids
from stages.nearest_rows import UNIT, KBest, NearestRows
from stages.shuffle import (
    Arrays,
    arrays,
    bucket,
    buckets_of,
    by_span,
    first_shard,
    halves,
    joined,
    places,
    rows_of,
    split,
)
from stages.vectors import Device, unit

ORDER = ("set", "rank", "query")  # what decides which of several retrievals a verdict tells

NOT_RETRIEVED = "not_retrieved"


class Retrieve(GlobalFilter):
    """Keep what the sets retrieve among the rows asked; reason "not_retrieved".

    Args:
        vectors: column of vectors.
        queries: sets of query vectors by the same model; rows that are null, zeros or not finite ask for nothing, and
            footers count them (`without_vector`).
        clusters: parameters of k-means over the rows asked, for sets without `nearest`.
        seed: of the draws.
        device: cuda searches on a GPU, with torch; the answer is the same one.
        on_missing: what becomes of rows without a vector: drop (reason "missing"), keep, or error.

    Verdicts also say, of what is retrieved: `query_set`, the first of the sets that take it; `rank`, from 1: its place
    among the nearest of a query, or among the samples of its cluster; and of the nearest `query`, the row in the set's
    file, and `similarity`, the cosine. Of several queries of the set, that with the best rank, then the first.

    Raises:
        ValueError: sets of one name; sets by clusters and no `clusters`; a set's file is not there, or is of another
            model; a row without a vector and on_missing: error.
    """

    vectors: Source
    queries: tuple[QuerySet, ...] = Field(min_length=1)
    clusters: Training | None = None
    seed: int = 0
    device: Device = Field(default="cpu", exclude=True)
    on_missing: OnMissing = "error"

    @model_validator(mode="after")
    def _fits(self) -> Retrieve:
        names = [chosen.name for chosen in self.queries]
        if len(set(names)) < len(names):
            raise ValueError(f"queries: two sets are named {max(names, key=names.count)!r}")
        if self._by_clusters() and self.clusters is None:
            raise ValueError(f"queries {self._by_clusters()[0][1].name}: say `nearest:`, or give `clusters:`")
        if self.clusters is not None and not self._by_clusters():
            raise ValueError("clusters: no set asks for them; all say `nearest:`")
        return self

    def files(self) -> tuple[str, ...]:
        return tuple(chosen.file().checked() for chosen in self.queries)

    def reads(self) -> tuple[str | Column, ...]:
        return (self.vectors,)

    def extra_verdicts(self) -> pa.Schema:
        fields = [("query_set", pa.string()), ("rank", pa.int32()), ("query", pa.int64())]
        return pa.schema([*fields, ("similarity", pa.float32())])

    def _by_nearest(self) -> list[tuple[int, QuerySet]]:
        return [(i, chosen) for i, chosen in enumerate(self.queries) if chosen.nearest is not None]

    def _by_clusters(self) -> list[tuple[int, QuerySet]]:
        return [(i, chosen) for i, chosen in enumerate(self.queries) if chosen.nearest is None]

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        gpus = 1 if self.device == "cuda" else 0
        return phases(shape, self._by_nearest(), self._by_clusters(), self.clusters, gpus)

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "nearest":
                return self._nearest(part, inputs)
            case "best":
                return self._best(part, inputs)
            case "hits":
                chosen = self.queries[int(part)]
                assert self.clusters is not None
                found, lacking = hit_clusters(chosen, centroids(inputs.only()), self.clusters)
                return Output(found, {"set": chosen.name, "clusters": found.num_rows, "without_vector": lacking})
            case "drawn":
                return self._drawn(part, inputs)
            case "picked":
                return self._picked(inputs)
            case "limit":
                return self._limit(part, inputs)
            case "gather":
                return _gathered(part, inputs)
            case "verdict":
                return self._verdict(inputs)
        done = None if self.clusters is None else cluster(self.clusters, phase, inputs, self.vectors.field)
        if done is None:
            raise ValueError(f"Retrieve has no phase {phase!r}")
        return done

    # ---- the nearest of each query

    def _block(self, part: str) -> tuple[QuerySet, int, int]:
        """(the set, and from which of its queries to which) of a block of queries: what the part's name ends in."""
        number, at = (int(n) for n in part.split("-")[-2:])
        chosen = self.queries[number]
        start = at * block_of(chosen)
        return chosen, start, min(start + block_of(chosen), chosen.file().shape[0])

    def _nearest(self, part: str, inputs: Inputs) -> Output:
        chosen, start, stop = self._block(part)
        number, queries = chosen.file().rows(start, stop)
        search = NearestRows(queries, chosen.nearest or 0, self.device)
        seen = 0
        for shard, table in zip(inputs.keys, inputs, strict=True):
            assert isinstance(shard, ShardColumns)
            x, mine = self._asked(table)
            same_dim(chosen, x.shape[1] if mine.any() else 0)
            high, low = (half[mine] for half in halves(table.column("uid")))
            search.among(x[mine], high, low, places(shard.shard, len(mine))[mine])
            seen += int(mine.sum())
        found = search.table()
        at = pa.array(number[found.column("query").to_numpy()] - start)  # within the block, as the file counts
        stats = {"set": chosen.name, "compared": seen, "without_vector": stop - start - len(number)}
        return Output(found.set_column(0, "query", at), stats)

    def _asked(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """(vectors, bool (rows,): who is asked and has one)."""
        x, there = unit(table.column(self.vectors.field), "retrieve")
        asked = table.column("asked").to_numpy()
        if self.on_missing == "error":
            refuse_missing("retrieve", table, asked & ~there, repr(self.vectors.field))
        return x, asked & there

    def _best(self, part: str, inputs: Inputs) -> Output:
        """(place, set, rank, query, level) of the k nearest of each query, each place once, by span."""
        chosen, start, stop = self._block(part)
        best = KBest(stop - start, chosen.nearest or 0)
        for table in inputs:
            best.merge(table)
        found = arrays(best.table())
        number = np.full(len(found["query"]), self.queries.index(chosen))
        rows = {"place": found["place"], "set": number, "rank": found["rank"], "query": found["query"] + start}
        rows = _once(rows | {"level": found["level"]})
        stats = {"set": chosen.name, "queries": stop - start, "retrieved": len(rows["place"])}
        return Output(by_span(rows, inputs, "nearest"), stats)

    # ---- samples of clusters

    def _drawn(self, part: str, inputs: Inputs) -> Output:
        sets = self._by_clusters()
        hit = [table.column("cluster").to_numpy() for table in inputs.select(PhaseFile, "hits")]
        measured = inputs.select(PhaseFile, MEASURED)
        found = [nothing()]
        for key, table in zip(measured.keys, measured, strict=True):
            assert isinstance(key, PhaseFile)
            found.append(members(table, int(key.part), sets, hit, self.seed))
        rows = thinned(joined(found), sets)
        count = buckets_of(part)
        into = bucket(rows["set"].astype(np.uint64), rows["cluster"].astype(np.uint64), count)
        return Output(split(rows, into, count), {"rows": len(into)})

    def _picked(self, inputs: Inputs) -> Output:
        """`drawn` rows with their rank in their cluster, a table a set."""
        sets = self._by_clusters()
        rows = folded(map(arrays, inputs), lambda some: thinned(some, sets))
        rows["rank"] = ranks(rows["set"], rows["cluster"]) + 1
        index = np.searchsorted([number for number, _ in sets], rows["set"])
        return Output(split(rows, index, len(sets)), {"rows": len(index)})

    def _limit(self, part: str, inputs: Inputs) -> Output:
        """(place, set, rank, query, level) of what the set takes, by span."""
        chosen = self.queries[int(part)]
        rows = folded(map(arrays, inputs.select(PhaseFile, "picked")), lambda some: smallest(some, chosen.most))
        none = np.full(len(rows["place"]), -1)
        found = {"place": rows["place"], "set": rows["set"], "rank": rows["rank"], "query": none, "level": none}
        return Output(by_span(found, inputs, "drawn"), {"set": chosen.name, "retrieved": len(none)})

    # ---- the answer

    def _verdict(self, inputs: Inputs) -> Output:
        table = inputs.select(ShardColumns).only()
        asked = table.column("asked").to_numpy()
        _, compared = self._asked(table)
        found = arrays(inputs.select(PhaseFile, "gather").only())
        at = rows_of(found["place"])
        taken = np.zeros(len(asked), bool)
        taken[at] = True
        keep = np.where(compared, taken, self.on_missing == "keep")
        reason = np.where(compared, NOT_RETRIEVED, MISSING)
        names = np.array([chosen.name for chosen in self.queries], object)
        columns = [
            pa.array(keep, mask=~asked),
            pa.array(reason, pa.string(), mask=keep | ~asked),
            pa.array(_at(names[found["set"]], at, len(asked)), pa.string(), mask=~taken),
            pa.array(_at(found["rank"], at, len(asked)), pa.int32(), mask=~taken),
        ]
        queried = _at(found["query"] >= 0, at, len(asked)).astype(bool)
        columns.append(pa.array(_at(found["query"], at, len(asked)), pa.int64(), mask=~queried))
        columns.append(pa.array(_at(found["level"] / UNIT, at, len(asked)), pa.float32(), mask=~queried))
        counts = {name: int((found["set"] == i).sum()) for i, name in enumerate(names)}
        stats = {"retrieved": int(taken.sum()), "asked": int(asked.sum()), "sets": counts}
        return Output(pa.table(columns, schema=pa.schema([*VERDICT, *self.extra_verdicts()])), stats)


def _gathered(part: str, inputs: Inputs) -> Output:
    """Each place once, by shard of the span."""
    best = folded(map(arrays, inputs), _once)
    first, last = first_shard(part), int(part.split("-")[1])
    shard = (best["place"] >> np.uint64(32)).astype(np.int64) - first
    return Output(split(best, shard, last - first + 1))


def _once(rows: Arrays) -> Arrays:
    return first_of(rows, "place", ORDER)


def _at(values: np.ndarray, at: np.ndarray, rows: int) -> np.ndarray:
    """Values at their rows; what stands elsewhere means nothing."""
    out = np.zeros(rows, values.dtype)
    out[at] = values
    return out
