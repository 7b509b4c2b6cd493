"""Clusters of pictures, by k-means over a column of vectors: the number of the nearest centroid, and how far it is.

    columns:
      - kmeans: {vectors: l14_image, k: "min(max(n/128, 1000), 100000)", sample: 1, assign: dot}      # as DataComp's
      - kmeans: {vectors: clip_image, k: n/9000, spherical: true, iterations: 100, name: semdedup}     # as SemDeDup

Lloyd's algorithm, as FAISS runs it, with an answer that hangs on no order, cut, thread or device: `kmeans_training`
says how, and where it differs. DataComp (Gadre et al. 2023) trains 100,000 centroids on 12.8 million rows, 20
iterations, and assigns by inner product with centroids that are not normalised, which its paper calls the nearest:
`assign: nearest` is the paper, `assign: dot` the code. It has 100,000 centroids at every scale, trained on all rows of
12.8 and 128 million, on 0.3 of 1.28 billion and 0.03 of 12.8 billion, drawn with replacement; here `sample` is drawn
by uid, without replacement, and some 256 vectors a centroid where it is left out: 25.6 million for 100,000. SemDeDup:
spherical, 100 iterations. Nothing here is [M]; that smaller pools should have fewer centroids, as n/128, is an
inference. No weights are needed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import Barrier, Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, Source, per_shard
from stages.kmeans_training import Training, centroids
from stages.lloyd import cosine_distance
from stages.shuffle import Layout
from stages.vectors import ROWS, Nearest, rounded, stored, unit

CENTROIDS = "centroids"
NAME = "^[a-z][a-z0-9_]{0,31}$"


class KMeans(Training, Barrier):
    """`<name>_cluster` int32, `<name>_distance` float32, `<name>_second` int32; null where the vector is.

    Args:
        vectors: column of vectors; they are brought to length one.
        only: a column of bools: only rows where it is true are trained on, and n counts them; all are assigned.
        name: begins the names of the columns; give another to each k-means of a recipe.

    distance is the cosine distance to the cluster's centroid, 0..2, rounded to 1e-4; within a cluster it orders as L2
    does. second is the number of the next best centroid, null where there is one only.
    The phase file `centroids` has (centroid fixed_size_list<float32>, count int64), in the order of their numbers.

    Raises:
        ValueError: vectors, but fewer than an explicit k; no vectors in the column, vectors of several lengths, no GPU.
    """

    vectors: Source
    only: Source | None = None
    name: str = Field(default="kmeans", pattern=NAME)

    def reads(self) -> tuple[Column, ...]:
        return (self.vectors, self.only) if self.only is not None else (self.vectors,)

    def writes(self) -> pa.Schema:
        fields = [("cluster", pa.int32()), ("distance", pa.float32()), ("second", pa.int32())]
        return pa.schema([(f"{self.name}_{field}", kind) for field, kind in fields])

    def column(self, field: str) -> Column:
        """`cluster`, `distance` or `second` as a column, for others to read."""
        return Column(self, f"{self.name}_{field}")

    def centroids_file(self) -> PhaseFile:
        """The centroids as an input of others' phases; `stages.kmeans_training.centroids` reads it."""
        return PhaseFile(CENTROIDS, "all", owner=self)

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        assigned = per_shard("assign", shape, extra=(PhaseFile(CENTROIDS, "all"),))
        return (*self.training(Layout(shape, ROWS)), replace(assigned, need=self.machine(shape)))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase == "assign":
            return self._assign(inputs)
        return self.train(phase, inputs, self._read)

    def _read(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        x, there = stored(table, self.vectors.field)
        if self.only is not None:
            there = there & table.column(self.only.field).fill_null(False).to_numpy()
        return x, there

    def _assign(self, inputs: Inputs) -> Output:
        found = centroids(inputs.select(PhaseFile).only())
        x, there = unit(inputs.select(ShardColumns).only().column(self.vectors.field), f"kmeans: {self.vectors.field}")
        first, second, distance = assigned(x[there], found, self)
        columns = [
            placed(first, there, pa.int32()),
            placed(distance, there, pa.float32()),
            placed(second, there, pa.int32(), none=-1),
        ]
        return Output(pa.table(columns, schema=self.writes()), {"assigned": len(first)})


class Clusters(Training):
    """The parameters of `KMeans`, without its vectors, for those that cluster by themselves."""

    only: Source | None = Field(
        default=None, description="a column of bools: only rows where it is true are trained on, and n counts them."
    )
    name: str = Field(
        default="kmeans",
        pattern=NAME,
        description="begins the names of their columns; give another where one filter (a union) reads two of these.",
    )

    def of(self, vectors: Column) -> KMeans:
        """The k-means over a column; equal parameters elsewhere in a recipe share it."""
        return KMeans(vectors=vectors, **{name: getattr(self, name) for name in type(self).model_fields})


def assigned(x: np.ndarray, found: np.ndarray, by: Training) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first, second, cosine distance to the first) of vectors among centroids.

    Raises:
        ValueError: there are vectors and no centroids (none were there to train on), or of another length.
    """
    if not len(x):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    if not len(found):
        raise ValueError("k-means: no vector was there to train on; is `only` true anywhere?")
    if x.shape[1] != found.shape[1]:
        raise ValueError(f"k-means: vectors of {x.shape[1]} dimensions, centroids of {found.shape[1]}")
    nearest = nearest_by(found, by)
    first, second, score = nearest.of(x)
    return first, second, cosine_distance(score + nearest.penalty[first], x, found[first])


def nearest_by(found: np.ndarray, by: Training) -> Nearest:
    """The search among centroids, by `assign`."""
    return Nearest(found, "dot" if by.assign == "dot" else "l2", by.device)


def placed(values: np.ndarray, there: np.ndarray, kind: pa.DataType, none: int | None = None) -> pa.Array:
    """A column with the values in the rows that are `there`; null elsewhere, and where a value is `none`."""
    if pa.types.is_floating(kind):
        out = np.zeros(len(there))
        out[there] = values
        return rounded(out, there)
    whole = np.zeros(len(there), np.int64)
    whole[there] = values
    gone = ~there if none is None else ~there | (whole == none)
    return pa.array(whole, kind, mask=gone)
