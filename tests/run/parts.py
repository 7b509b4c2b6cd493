"""Stages, barriers and filters of a user, outside the project's packages: the walls take them as they are."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import GlobalFilter, RowFilter, sql_number
from stages.base import (
    IMAGE,
    TEXT,
    UID,
    Barrier,
    Batch,
    Column,
    Inputs,
    Need,
    Output,
    Phase,
    PhaseFile,
    Shape,
    Stage,
    per_shard,
    tree,
)


class Brightness(Stage):
    """Mean of the pixels."""

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return pa.schema([("brightness", pa.float32())])

    def run(self, batch: Batch) -> pa.Table:
        means = [None if im is None else float(im.mean()) for im in batch.images()]
        return pa.table({"brightness": pa.array(means, pa.float32()), "error": pa.array(batch.image_errors())})


class BrighterBrightness(Brightness):
    """The same stage in a new version."""

    version: ClassVar[int] = 2


class Doubled(Stage):
    """Reads what another stage wrote; runs where there is a GPU if asked to."""

    gpus: float = 0
    of: Brightness = Brightness()

    def reads(self) -> tuple[Column, ...]:
        return (Column(self.of, "brightness"),)

    def writes(self) -> pa.Schema:
        return pa.schema([("doubled", pa.float32())])

    def need(self) -> Need:
        return Need(cpus=0.5, gpus=self.gpus, memory_gb=0.2)

    def run(self, batch: Batch) -> pa.Table:
        return pa.table({"doubled": pc.multiply(batch[Column(self.of, "brightness")], pa.scalar(2, pa.float32()))})


class Captioner(Stage):
    """A sparse stage: asked about survivors only."""

    sparse: ClassVar[bool] = True
    prefix: str = "a photo: "

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE, TEXT)

    def writes(self) -> pa.Schema:
        return pa.schema([("caption", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        return pa.table({"caption": pa.array([f"{self.prefix}{t}" for t in batch[TEXT].to_pylist()], pa.string())})


class RankOfAll(Barrier):
    """Rank of each sample's brightness in the whole pool, by a tree of merges."""

    of: Brightness = Brightness()

    def reads(self) -> tuple[Column, ...]:
        return (Column(self.of, "brightness"),)

    def writes(self) -> pa.Schema:
        return pa.schema([("rank", pa.int64())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        values = per_shard("values", shape, local=True)
        merges = tree("merge", "values", list(values.parts), fan_in=2)  # type: ignore[arg-type]
        return (values, *merges, per_shard("ranks", shape, (PhaseFile(merges[-1].name, "all"),)))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase == "values":
            table = inputs.only()
            return Output(pa.table({"v": table["brightness"], "uid": table["uid"]}))
        if phase.startswith("merge"):
            merged = pa.concat_tables(list(inputs)).sort_by([("v", "ascending"), ("uid", "ascending")])
            return Output(merged, {"rows": merged.num_rows})
        own, everything = list(inputs)
        place = pc.index_in(own["uid"], value_set=everything["uid"].combine_chunks())
        return Output(pa.table({"rank": pc.cast(place, pa.int64())}))


class TextLength(Barrier):
    """A third barrier: pool-wide share of samples whose text is at most as long as this one's, bucketed."""

    buckets: int = 3

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([("share", pa.float64())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        scatter = per_shard("scatter", shape, local=True)
        sources = list(scatter.parts)  # type: ignore[arg-type]
        parts = [f"{b:08d}" for b in range(self.buckets)]
        gather = Phase("gather", parts, lambda p: [PhaseFile("scatter", s, int(p)) for s in sources])
        return (scatter, gather, per_shard("share", shape, [PhaseFile("gather", p) for p in parts]))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase == "scatter":
            lengths = pc.utf8_length(inputs.only()["text"]).to_numpy()
            return Output([pa.table({"n": lengths[lengths % self.buckets == b]}) for b in range(self.buckets)])
        if phase == "gather":
            values = np.concatenate([t["n"].to_numpy() for t in inputs])
            found, counts = np.unique(values, return_counts=True)
            return Output(pa.table({"n": found, "count": counts}), {"distinct": len(found)})
        own, *rest = list(inputs)
        counted = pa.concat_tables(rest).sort_by("n")
        cumulated = np.cumsum(counted["count"].to_numpy())
        at = np.searchsorted(counted["n"].to_numpy(), pc.utf8_length(own["text"]).to_numpy())
        return Output(pa.table({"share": cumulated[at] / cumulated[-1]}))


class Brighter(RowFilter):
    """Keep what is brighter than a bound."""

    than: float
    of: Brightness = Brightness()

    def reads(self) -> tuple[str | Column, ...]:
        return (Column(self.of, "brightness"),)

    def rules(self) -> dict[str, str]:
        return {"dark": f"brightness > {sql_number(self.than)}"}


class EveryOther(GlobalFilter):
    """Keep every other asked sample of the pool, in order of uid."""

    def reads(self) -> tuple[str | Column, ...]:
        return (UID,)

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        uids = per_shard("uids", shape)
        merges = tree("all", "uids", list(uids.parts))  # type: ignore[arg-type]
        return (uids, *merges, per_shard("verdict", shape, (PhaseFile(merges[-1].name, "all"),)))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase == "uids":
            table = inputs.only()
            return Output(table.filter(table["asked"]).select(["uid"]))
        if phase.startswith("all"):
            return Output(pa.concat_tables(list(inputs)).sort_by("uid"))
        own, everything = list(inputs)
        place = pc.index_in(own["uid"], value_set=everything["uid"].combine_chunks()).to_pylist()
        keep = [None if p is None else p % 2 == 0 for p in place]
        reason = ["odd" if k is False else None for k in keep]
        return Output(pa.table({"keep": pa.array(keep, pa.bool_()), "reason": pa.array(reason, pa.string())}))
