"""Whole shares of a total, and how a group gives its share: what `mix` and `rebalance` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from filters.races import BINS, Laps, Runners
from stages.shuffle import Arrays

Weights = Sequence[Fraction | int]


def apportioned(total: int, weights: Weights) -> list[int]:
    """`total` in whole parts by weight: each rounded down, then one more for the largest remainders, the first of ties.

    Example:
        apportioned(10, [1, 1, 1])      # [4, 3, 3]
    """
    whole = sum(weights)
    exact = [divmod(total * w, whole) for w in weights]
    parts = [int(part) for part, _ in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: (-exact[i][1], i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def filled(total: int, weights: Weights, have: Sequence[int]) -> list[int]:
    """`total` by weight, where no part is larger than there is; what one lacks the others give by their weights.

    Args:
        have: at most so much of each; those with a weight have `total` together, at least.
    """
    parts = [0] * len(have)
    left, more = total, [i for i, w in enumerate(weights) if w]
    while more:
        shares = dict(zip(more, apportioned(left, [weights[i] for i in more]), strict=True))
        full = {i for i in more if shares[i] >= have[i]}
        for i in full or more:
            parts[i] = have[i] if full else shares[i]
            left -= parts[i]
        more = [i for i in more if i not in full] if full else []
    return parts


def roots(plan: Arrays) -> np.ndarray:
    """float64, one a race: bins of time by the root of how many there are, so that counts and a bin's draws are alike.

    Of n samples in g groups both are at most sqrt(n * g), as long as no group has more than the square of `BINS`.
    """
    return np.clip(np.ceil(np.sqrt(plan["there"])), 1, BINS)


def evenly(runners: Runners, plan: Arrays, draws: np.ndarray) -> tuple[np.ndarray, Laps]:
    """(certain, laps) of groups that give `places` copies of the `there` samples that they have.

    Each sample goes on as often as all of them can; for what is left those with the smallest draws go once more.
    """
    there, places = (plan[name][runners.race] for name in ("there", "places"))
    return places // np.maximum(there, 1) * (places > there), [(np.arange(len(draws)), draws)]
