"""What `soft_cap` and `hard_cap` share: copies by score, so many in all, and the times at which a sample is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from filters.races import Runners
from filters.totals import Total
from filters.weights import Scale, exponential, log_weights
from stages.elementary import log, log_sum

COARSE = 64.0  # scores to 1/64 tell for how long to look at draws
WIDEST = 2000.0  # log weights further apart are no weights


class CopiesByScore(Total):
    """Draws `total` copies by score.

    Args:
        column: plain name of a column of numbers.
        total: copies in all, exactly; expected is this or fraction.
        fraction: instead of total, int(fraction * n) of the n samples asked: 1 is as many copies as samples.
        temperature: chances go by exp(score / temperature).
        scale: log: the column is any score, or a log weight; linear: it is the weight, and is not below 0.
        seed: of the draws.
        on_missing: what becomes of samples without a score: drop (reason "missing"), or error.
    """

    most_surveyed: ClassVar[int] = 1 << 23

    column: str = Field(min_length=1)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    scale: Scale = "log"

    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def entrants(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One race, of all whose weight is above 0; the score is the log weight."""
        score, present = log_weights(table, self.column, self.scale, self.temperature)
        return np.zeros(len(score), np.int64), score, present, np.isfinite(score)

    def crowded(self) -> str:
        return (
            f"{self.column} / temperature has more than {self.most_surveyed:,} different values on a grid of "
            f"1/{self.grid():g}; raise `temperature`, or round the scores"
        )

    def grid(self) -> float:
        """To how much of 1 the survey takes scores."""
        return COARSE

    def surveyed(self, runners: Runners) -> np.ndarray:
        """Scores on the grid: the nearest, or on the coarse one the next below."""
        if np.abs(runners.score).max(initial=0) > 2**40:
            raise ValueError(f"{self.method()}: {self.column} has values beyond 2^40; they are no log weights")
        on_grid = runners.score * self.grid()
        return (np.floor(on_grid) if self.grid() == COARSE else np.rint(on_grid)).astype(np.int64)

    def spread(self, keys: np.ndarray) -> float:
        """Between the largest and the smallest log weight of the survey.

        Raises:
            ValueError: more than anyone means.
        """
        spread = float(keys[-1] - keys[0]) / self.grid() if len(keys) else 0.0
        if spread > WIDEST:
            raise ValueError(
                f"{self.method()}: {self.column} / temperature spreads over {spread:.6g}, and a difference of 1 is a "
                "factor of e; raise `temperature`, or standardise the scores with weighted_sum"
            )
        return spread


def laps(
    seed: int, salt: str, runners: Runners, slower: float, most: int | None = None, until: float = np.inf
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(index, log time) at which samples are drawn for the first, second, ... time; lap n is keyed by "<salt>:<n>".

    A sample of log weight z that was drawn n times waits for an exponential time of rate exp(z - slower * n). Of many
    such clocks the one with weight w rings next with a chance in proportion to w, whatever was before: ringing one
    after another is drawing one after another.

    Args:
        slower: what each draw takes from a sample's log weight; 0 is drawing with replacement.
        most: laps; None: as long as anyone is below `until`.
        until: log time after which a sample's further draws do not matter.
    """
    index, time = np.arange(len(runners.score)), np.full(len(runners.score), -np.inf)
    lap = 0
    while len(index):
        wait = exponential(seed, f"{salt}:{lap}", runners.high[index], runners.low[index])
        later = log_sum(time, log(wait) + slower * lap - runners.score[index])
        time = np.maximum(later, np.nextafter(time, np.inf))  # a wait that rounding swallows is a wait still
        yield index, time
        lap += 1
        going = time < until if most is None or lap < most else np.zeros(len(index), bool)
        index, time = index[going], time[going]


def enough(draws: Callable[[np.ndarray], np.ndarray], scores: np.ndarray, counts: np.ndarray, wanted: int) -> float:
    """A log time by which more than `wanted` draws have come, but for a chance below 1e-20.

    By then the mean number of draws is 2 * wanted + 100, and their number scatters no more than Poisson's. The result
    only bounds the work: who wins does not depend on it.

    Args:
        draws: log rate -> at most the mean number of draws of a sample until a time at which there would be
            exp(log rate), were there no cap. scores, counts: log weights, and how many samples have them.
    """
    target = 2.0 * wanted + 100

    def reached(until: float) -> bool:
        return float((counts * draws(scores + until)).sum()) >= target

    low = high = -float(scores.max())
    while not reached(high):
        low, high = high, high + max(1.0, high - low) * 2
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
