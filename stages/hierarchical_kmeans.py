"""Clusters of clusters: k-means over vectors, then over its centroids, and so on, each level brought to even density.

    columns:                                              # hkm_1, hkm_2, hkm_3, hkm_distance
      - hierarchical_kmeans: {vectors: dino_image, k: [n/100, n/2000, n/20000]}

Vo et al. 2024, "Automatic data curation for self-supervised learning", followed as in
facebookresearch/ssl-data-curation (hierarchical_kmeans_gpu.py): 50 iterations, L2 over vectors of length one, started
by k-means++; above the first level `resample` times: the `members` points nearest to each centroid are clustered anew,
and all points assigned to the new centroids, which draws centroids towards an even spread over what the data covers.
Published for the web: k 10 million, 500,000, 50,000, 10,000, `resample` 10, `members` 10, 5, 3; the first level is not
resampled.

Differences: the first level starts from drawn vectors, as `kmeans` does, and is not made by splitting 100,000 clusters
into 100 each; the levels above start by k-means++ where centroids times points are no more than `PLUS_PLUS`, and from
drawn points beyond that, for k-means++ looks at all points anew for each centroid; resampling stops where the chosen
points are fewer than the centroids. Nothing here is [M]; no weights are needed.

The levels above the first are made in one part, which holds the centroids of the first level. What would take it more
than a day is refused before anything runs: on a CPU that is about 200,000 centroids of the first level for 15,000 of
the second; a GPU (`device: cuda`) is taken to be a hundred times as fast, which was not measured. The published 10
million for 500,000 is beyond both.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from stages.base import (
    Barrier,
    Column,
    Inputs,
    Output,
    Phase,
    PhaseFile,
    Shape,
    ShardColumns,
    Source,
    per_shard,
)
from stages.draws import hash64_halves
from stages.kmeans import CENTROIDS, assigned, placed
from stages.kmeans_size import DAY, machine, seconds
from stages.kmeans_training import Training, centroids
from stages.lloyd import lloyd, plus_plus, squares_of
from stages.shuffle import Layout
from stages.vectors import ROWS, Device, Nearest, stored, unit

MEMBERS = (10, 5, 3)
PLUS_PLUS = 1 << 30  # centroids times points that k-means++ takes some minutes for


class HierarchicalKMeans(Barrier):
    """`<name>_1`, `<name>_2`, ... int32: the cluster of each level, the finest first; `<name>_distance` float32, the
    cosine distance to the centroid of the first, rounded to 1e-4; null where the vector is.

    Args:
        vectors: column of vectors; they are brought to length one.
        k: centroids of each level, the most first; numbers, or texts as of `kmeans` ("n/100").
        sample: as in `stages.kmeans_training.Training`, for the first level.
        iterations: of Lloyd's algorithm, each time.
        seed: of the sample, and of what centroids start from.
        name: begins the names of the columns.
        device: as in `stages.kmeans_training.Training`.
        resample: how often each level above the first is made anew.
        members: points of each cluster that this is done with, for the levels above the first; left out, 10, 5, 3, 3...

    Raises:
        ValueError: fewer points than centroids on a level, no vectors in the column, no GPU; the levels above the first
            would take more than a day.
    """

    vectors: Source
    k: tuple[int | str, ...] = Field(min_length=1, max_length=9)
    sample: float | None = Field(default=None, gt=0)
    iterations: int = Field(default=50, ge=1, le=1000)
    resample: int = Field(default=10, ge=0, le=1000)
    members: tuple[int, ...] | None = None
    seed: int = 0
    name: str = Field(default="hkm", pattern="^[a-z][a-z0-9_]{0,31}$")
    device: Device = Field(default="cpu", exclude=True)

    @model_validator(mode="after")
    def _fits(self) -> HierarchicalKMeans:
        for level in range(len(self.k)):
            self._level(level)
        if self.members is not None and (len(self.members) != len(self.k) - 1 or min(self.members, default=1) < 1):
            raise ValueError(
                f"members: write a number above 0 for each of the {len(self.k) - 1} levels above the first"
            )
        return self

    def _level(self, level: int) -> Training:
        return Training(
            k=self.k[level], sample=self.sample, iterations=self.iterations, seed=self.seed, device=self.device
        )

    def reads(self) -> tuple[Column, ...]:
        return (self.vectors,)

    def writes(self) -> pa.Schema:
        levels = [(f"{self.name}_{level + 1}", pa.int32()) for level in range(len(self.k))]
        return pa.schema([*levels, (f"{self.name}_distance", pa.float32())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        self._in_a_day(shape)
        first = self._level(0)
        trained = first.training(Layout(shape, ROWS))
        total = [p.name for p in trained if p.name.startswith("total-")][-1]
        made = (PhaseFile(CENTROIDS, "all"), PhaseFile(total, "all"))
        answers = per_shard("assign", shape, extra=(PhaseFile(CENTROIDS, "all"), PhaseFile("levels", "all")))
        return (
            *trained,
            Phase("levels", ("all",), lambda _: made, need=machine(self._most(shape)[0], self.device)),
            replace(answers, need=first.machine(shape)),
        )

    def _most(self, shape: Shape) -> list[int]:
        """Centroids of each level, at most."""
        return [self._level(level).most(shape.total) for level in range(len(self.k))]

    def _in_a_day(self, shape: Shape) -> None:
        many = self._most(shape)
        pairs = 0
        for level, (points, wanted) in enumerate(pairwise(many), start=1):
            chosen = min(self._members(level) * wanted, points)
            again = self.resample if self._members(level) > 1 else 0
            pairs += wanted * (points * (self.iterations + 1 + again) + again * chosen * self.iterations)
        takes = seconds(pairs, self.device)
        if takes > DAY:
            written = " and ".join(f"{k:,}" for k in many)
            raise ValueError(
                f"hierarchical_kmeans: the levels above the first, of up to {written} centroids, would take one worker "
                f"some {takes / DAY:,.0f} days; write fewer centroids (k: a larger divisor of n for the first levels), "
                "fewer iterations or a smaller resample" + (", or device: cuda" if self.device == "cpu" else "")
            )

    def _members(self, level: int) -> int:
        return (self.members or (*MEMBERS, *[MEMBERS[-1]] * len(self.k)))[level - 1]

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase == "levels":
            return self._levels(inputs)
        if phase == "assign":
            return self._assign(inputs)
        return self._level(0).train(phase, inputs, lambda table: stored(table, self.vectors.field))

    def _levels(self, inputs: Inputs) -> Output:
        """Of each centroid of the first level the clusters of the others: level1 (its own number), level2, ..."""
        points = centroids(inputs.select(PhaseFile, CENTROIDS).only())
        n = sum(int(v) for t in inputs for v in (t.column("n").to_pylist() if "n" in t.column_names else ()))
        path = [np.arange(len(points))]
        sizes = [len(points)]
        for level in range(1, len(self.k)):
            wanted = self._level(level).centroids_of(n)
            if wanted > len(points):
                raise ValueError(
                    f"hierarchical_kmeans: level {level + 1} has {wanted} centroids for the {len(points)} of the level "
                    "below; write k from the most to the fewest"
                )
            points, label = self._above(points, wanted, level)
            path.append(label[path[-1]])
            sizes.append(len(points))
        table = {f"level{i + 1}": ids.astype(np.int32) for i, ids in enumerate(path)}
        return Output(pa.table(table), {"k": sizes})

    def _above(self, points: np.ndarray, wanted: int, level: int) -> tuple[np.ndarray, np.ndarray]:
        """(centroids of the points, the number of each point's)."""
        members = self._members(level)
        found = self._clustered(points, wanted, f"{level}")
        if not len(found):
            return found, np.zeros(0, np.int64)
        label, _, score = Nearest(found, device=self.device).of(points)
        squares = squares_of(points)
        for step in range(self.resample if members > 1 else 0):
            chosen = closest(label, squares - 2 * score, members)
            if len(chosen) < wanted:
                break
            found = self._clustered(points[chosen], wanted, f"{level}:{step}")
            label, _, score = Nearest(found, device=self.device).of(points)
        return found, label

    def _clustered(self, points: np.ndarray, wanted: int, salt: str) -> np.ndarray:
        first = points[starts(points, wanted, self.seed, f"hierarchical_kmeans:{salt}")]
        return lloyd(points, first, self.iterations, device=self.device)[0]

    def _assign(self, inputs: Inputs) -> Output:
        found = centroids(inputs.select(PhaseFile, CENTROIDS).only())
        path = inputs.select(PhaseFile, "levels").only()
        column = inputs.select(ShardColumns).only().column(self.vectors.field)
        x, there = unit(column, f"hierarchical_kmeans: {self.vectors.field}")
        first, _, distance = assigned(x[there], found, self._level(0))
        levels = [placed(path.column(i).to_numpy()[first], there, pa.int32()) for i in range(len(self.k))]
        table = pa.table([*levels, placed(distance, there, pa.float32())], schema=self.writes())
        return Output(table, {"assigned": len(first)})


def starts(points: np.ndarray, wanted: int, seed: int, salt: str) -> np.ndarray:
    """int64 (wanted,): points to start from, by k-means++, or where that takes too long those with the smallest draws.

    Args:
        points: float32 (n, dim), on the grid, no longer than one; n is at least `wanted`.
    """
    anyhow = wanted * len(points) > PLUS_PLUS
    number = np.arange(len(points) if anyhow else wanted, dtype=np.uint64)
    drawn = hash64_halves(seed, salt, np.zeros_like(number), number)
    if anyhow:
        return np.argsort(drawn, kind="stable")[:wanted]
    return plus_plus(points, wanted, drawn * 2.0**-64)


def closest(label: np.ndarray, apart: np.ndarray, members: int) -> np.ndarray:
    """int64: rows that are among the `members` nearest of their cluster; of equally near ones the smaller number."""
    order = np.lexsort((np.arange(len(label)), apart, label))
    starts = np.searchsorted(label[order], label[order])
    return np.sort(order[np.arange(len(order)) - starts < members])
