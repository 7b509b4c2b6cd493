"""Keep more of clusters that are wide and lie apart from others, less of dense ones: density-based pruning.

    filters:
      - semdedup: {vectors: dino_image, clusters: {k: n/9000, spherical: true}, epsilon: 0.05, over: pool}
      - density_pruning: {vectors: dino_image, clusters: {k: 500, spherical: true}, fraction: 0.2, over: survivors}

DBP, "Effective pruning of web-scale datasets" (Abbas et al. 2024), as in amro-kamal/effective_pruning: with
d_intra = mean cosine distance to the centroid of those asked, d_inter = mean of 1 - cosine to the 20 nearest other
centroids, C = d_intra * d_inter, P = softmax(C / .5), the sizes x_j of what stays are the nearest to P_j N,

    min 1/2 |x|^2 - N P.x   so that   sum x = N,  min(m, n_j - 1) <= x_j <= n_j,   m = int(N / k * balance), or 1

which is solved exactly, as a projection, where the code calls a solver; and of cluster j the x_j farthest from the
centroid stay. The code rounds x to integers, which may break the sum: here the largest remainders are rounded up, so
that exactly int(fraction * n) stay. (Two slips of prune.py, an unclosed parenthesis and an inverted set of removed
rows, are not followed.) C of a cluster without rows is the mean of the others. The paper deduplicates first and makes
clusters *of what is left*, of vectors of a distilled DINOv2 L/14, k 500 (LAION) or 100 (DataComp medium): so this
filter clusters those that it is asked about, by itself; or it takes the clusters of a `kmeans` column over the whole
pool. Its 19 million of DataComp medium are [M]. No weights are needed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from filters.group_quota import TENTH, GroupQuota
from filters.measured import as_shards, cluster, clustering, from_measured
from stages.base import Barrier, Column, Inputs, Output, Phase, PhaseFile, Shape, Source
from stages.draws import hash64_halves
from stages.kmeans import CENTROIDS, KMeans
from stages.kmeans_training import Training, centroids
from stages.shuffle import Arrays
from stages.vectors import dots, lengths, on_grid

BLOCK = 256  # centroids compared with all others at a time


class DensityPruning(GroupQuota):
    """Keep int(fraction * n) of the n rows asked; reason "over_quota".

    Args:
        vectors: plain name of a column of vectors, with
        clusters: parameters of k-means over those asked, or instead of both
        cluster: the column <name>_cluster of a `kmeans` over the pool, with
        distance: the column of distances to its centroid; left out, <name>_distance.
        fraction: above 0, at most 1.
        temperature: of the softmax: the smaller, the more goes to the widest clusters.
        neighbours: centroids that d_inter is the mean of.
        balance: each cluster keeps at least this share of N / k, if it has so many; 0: one row.
        keep: hard (farthest from the centroid), easy (nearest), or random.
        seed: of `keep: random`.
        on_missing: what becomes of rows without a cluster: drop (reason "missing"), keep, or error.

    Raises:
        ValueError: neither or both kinds of clusters; `cluster` is of no `kmeans`; the smallest sizes are more than
            fraction leaves.
    """

    vectors: str | None = None
    clusters: Training | None = None
    cluster: Source | None = None
    distance: Source | None = None
    fraction: float = Field(gt=0, le=1)
    temperature: float = Field(default=0.5, gt=0)
    neighbours: int = Field(default=20, ge=1)
    balance: float = Field(default=0.5, ge=0, le=1)
    keep: Literal["hard", "easy", "random"] = "hard"
    seed: int = 0

    @model_validator(mode="after")
    def _one_kind(self) -> DensityPruning:
        anew = (self.vectors is not None, self.clusters is not None)
        if (self.cluster is None) != all(anew) or any(anew) != all(anew):
            raise ValueError("give vectors and clusters, or cluster")
        if self.cluster is not None:
            self.kmeans()
        return self

    def kmeans(self) -> KMeans:
        """The owner of the clusters, where they are not made here."""
        owner = None if self.cluster is None else self.cluster.owner
        if not isinstance(owner, KMeans) or self.cluster != owner.column("cluster"):
            field = self.cluster.field if self.cluster else None
            raise ValueError(f"cluster: {field!r} is no column <name>_cluster of a `kmeans` under columns:")
        return owner

    def _distance(self) -> Column:
        return self.kmeans().column("distance") if self.distance is None else self.distance

    def reads(self) -> tuple[str | Column, ...]:
        if self.vectors is not None:
            return (self.vectors,)
        return (self.kmeans().column("cluster"), self._distance())

    def barriers(self) -> tuple[Barrier, ...]:
        return () if self.clusters else (self.kmeans(),)

    # ---- phases: those of `GroupQuota`, behind those of k-means where clusters are made here

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        if self.clusters is None:
            return super().phases(shape)
        return (*clustering(self.clusters, shape), *from_measured(super().phases(shape)))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if self.clusters is None or self.vectors is None:
            return super().run(phase, part, inputs)
        return cluster(self.clusters, phase, inputs, self.vectors) or super().run(phase, part, as_shards(inputs))

    # ---- what `GroupQuota` asks

    def level_columns(self) -> tuple[str, ...]:
        return ("cluster",) if self.clusters else (self.kmeans().column("cluster").field,)

    def distance_column(self) -> str:
        return "distance" if self.clusters else self._distance().field

    def needed(self) -> tuple[str, ...]:
        return (self.vectors,) if self.vectors else super().needed()

    def rank(self, distance: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        if self.keep == "random":
            return (hash64_halves(self.seed, "density_pruning", high, low) >> np.uint64(1)).astype(np.int64)
        return -distance if self.keep == "hard" else distance

    def quota_files(self) -> tuple[PhaseFile, ...]:
        return (PhaseFile(CENTROIDS, "all"),) if self.clusters else (self.kmeans().centroids_file(),)

    def quotas(self, sizes: Arrays, asked: int, more: Inputs) -> np.ndarray:
        found = centroids(more.select(PhaseFile, CENTROIDS).only())
        count, far = np.zeros(len(found), np.int64), np.zeros(len(found), np.int64)
        count[sizes["level0"]], far[sizes["level0"]] = sizes["count"], sizes["distance"]
        wanted = min(int(asked * self.fraction), int(count.sum()))
        least = int(wanted / max(len(found), 1) * self.balance) if self.balance else 1
        share = shares(count, far / TENTH, apart(found, self.neighbours), self.temperature)
        lowest = np.clip(count - 1, 0, least)
        if lowest.sum() > wanted:
            raise ValueError(
                f"density_pruning: {wanted} samples are too few for at least {least} of each of {len(found)} clusters; "
                "write a larger fraction or a smaller k"
            )
        return whole(projected(share * wanted, lowest, count, wanted), count, wanted)[sizes["level0"]]


def apart(found: np.ndarray, neighbours: int) -> np.ndarray:
    """float64 (k,): mean of 1 - cosine to the nearest other centroids; NaN where there is no other."""
    long = lengths(found)
    units = on_grid(found / np.maximum(long, 1e-30)[:, None])
    out = np.full(len(found), np.nan)
    many = min(neighbours, len(found) - 1)
    for start in range(0, len(found) if many > 0 else 0, BLOCK):
        near = dots(units[start : start + BLOCK], units)
        own = np.arange(len(near))
        near[own, own + start] = -np.inf
        best = np.sort(np.partition(near, -many, axis=1)[:, -many:], axis=1)
        out[start : start + len(near)] = (1 - best).mean(axis=1)
    return out


def shares(count: np.ndarray, far: np.ndarray, d_inter: np.ndarray, temperature: float) -> np.ndarray:
    """float64 (k,), sum 1: P, from rows, their summed distances, and d_inter."""
    with np.errstate(invalid="ignore"):  # 0 / 0: a cluster without rows
        complexity = far / np.where(count > 0, count, np.nan) * d_inter
    known = complexity[~np.isnan(complexity)]
    complexity = np.where(np.isnan(complexity), known.mean() if len(known) else 0.0, complexity) / temperature
    grown = np.exp(complexity - complexity.max(initial=-np.inf))
    return np.asarray(grown / grown.sum())


def projected(target: np.ndarray, lowest: np.ndarray, highest: np.ndarray, total: float) -> np.ndarray:
    """float64 (k,): the nearest x to the target with sum x = total and lowest <= x <= highest.

    It is clip(target + mu), for the mu that gives the sum; that is found by bisection.
    """
    if not len(target):
        return np.zeros(0)
    below, above = float((lowest - target).min()), float((highest - target).max())
    for _ in range(200):
        middle = (below + above) / 2
        if np.clip(target + middle, lowest, highest).sum() < total:
            below = middle
        else:
            above = middle
    return np.asarray(np.clip(target + above, lowest, highest))


def whole(x: np.ndarray, highest: np.ndarray, total: int) -> np.ndarray:
    """int64 (k,) of sum `total`: rounded down, the largest remainders up; of equal ones the smaller number."""
    down = np.minimum(np.floor(x + 1e-9).astype(np.int64), highest)
    left = total - int(down.sum())
    remainder = np.where(down < highest, x - down, -1.0)
    down[np.lexsort((np.arange(len(x)), -np.round(remainder, 6)))[:left]] += 1
    return np.asarray(down)
