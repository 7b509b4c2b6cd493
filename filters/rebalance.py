"""Groups re-balanced by repetition: large ones thinned, small ones written several times.

    - rebalance: {by: kmeans_cluster, power: 0.5, fraction: 1.0, most: 10, over: survivors}
    - rebalance: {by: lang, power: 0.3, total: 1_000_000, over: survivors}

A group of n samples gets a share of the total in proportion to n ** power: power 1 leaves the proportions as they are,
0 makes all groups alike. No sample goes on more than `most` times; what such a group cannot give the others do.

"The Devil is in the Details" (Yu et al. 2023, arXiv:2309.15954), third step, "distribution alignment": samples near to
downstream tasks are clustered and buckets are capped or repeated, so that the compute is spent on them; how large the
buckets become there is not verified, and the power stands in for it. The same exponent is what multilingual models
sample languages by (Conneau & Lample 2019; mT5, Xue et al. 2021: 0.3, from memory). DataComp's baseline of sampling
clusters (Gadre et al. 2023) repeats an image 100 times at most, the default here.

Within a group every sample goes on equally often, or once more for those with the smallest draws of (seed, "rebalance",
uid). Groups are told apart by 64 bits. No weights are needed.

Memory: how groups share the total is decided in one place, and every shard's part of the work reads it. So there may be
2^20 groups, 50 MB; more are refused (for a limit on each of any number of keys see `cap`). The largest part of the work
holds about sqrt(samples * groups) draws of 100 bytes: 1 GB for 100 million samples. Exact: `filters.races`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
from pydantic import Field

from filters.races import CERTAIN, Laps, Runners
from filters.shares import evenly, filled, roots
from filters.totals import Total
from filters.weights import unit
from stages.base import Column, Source
from stages.keys import Key
from stages.shuffle import Arrays


class Rebalance(Total):
    """Copies of each group in proportion to its size ** `power`; what gets none has the reason "not_in_rebalance".

    Args:
        by: what makes a group: text_clean, domain, or any column of strings, whole numbers or truth values.
        power: 1: groups keep their proportions; 0: all groups give alike.
        total: copies in all, exactly; expected is this or fraction.
        fraction: instead of total, int(fraction * n) of the n samples asked.
        most: copies of one sample, at most.
        seed: of the draw of those that go on once more, or at all.
        on_missing: what becomes of samples without a group: drop (reason "missing"), or error.

    Raises:
        ValueError: while it runs: `most` copies of every sample are fewer than the total; or more than 2^20 groups.
    """

    by: Source
    power: float = Field(ge=0, le=1)
    most: int = Field(default=100, ge=1)

    def reads(self) -> tuple[str | Column, ...]:
        return (Key.of(self.by).column,)

    def entrants(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The race is 64 bits of the key until the groups are known."""
        has, key, check = Key.of(self.by).hashes(table)
        group = np.zeros(len(has), np.int64)
        group[has] = (key ^ check).view(np.int64)
        group[group == CERTAIN] = 0
        return group, np.zeros(len(has)), has, has

    def surveyed(self, runners: Runners) -> np.ndarray:
        return runners.race

    def crowded(self) -> str:
        return (
            f"{Key.of(self.by).name!r} has more than {self.most_surveyed:,} different values, too many groups to weigh "
            "against one another; group by something coarser (a cluster, a domain), or limit each with `cap`"
        )

    def bins(self, plan: Arrays) -> np.ndarray:
        return roots(plan)

    def held(self, samples: int) -> int:
        return math.isqrt(samples * min(samples, self.most_surveyed))

    def plan(self, keys: np.ndarray, counts: np.ndarray, asked: int) -> pa.Table:
        """(group, there, places), a row a group: its samples, and its copies."""
        there = counts.tolist()
        wanted = self.wanted(asked)
        if self.most * sum(there) < wanted:
            raise ValueError(
                f"rebalance: {wanted:,} copies are asked for, and {sum(there):,} samples in at most {self.most} copies "
                f"each are {self.most * sum(there):,}; raise `most` or ask for fewer"
            )
        weights = [round(float(n) ** self.power * 2**20) for n in there]
        places = filled(wanted, weights, [self.most * n for n in there])
        return pa.table({"group": keys, "there": counts, "places": pa.array(places, pa.int64())})

    def told(self, plan: pa.Table) -> dict[str, int]:
        places = plan.column("places").to_numpy()
        return {"groups": plan.num_rows, "copies": int(places.sum()), "largest": int(places.max(initial=0))}

    def seated(self, runners: Runners, plan: Arrays) -> Runners:
        return replace(runners, race=np.searchsorted(plan["group"], runners.race))

    def arrivals(self, runners: Runners, plan: Arrays) -> tuple[np.ndarray, Laps]:
        return evenly(runners, plan, unit(self.seed, "rebalance", runners.high, runners.low))
