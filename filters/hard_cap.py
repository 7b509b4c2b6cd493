"""Hard cap sampling: draw with replacement by score, at most so many copies of each sample.

    HardCap(over="pool", column="flyt", fraction=1.0)                    # as many copies as the pool has samples
    HardCap(over="survivors", column="hype", total=128_000, most=1000)   # a limit that hardly binds: with replacement

Follows HCS, the baseline of soft cap sampling in FLYT (Shoshan et al. 2025, arXiv:2503.08805; its repository
formll/FLYT), limit 15: samples are drawn with a chance in proportion to exp(score), and one that has reached the limit
is drawn no more. The reference runs out of probability and fails on NaN where limit * samples is below the total; here
that is an error that says so. The HYPE sampler (Kim et al. 2024), from memory of the paper (unverified), draws by score
with repetition: this, with a high limit.

Exact, in two scans and bounded memory, whatever the pool: every sample's draws come at exponential times of its own
(`filters.copies.laps`), and the first `total` of all win (`filters.races`). No weights are needed.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field

from filters.copies import COARSE, CopiesByScore, enough, laps
from filters.races import Laps, Runners
from stages.shuffle import Arrays


class HardCap(CopiesByScore):
    """Draw `total` copies by score, at most `most` of a sample; what is never drawn gets "not_in_hard_cap".

    Args:
        most: copies of one sample.

    Raises:
        ValueError: while it runs: `most` copies of every sample with a weight are fewer than the total; or log weights
            lie more than 2,000 apart.
    """

    most: int = Field(default=15, ge=1)

    def plan(self, keys: np.ndarray, counts: np.ndarray, asked: int) -> pa.Table:
        wanted, samples = self.wanted(asked), int(counts.sum())
        if self.most * samples < wanted:
            raise ValueError(
                f"hard_cap: {wanted:,} copies are asked for, and {samples:,} samples with a weight in at most "
                f"{self.most} copies each are {self.most * samples:,}; raise `most` or ask for fewer"
            )
        self.spread(keys)
        until = np.inf  # most of what the limit allows is asked for: hardly a draw is in vain
        if 2 * wanted + 100 < 0.9 * self.most * samples:
            until = enough(self._draws, keys / COARSE, counts, wanted)
        return pa.table({"places": pa.array([wanted], pa.int64()), "until": [until]})

    def _draws(self, log_rate: np.ndarray) -> np.ndarray:
        """Mean of the smaller of `most` and a Poisson number."""
        from scipy.special import pdtr  # P(number <= k)

        rate = np.exp(np.minimum(log_rate, 700))
        below = rate * pdtr(self.most - 2, rate) if self.most > 1 else 0.0
        mean: np.ndarray = below + self.most * (1 - pdtr(self.most - 1, rate))
        return mean

    def arrivals(self, runners: Runners, plan: Arrays) -> tuple[np.ndarray, Laps]:
        none, until = np.zeros(len(runners.row), np.int64), float(plan["until"][0])
        return none, laps(self.seed, "hard_cap", runners, slower=0.0, most=self.most, until=until)
