"""A sample spread evenly over a hierarchy of clusters: few from each of many, before many from few.

    columns:
      - hierarchical_kmeans: {vectors: dino_image, k: [n/100, n/2000, n/20000]}
    filters:
      - balanced_sample: {levels: [hkm_1, hkm_2, hkm_3], samples: 1000000, over: pool}

Vo et al. 2024, "Automatic data curation for self-supervised learning", followed as in
facebookresearch/ssl-data-curation (hierarchical_sampling.py): at the coarsest level the largest whole c with
sum_j min(c, size_j) <= samples; each cluster gets min(c, size_j), and what is left goes, one each, to random clusters
with more than c. The same inside each cluster, down to the finest level, where the nearest to the centroid are taken
(`closest`) or any (`random`). The published code's random choices are global draws; here they are keyed by seed, level
and cluster. Nothing here is [M]; no weights are needed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from filters.group_quota import GroupQuota
from stages.base import Inputs
from stages.draws import hash64_halves
from stages.shuffle import Arrays, starts_of


class BalancedSample(GroupQuota):
    """Keep `samples` rows, or all where there are no more; reason "over_quota".

    Args:
        levels: names of the columns of clusters, from the finest to the coarsest.
        samples: rows to keep, copies counted; up to 1 a share of those asked.
        pick: closest or random.
        distance: the column of distances to the centroid of the finest level; left out, <name>_distance for levels
            that start with <name>_1.
        repeats: each row may be taken so often; verdicts then have `copies`.
        seed: of which clusters get one more, and of `pick: random`.
        on_missing: what becomes of rows without a cluster: drop (reason "missing"), keep, or error.

    Raises:
        ValueError: a finer cluster lies in two coarser ones.
    """

    levels: tuple[str, ...] = Field(min_length=1)
    samples: float = Field(gt=0)
    pick: Literal["closest", "random"] = "closest"
    distance: str | None = None
    repeats: int = Field(default=1, ge=1, le=10_000)
    seed: int = 0

    @model_validator(mode="after")
    def _has_distances(self) -> BalancedSample:
        self.distance_column()
        return self

    def reads(self) -> tuple[str, ...]:
        distance = self.distance_column()
        return (*self.levels, *([distance] if distance else []))

    # ---- what `GroupQuota` asks

    def level_columns(self) -> tuple[str, ...]:
        return self.levels

    def distance_column(self) -> str | None:
        if self.pick == "random":
            return None
        if self.distance is None and not self.levels[0].endswith("_1"):
            raise ValueError(f"distance: name the column of distances to the centroids of {self.levels[0]!r}")
        return self.distance or self.levels[0].removesuffix("_1") + "_distance"

    def rank(self, distance: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        if self.pick == "closest":
            return distance
        return (hash64_halves(self.seed, "balanced_sample", high, low) >> np.uint64(1)).astype(np.int64)

    def repeated(self) -> bool:
        return self.repeats > 1

    def quotas(self, sizes: Arrays, asked: int, more: Inputs) -> np.ndarray:
        wanted = int(asked * self.samples) if self.samples <= 1 else int(self.samples)
        names = [f"level{i}" for i in range(len(self.levels))]
        order = np.lexsort([sizes[n] for n in names])  # the coarsest level last: clusters of one parent side by side
        ids = [sizes[n][order] for n in names]
        given = np.array([wanted])
        starts = np.array([0])
        for level in reversed(range(len(names))):
            given, starts = self._shared(ids[level], sizes["count"][order] * self.repeats, starts, given, level)
        out = np.zeros(len(order), np.int64)
        out[order] = given
        return out

    def _shared(
        self, ids: np.ndarray, count: np.ndarray, starts: np.ndarray, given: np.ndarray, level: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(what each cluster of this level gets, where it starts) from what those above get, and where they start."""
        if not len(ids):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        above = np.zeros(len(ids), np.int64)
        above[starts[1:]] = 1
        inner = starts_of(np.cumsum(above), ids)
        sizes = np.add.reduceat(count, inner)
        edges = np.append(np.searchsorted(inner, starts), len(inner))
        got = np.zeros(len(inner), np.int64)
        for number, (first, last) in enumerate(pairwise(edges)):
            drawn = draws(self.seed, level, ids[inner[first:last]])
            got[first:last] = spread(sizes[first:last], int(given[number]), drawn)
        return got, inner


def spread(sizes: np.ndarray, wanted: int, drawn: np.ndarray) -> np.ndarray:
    """int64 (k,): min(c, size) of each with the largest whole c that fits, and one more to those drawn first.

    The sum is min(wanted, sum of sizes).
    """
    if wanted >= sizes.sum():
        return np.asarray(sizes)
    ascending = np.sort(sizes)
    behind = np.append(0, np.cumsum(ascending))[:-1]  # all of those that are smaller
    left = np.arange(len(sizes), 0, -1)
    at = int(np.flatnonzero(behind + ascending * left > wanted)[0])  # here c is below the size
    cut = int((wanted - behind[at]) // left[at])
    out = np.minimum(sizes, cut)
    larger = np.flatnonzero(sizes > cut)
    out[larger[np.argsort(drawn[larger], kind="stable")][: wanted - int(out.sum())]] += 1
    return out


def draws(seed: int, level: int, ids: np.ndarray) -> np.ndarray:
    """uint64 (n,): a draw for each cluster of a level."""
    return hash64_halves(seed, f"balanced_sample:{level}", np.zeros(len(ids), np.uint64), ids.astype(np.uint64))
