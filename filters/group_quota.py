"""So many samples of each cluster, the first by a rank: what `density_pruning` and `balanced_sample` have in common.

Clusters are counted over all spans of shards (`sizes`, a tree `add`), one part says how many each may keep (`quotas`),
and the rows travel to buckets of their cluster (`rows`), where those with the smallest (rank, uid) are taken.
Counts and sums are of whole numbers, so that no order or cut shows; memory holds a span of narrow rows, and the counts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from filters.base import MISSING, VERDICT, GlobalFilter, OnMissing
from filters.missing import refuse_missing
from stages.base import Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, tree
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
)

BEYOND = "over_quota"
TENTH = 1e4  # distances are whole numbers of ten-thousandths


class GroupQuota(GlobalFilter):
    """Keeps the first samples of each cluster; subclasses say how many, and which goes first. Reason "over_quota"."""

    on_missing: OnMissing = "error"

    @abstractmethod
    def level_columns(self) -> tuple[str, ...]:
        """Names of the columns of clusters, the finest first; the coarser ones hang on it."""

    @abstractmethod
    def distance_column(self) -> str | None:
        """Name of the column of distances to the centroid, where they are looked at."""

    @abstractmethod
    def rank(self, distance: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        """int64 (n,): which goes first, smallest first; `distance` in ten-thousandths."""

    @abstractmethod
    def quotas(self, sizes: Arrays, asked: int, more: Inputs) -> np.ndarray:
        """int64: how many samples each cluster gives.

        Args:
            sizes: level0, level1, ..., count and distance (the sum, in ten-thousandths), by level0.
            asked: rows asked, those without a cluster among them.
            more: among them the files of `quota_files`.
        """

    def needed(self) -> tuple[str, ...]:
        """Names of columns without which a row has no cluster, for messages."""
        distance = self.distance_column()
        return (*self.level_columns(), *([distance] if distance else []))

    def quota_files(self) -> tuple[PhaseFile, ...]:
        """What `quotas` reads beyond the sizes."""
        return ()

    def repeated(self) -> bool:
        """May a cluster be asked for more than it has? Then verdicts have `copies`."""
        return False

    def extra_verdicts(self) -> pa.Schema:
        return pa.schema([("copies", pa.int32())] if self.repeated() else [])

    # ---- phases

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape)
        add = tree("add", "sizes", layout.spans)
        chosen = layout.by_bucket("chosen", ("rows", layout.spans))
        quotas = PhaseFile("quotas", "all")
        files = (PhaseFile(add[-1].name, "all"), *self.quota_files())
        return (
            layout.from_shards("sizes"),
            *add,
            Phase("quotas", ("all",), lambda _: files),
            layout.from_shards("rows"),
            Phase("chosen", chosen.parts, lambda part: (*chosen.inputs(part), quotas), need=chosen.need),
            layout.gathered("gather", "chosen"),
            layout.to_shards("verdict", "gather"),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase.startswith("add-"):
            return Output(self._summed(list(inputs)))
        match phase:
            case "sizes":
                return Output(self._summed([self._sizes(table) for table in inputs]))
            case "quotas":
                return self._quotas(inputs)
            case "rows":
                return self._rows(part, inputs)
            case "chosen":
                return self._chosen(inputs)
            case "gather":
                return gather(part, inputs)
            case "verdict":
                return self._verdict(inputs)
        raise ValueError(f"{self.method()} has no phase {phase!r}")

    # ---- how many each cluster has, and may keep

    def _sizes(self, table: pa.Table) -> pa.Table:
        """(level0, ..., count, distance) of each cluster, and one row of -1 with the number of rows asked."""
        found = self._of_shard(table)
        asked = int(np.count_nonzero(table.column("asked").to_numpy()))
        names = self._names()
        rows = {n: np.append(found[n], -1) for n in names}
        ones = np.append(np.ones(len(found["distance"]), np.int64), asked)
        return pa.table({**rows, "count": ones, "distance": np.append(found["distance"], 0)})

    def _names(self) -> list[str]:
        return [f"level{i}" for i in range(len(self.level_columns()))]

    def _summed(self, tables: Sequence[pa.Table]) -> pa.Table:
        """Rows of one cluster as one, by cluster."""
        names = self._names()
        found = pa.concat_tables(tables).group_by(names).aggregate([("count", "sum"), ("distance", "sum")])
        found = found.select([*names, "count_sum", "distance_sum"]).rename_columns([*names, "count", "distance"])
        return found.sort_by([(n, "ascending") for n in names])

    def _quotas(self, inputs: Inputs) -> Output:
        """(cluster, quota), by cluster."""
        key = inputs.keys[0]
        assert isinstance(key, PhaseFile)
        sizes = stacked(inputs.select(PhaseFile, key.phase))
        asked = int(sizes["count"][sizes["level0"] == -1].sum())
        real = sizes["level0"] >= 0
        sizes = {n: a[real] for n, a in sizes.items()}
        again = sizes["level0"][1:] == sizes["level0"][:-1]
        if again.any():
            leaf, (finest, *coarser) = sizes["level0"][int(np.flatnonzero(again)[0])], self.level_columns()
            raise ValueError(
                f"{self.method()}: cluster {leaf} of {finest!r} lies in two clusters of "
                f"{' or '.join(map(repr, coarser))}; name levels from the finest to the coarsest of one stage"
            )
        quota = self.quotas(sizes, asked, inputs)
        stats = {"asked": asked, "clusters": len(quota), "kept": int(quota.sum())}
        return Output(pa.table({"cluster": sizes["level0"], "quota": quota}), stats)

    # ---- which ones they are

    def _of_shard(self, table: pa.Table, shard: int = 0) -> Arrays:
        """level0, ..., distance, high, low and place of the rows that are asked and have all of these."""
        asked = table.column("asked").to_numpy()
        columns = [table.column(n) for n in self.level_columns()]
        distance = self.distance_column()
        far = table.column(distance) if distance else None
        there = np.logical_and.reduce([c.is_valid().to_numpy() for c in [*columns, *([far] if far else [])]])
        if self.on_missing == "error":
            refuse_missing(self.method(), table, asked & ~there, ", ".join(map(repr, self.needed())))
        mine = asked & there
        rows: Arrays = {n: c.to_numpy()[mine].astype(np.int64) for n, c in zip(self._names(), columns, strict=True)}
        tenths = far.to_numpy()[mine].astype(np.float64) if far else np.zeros(mine.sum())
        rows["distance"] = np.rint(tenths * TENTH).astype(np.int64)
        rows["high"], rows["low"] = (half[mine] for half in halves(table.column("uid")))
        rows["place"] = places(shard, table.num_rows)[mine]
        return rows

    def _rows(self, part: str, inputs: Inputs) -> Output:
        """(cluster, rank, high, low, place) by cluster."""
        found = []
        for key, table in zip(inputs.keys, inputs, strict=True):
            assert isinstance(key, ShardColumns)
            rows = self._of_shard(table, key.shard)
            rank = self.rank(rows["distance"], rows["high"], rows["low"])
            found.append({"cluster": rows["level0"], "rank": rank} | {n: rows[n] for n in ("high", "low", "place")})
        all_rows = joined(found)
        cluster = all_rows["cluster"].astype(np.uint64)
        into = bucket(cluster, np.zeros_like(cluster), buckets_of(part))
        return Output(split(all_rows, into, buckets_of(part)), {"rows": len(into)})

    def _chosen(self, inputs: Inputs) -> Output:
        """(place, copies) of rows that have a cluster."""
        rows, quotas = (stacked(inputs.select(PhaseFile, name)) for name in ("rows", "quotas"))
        order = np.lexsort((rows["low"], rows["high"], rows["rank"], rows["cluster"]))
        cluster = rows["cluster"][order]
        starts = starts_of(cluster)
        size = np.diff(np.append(starts, len(order)))
        hit, at = find(quotas["cluster"], cluster[starts])
        assert hit.all()
        turn = np.arange(len(order)) - np.repeat(starts, size)
        quota = quotas["quota"][at]
        copies = np.repeat(quota // np.maximum(size, 1), size) + (turn < np.repeat(quota % np.maximum(size, 1), size))
        answer = {"place": rows["place"][order], "copies": copies.astype(np.int32)}
        return Output(by_span(answer, inputs, "rows"), {"kept": int(np.count_nonzero(copies))})

    def _verdict(self, inputs: Inputs) -> Output:
        asked = inputs.select(ShardColumns).only().column("asked").to_numpy()
        found = stacked(inputs.select(PhaseFile))
        at = rows_of(found["place"])
        there, copies = np.zeros(len(asked), bool), np.full(len(asked), self.on_missing == "keep", np.int32)
        there[at], copies[at] = True, found["copies"]
        keep = copies > 0
        columns = [
            pa.array(keep, mask=~asked),
            pa.array(np.where(there, BEYOND, MISSING), pa.string(), mask=keep | ~asked),
        ]
        columns += [pa.array(copies, mask=~(asked & keep))] if self.repeated() else []
        table = pa.table(columns, schema=pa.schema([*VERDICT, *self.extra_verdicts()]))
        return Output(table, {"kept": int(np.count_nonzero(keep & asked))})
