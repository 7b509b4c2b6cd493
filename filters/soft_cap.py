"""Soft cap sampling: draw copies by score, where each copy makes a sample less likely to be drawn again.

    SoftCap(over="pool", column="flyt", fraction=1.0)                            # the paper's: batches of 100,000
    SoftCap(over="pool", column="flyt", total=128_000_000, mode="sequential")    # any size, in bounded memory

Follows SCS in FLYT (Shoshan et al. 2025, arXiv:2503.08805; repository formll/FLYT): with z = scores,

    until `total` copies are drawn: draw `batch` different samples with chances softmax(z); z -= alpha for those drawn

alpha .15 at DataComp's medium scale (.25 alternatively). The last batch is cut so that the total is exact. Modes:

- rounds: that, to the letter. Every round needs all scores, so one part of the work holds about 100 bytes a sample:
  12 GB at 128 million, in 1,280 rounds. Up to 2^28 samples.
- sequential: the same with batches of one sample, the limit that the batches are for the sake of speed. Exact: every
  sample's draws come at exponential times of its own, slower by exp(alpha) after each (`filters.copies.laps`), and the
  first `total` of all win (`filters.races`). Any number of samples.
- one_pass: the multiplicities that sampling tends to, without its noise: n = max(0, (z - c) / alpha), where c makes the
  sum `total` (water-filling), rounded up or down at random. Scores are taken to 1e-4. Chances of rounding up are the
  fractions, by Pareto sampling (Rosén 1997), which keeps the total exact. Any number of samples. What softmax draws now
  and then although its score is low is never drawn here.

alpha 0 is drawing with replacement (in batches: without repetition within one), alpha `.inf` draws everyone once before
anyone twice. A row's copies are `copies` in the verdict. No weights are needed.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from filters.copies import COARSE, CopiesByScore, enough, laps
from filters.races import Laps, Runners
from filters.soft_cap_rounds import Rounds, settled
from filters.weights import unit
from stages.base import Inputs, Output, Phase, Shape
from stages.elementary import log, log1m
from stages.shuffle import Arrays

FINE = 1e4  # one_pass takes scores to 1e-4


class SoftCap(CopiesByScore):
    """Draw `total` copies by score, each making the next less likely; what is never drawn gets "not_in_soft_cap".

    Args:
        alpha: what a copy takes from the sample's score / temperature.
        batch: different samples drawn at once, in mode rounds.
        mode: rounds: as published; sequential: one by one, for pools of any size; one_pass: without a draw's noise.

    Raises:
        ValueError: while it runs: no sample has a weight; more than 2^28 samples in mode rounds; in the other modes,
            log weights that lie more than 2,000 apart.
    """

    alpha: float = Field(default=0.15, ge=0)
    batch: int = Field(default=100_000, ge=1)
    mode: Literal["rounds", "sequential", "one_pass"] = "rounds"

    @model_validator(mode="after")
    def _alpha_fits(self) -> Self:
        if self.mode == "one_pass" and not 0 < self.alpha < math.inf:
            raise ValueError("mode: one_pass needs an alpha above 0 that is finite; the other modes take any")
        return self

    # ---- sequential and one_pass are races

    def grid(self) -> float:
        return FINE if self.mode == "one_pass" else COARSE

    def plan(self, keys: np.ndarray, counts: np.ndarray, asked: int) -> pa.Table:
        """(places, level, slower, until): copies; c of one_pass, on the grid; and what `laps` needs."""
        wanted, spread = self.wanted(asked), self.spread(keys)
        if wanted and not len(keys):
            raise ValueError(f"soft_cap: {wanted:,} copies are asked for, and no sample has a weight")
        slower = settled(self.alpha, spread + 1)
        level, until = 0.0, 0.0
        if wanted and self.mode == "one_pass":
            level = water_level(keys, counts, wanted, self.alpha * FINE)
        elif wanted:
            until = enough(lambda log_rate: _draws(log_rate, slower), keys / COARSE, counts, wanted)
        return pa.table({"places": [wanted], "level": [level], "slower": [slower], "until": [until]})

    def arrivals(self, runners: Runners, plan: Arrays) -> tuple[np.ndarray, Laps]:
        none, places = np.zeros(len(runners.row), np.int64), int(plan["places"][0])
        if not places:
            return none, ()
        if self.mode == "sequential":
            slower, until = float(plan["slower"][0]), float(plan["until"][0])
            return none, laps(self.seed, "soft_cap", runners, slower, until=until)
        exact = np.maximum(np.rint(runners.score * FINE) - plan["level"][0], 0) / (self.alpha * FINE)
        certain = np.floor(exact)
        share = exact - certain
        index = np.flatnonzero(share > 0)
        chance = unit(self.seed, "soft_cap", runners.high[index], runners.low[index])
        time = log(chance) - log1m(chance) - log(share[index]) + log1m(share[index])
        return certain.astype(np.int64), [(index, time)]

    # ---- rounds need all scores in one place

    @property
    def _rounds(self) -> Rounds:
        return Rounds(self, self.alpha, self.batch)

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        return self._rounds.phases(shape) if self.mode == "rounds" else super().phases(shape)

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if self.mode == "rounds":
            return self._rounds.run(phase, part, inputs)
        return super().run(phase, part, inputs)


def water_level(keys: np.ndarray, counts: np.ndarray, wanted: int, step: float) -> float:
    """c at which the sum of counts * max(0, (key - c) / step) is `wanted`.

    Args:
        keys: int64 (k,), ascending and different. counts: int64 (k,). step: what a copy is worth, in units of the keys.
    """
    high_first, n = keys[::-1] - keys[0], np.cumsum(counts[::-1])
    level = (np.cumsum(counts[::-1] * high_first) - wanted * step) / n  # if those up to here are above the water
    under = np.append(high_first[1:], -np.inf)  # ... and the next is not
    return float(level[np.argmax(level >= under)] + keys[0])


def _draws(log_rate: np.ndarray, slower: float) -> np.ndarray:
    """At most the mean number of draws by the time at which there would be exp(log_rate) with replacement.

    It is what the average course has, log(1 + slower * rate) / slower: the rate is convex in the number of draws, so
    that Jensen's inequality holds.
    """
    return np.exp(log_rate) if slower == 0 else np.logaddexp(0, np.log(slower) + log_rate) / slower
