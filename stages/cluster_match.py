"""Does a picture lie in a cluster that some target picture lies in? DataComp's image-based filtering.

    columns:
      - cluster_match:
          vectors: l14_image
          clusters: {k: "min(max(n/128, 1000), 100000)", sample: 1, assign: dot}
          target: imagenet_train_l14.npy
    filters:
      - where: cluster_match

DataComp (Gadre et al. 2023), `image_based` in baselines/apply_filter.py: 100,000 centroids of the pool's L/14 image
vectors; of the 1.28 million training images of ImageNet-1k, each marks its nearest; a row is kept if its centroid is
marked. There the centroids are trained after a caption filter (English, more than one token, more than five
characters): name a column of that answer as `clusters: {only: ...}`. Both assign alike, by `assign` (see `kmeans`). The
code makes 100,000 centroids at every scale, of all rows up to 128 million (`sample: 1`), of 0.3 of them at 1.28 and
0.03 at 12.8 billion; left out, `sample` is some 256 rows a centroid. That pools below 12.8 million should have fewer
centroids, n/128, is an inference. Nothing here is [M]. The file of targets is mapped and read in blocks.

Needed: a .npy file (n, dim) of vectors of the target pictures, by the model of `vectors`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import field_validator

from stages.base import (
    Barrier,
    Column,
    Inputs,
    Need,
    Output,
    Phase,
    PhaseFile,
    Shape,
    ShardColumns,
    Source,
    per_shard,
)  # fmt: skip
from stages.kmeans import Clusters, KMeans, nearest_by
from stages.kmeans_training import centroids
from stages.target_vectors import checked_npy, npy_file, target_blocks, target_shape


class ClusterMatch(Barrier):
    """`cluster_match`: bool; null where the vector is.

    Args:
        vectors: column of vectors.
        clusters: parameters of `kmeans`: k, sample, iterations, spherical, assign, seed, only, name, device.
        target: a .npy file, float (n, dim).

    The phase file `targets` has (cluster, targets): which clusters are marked, and by how many target pictures.

    Raises:
        ValueError: no such file, or its vectors have another length.
    """

    vectors: Source
    clusters: Clusters
    target: str

    @field_validator("target")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return npy_file(value)

    def kmeans(self) -> KMeans:
        """The clusters that are looked at."""
        return self.clusters.of(self.vectors)

    def files(self) -> tuple[str, ...]:
        return (checked_npy(self.target, "cluster_match"),)

    def reads(self) -> tuple[Column, ...]:
        return (self.kmeans().column("cluster"),)

    def writes(self) -> pa.Schema:
        return pa.schema([("cluster_match", pa.bool_())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        centroids_file = self.kmeans().centroids_file()
        return (
            Phase("targets", ("all",), lambda _: (centroids_file,), need=self._need(shape)),
            per_shard("match", shape, extra=(PhaseFile("targets", "all"),)),
        )

    def _need(self, shape: Shape) -> Need:
        """That of a search, and the file: mapped pages count as the worker's memory while it reads them."""
        searches = self.clusters.machine(shape)
        size = Path(self.target).stat().st_size * 1e-9 if Path(self.target).is_file() else 0  # `files()` tells
        return replace(searches, memory_gb=round(searches.memory_gb + size, 1))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase == "targets":
            return self._targets(centroids(inputs.only()))
        if phase == "match":
            return self._match(inputs)
        raise ValueError(f"ClusterMatch has no phase {phase!r}")

    def _targets(self, found: np.ndarray) -> Output:
        """(cluster, targets), by cluster."""
        rows, dim = target_shape(self.target, "cluster_match")
        if not len(found):
            raise ValueError("cluster_match: no vector was there to cluster")
        if dim != found.shape[1]:
            raise ValueError(
                f"cluster_match: {self.vectors.field} has {found.shape[1]} dimensions and {self.target} has "
                f"{dim}; take vectors of one model"
            )
        nearest, hits = nearest_by(found, self.clusters), np.zeros(len(found), np.int64)
        for _, goal in target_blocks(self.target, "cluster_match"):
            hits += np.bincount(nearest.of(goal)[0], minlength=len(found))
        marked = np.flatnonzero(hits)
        stats = {"clusters": len(found), "marked": len(marked), "targets": rows}
        return Output(pa.table({"cluster": marked.astype(np.int32), "targets": hits[marked]}), stats)

    def _match(self, inputs: Inputs) -> Output:
        marked = inputs.select(PhaseFile).only().column("cluster").combine_chunks()
        cluster = inputs.select(ShardColumns).only().column(self.reads()[0].field).combine_chunks()
        match = pc.if_else(pc.is_valid(cluster), pc.is_in(cluster, value_set=marked), pa.scalar(None, pa.bool_()))
        return Output(pa.table([match], schema=self.writes()), {"matched": pc.sum(match).as_py() or 0})
