"""Is one recipe better than another? Paired differences over replicates, with intervals that say when it is noise.

    scores = {"none": {0: 32.1, 1: 33.4, 2: 32.9}, "dfn": {0: 45.0, 1: 46.3, 2: 45.2}}    # recipe, replicate, score
    against("none", scores)["dfn"]            # PairedComparison(mean=12.7, low=11.84, high=13.56, n=3, wins=3, ...)

A replicate is one joint draw of (pool corruption, initialisation, order of samples) that all recipes share, so that
differences are taken within it: what a lucky draw adds to both sides cancels. Higher scores are better; negate losses
and ranks. What one checkpoint owes to its test items is another question: `bootstrap_items`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr, stdtrit

from training_smoke.errors import TrainingError

LEVEL = 0.95
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class PairedComparison:
    """Differences a - b over n replicates.

    mean, sd: of the differences (sd by n - 1; NaN for one replicate). low, high: the 95 % t interval of the mean.
    wins: replicates in which a is higher. p: two-sided, of "the mean is zero". p_holm: p after Holm's correction for
    all comparisons made with it; p itself where there was one.
    """

    mean: float
    low: float
    high: float
    sd: float
    n: int
    wins: int
    p: float
    p_holm: float

    @property
    def within_noise(self) -> bool:
        """No difference is shown: after correction, zero is as good an answer as the mean."""
        return self.p_holm >= 1 - LEVEL


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; n: items behind it."""

    mean: float
    low: float
    high: float
    n: int


def paired(a: ArrayLike, b: ArrayLike) -> PairedComparison:
    """Student's paired t over replicates: mean +- t(.975, n - 1) sd / sqrt(n).

    One replicate has no spread to judge by: its interval is everything and its p is 1. Where all differences are equal,
    the interval is that one value and p is 0, or 1 if they are zero.

    Example: paired([3, 5, 7], [1, 2, 3]) has mean 3, interval 0.516 to 5.484, sd 1, wins 3, p 0.0351.

    Args:
        a, b: float [n], of the same replicates in the same order.

    Raises:
        ValueError: shapes differ or are empty, or a score is not finite.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(f"paired scores are two lists of one length, not {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a score is NaN or infinite: a run that failed cannot be compared")
    difference = first - second
    n, mean, wins = len(difference), float(difference.mean()), int((difference > 0).sum())
    if n == 1:
        return PairedComparison(mean, -math.inf, math.inf, math.nan, n, wins, p=1.0, p_holm=1.0)
    sd = float(difference.std(ddof=1))
    error = sd / math.sqrt(n)
    half = t_quantile(n - 1) * error
    t = mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
    p = 2 * float(stdtr(n - 1, -abs(t)))
    return PairedComparison(mean, mean - half, mean + half, sd, n, wins, p, p_holm=p)


def against(baseline: str, scores: Mapping[str, Mapping[Hashable, float]]) -> dict[str, PairedComparison]:
    """Every other recipe minus the baseline, Holm-corrected for as many comparisons as there are.

    Args:
        scores: recipe -> replicate -> score.

    Raises:
        TrainingError: no such baseline, or a recipe lacks a replicate that the baseline has, or the reverse.
    """
    if baseline not in scores:
        raise TrainingError(f"no scores of {baseline!r} to compare with; there are {', '.join(sorted(scores))}")
    replicates = list(scores[baseline])
    found = {}
    for recipe, of_recipe in scores.items():
        if recipe == baseline:
            continue
        if unshared := set(of_recipe) ^ set(replicates):
            names = ", ".join(sorted(map(str, unshared)))
            raise TrainingError(f"{recipe} and {baseline} do not share replicates {names}; only pairs are compared")
        found[recipe] = paired([of_recipe[r] for r in replicates], [scores[baseline][r] for r in replicates])
    return holm_corrected(found)


def holm_corrected(comparisons: Mapping[K, PairedComparison]) -> dict[K, PairedComparison]:
    """The same comparisons with p_holm over all of them."""
    corrected = holm([c.p for c in comparisons.values()])
    return {k: dataclasses.replace(c, p_holm=p) for (k, c), p in zip(comparisons.items(), corrected, strict=True)}


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number m: the i-th smallest times m - i + 1, never below the one before, at most 1.

    Controls the chance of any false discovery whatever the dependence (Holm 1979, "A simple sequentially rejective
    multiple test procedure"). Example: holm([0.01, 0.04, 0.03]) is [0.03, 0.06, 0.06].

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    p = np.asarray(p_values, np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values lie between 0 and 1: {list(p_values)}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(x) for x in corrected]


def bootstrap_items(a: ArrayLike, b: ArrayLike, *, seed: int, draws: int = 2000) -> Interval:
    """How far the mean of a - b could be off for the choice of test items: percentiles over paired resamples.

    Says nothing about training again with other seeds. Draw k of a seed is the same on every machine and in every
    version of NumPy: it is the raw stream of Philox under the key (seed, k).

    Args:
        a, b: float [n]: what each checkpoint scores on each item (1 right, 0 wrong), items in the same order.
        draws: how many resamples of n items.

    Raises:
        ValueError: shapes differ or are empty, or a score is not finite.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(f"paired items are two lists of one length, not {first.shape} and {second.shape}")
    difference = first - second
    if not np.isfinite(difference).all():
        raise ValueError("a score is NaN or infinite")
    n = len(difference)
    means = [difference[resample(seed, k, n)].mean() for k in range(draws)]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(difference.mean()), float(low), float(high), n)


def resample(seed: int, draw: int, n: int) -> np.ndarray:
    """int64 [n]: indices below n with replacement, for n < 2**32, a function of (seed, draw, n) alone."""
    bits = np.random.Philox(key=np.array([seed, draw], np.uint64)).random_raw(n) >> np.uint64(32)
    return ((bits * np.uint64(n)) >> np.uint64(32)).astype(np.int64)


def seeds_needed(sd: float, delta: float) -> int:
    """Replicates for a 95 % interval no wider than +- delta: the least n >= (t(.975, n - 1) sd / delta)^2.

    Example: seeds_needed(sd=1.0, delta=1.0) is 7.

    Args:
        sd: of the paired differences, from a pilot.
        delta: the difference that should show.

    Raises:
        ValueError: sd is negative, delta is not positive, or either is not finite.
    """
    if not (math.isfinite(sd) and math.isfinite(delta) and sd >= 0 and delta > 0):
        raise ValueError(f"need sd >= 0 and delta > 0, both finite; got {sd} and {delta}")
    normal = float(ndtri((1 + LEVEL) / 2))  # t is never below it: fewer than this cannot do
    n = max(2, math.floor((normal * sd / delta) ** 2))
    while n < (t_quantile(n - 1) * sd / delta) ** 2:
        n += 1
    return n


def t_quantile(degrees: int) -> float:
    """The 97.5 % point of Student's t."""
    return float(stdtrit(degrees, (1 + LEVEL) / 2))
