"""Of clusters of pictures, keep what lies far from their centres (or near): pruning by prototypicality.

    filters:
      - semdedup: {vectors: clip_image, clusters: {k: n/9000}, keep_rate: 0.75, semantics: reference, over: pool}
      - prototypes: {vectors: clip_image, k: 11000, fraction: 0.2667, spherical: true, over: survivors}      # D4

SSP (Sorscher et al. 2022): k-means over the vectors, rows ranked by the distance to their nearest centroid, the nearest
(most prototypical) ones dropped. D4 (Tirumala et al. 2023) [M]: SemDeDup first, then clusters *made anew of what is
left*, then SSP: clusters that duplicates made would dominate otherwise. So this filter clusters those that it is asked
about, by itself. The ranking is over all clusters, by cosine distance to the raw centroid (L2 where both are of length
one), rounded to 1e-4; equal ones go by uid. Easy examples instead, for small budgets: `drop: farthest`. No weights are
needed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from filters.base import Margin, OnMissing
from filters.measured import MEASURED, as_shards, cluster, clustering, from_measured
from filters.ranked import Ranked
from stages.base import Inputs, Output, Phase, PhaseFile, Shape
from stages.kmeans_training import Training

SIGN = np.uint64(1 << 63)


class Prototypes(Training, Ranked):
    """Keep int(fraction * n) of the n rows asked; reason "near_centroid" or "far_from_centroid".

    Args:
        vectors: plain name of a column of vectors.
        fraction: above 0, at most 1.
        drop: nearest (keep the hard ones), or farthest.
        on_missing: what becomes of rows without a vector: drop (reason "missing"), keep, or error.

    Further ones are those of `stages.kmeans_training.Training`, where n is the number of rows asked that have a vector.
    Verdicts also say `distance`, the cosine distance to the nearest centroid. Footers of the phase `threshold` have the
    last one that was kept, and the counts.
    """

    vectors: str = Field(min_length=1)
    fraction: float = Field(gt=0, le=1)
    drop: Literal["nearest", "farthest"] = "nearest"
    on_missing: OnMissing = "error"

    def reads(self) -> tuple[str, ...]:
        return (self.vectors,)

    def extra_verdicts(self) -> pa.Schema:
        return pa.schema([("distance", pa.float32())])

    def margins(self) -> tuple[Margin, ...]:
        side: Literal["above", "below"] = "above" if self.drop == "nearest" else "below"
        which = "farthest" if self.drop == "nearest" else "nearest"
        return (Margin("distance", "distance", cut=(side, f"{which} {100 * self.fraction:.6g} %")),)

    # ---- what `Ranked` asks

    def last(self, asked: int) -> int:
        return int(asked * self.fraction) - 1

    def missing(self) -> OnMissing:
        return self.on_missing

    def beyond(self) -> str:
        return "near_centroid" if self.drop == "nearest" else "far_from_centroid"

    def order(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, str]:
        column = table.column("distance")
        tenth = np.rint(column.fill_null(0).to_numpy().astype(np.float64) * 1e4).astype(np.int64)
        order = (-tenth if self.drop == "nearest" else tenth).view(np.uint64) ^ SIGN
        return order, column.is_valid().to_numpy(), "distance"

    def value(self, order: int, kind: str) -> float:
        tenth = int((np.array([order], np.uint64) ^ SIGN).view(np.int64)[0])
        return abs(tenth) / 1e4

    # ---- phases

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        return (*clustering(self, shape), *from_measured(super().phases(shape)))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        clustered = cluster(self, phase, inputs, self.vectors)
        if clustered is not None:
            return clustered
        found = super().run(phase, part, as_shards(inputs))
        return self._with_distance(found, inputs) if phase == "verdict" else found

    def _with_distance(self, verdict: Output, inputs: Inputs) -> Output:
        assert isinstance(verdict.tables, pa.Table)
        distance = inputs.select(PhaseFile, MEASURED).only().column("distance")
        return Output(verdict.tables.append_column(self.extra_verdicts().field(0), distance), verdict.stats)
