"""Accuracy of the worst group: regions of the world, incomes of households.

    found = worst_group(predictions.correct(), regions, minimum=100)
    found.worst, found.group, found.left_out

A group of four pictures is at 0, 25, ... % by luck, and so is a minimum over groups that has it: say how many pictures
a group needs. (DataComp's published FMoW has no such bound; its region "Other" is four pictures of 22,108, and a
quarter of the models in open_clip's table score exactly 0 there.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from training_smoke.errors import TrainingError


@dataclass(frozen=True)
class WorstGroup:
    """worst: mean of the worst group, `group`. means, counts: of the groups that count. left_out: too small, counts."""

    worst: float
    group: int
    means: dict[int, float]
    counts: dict[int, int]
    left_out: dict[int, int]


def worst_group(correct: ArrayLike, groups: ArrayLike, *, minimum: int) -> WorstGroup:
    """The lowest group mean; of equal ones the lowest group.

    Example: correct [1, 1, 0, 1, 0] in groups [0, 0, 1, 1, 2] with minimum 2: worst 0.5, group 1, left out {2: 1}.

    Args:
        correct: bool or float [n].
        groups: int [n].
        minimum: items that a group needs to count; 1 takes all.

    Raises:
        TrainingError: no group is large enough.
    """
    names, index, counts = np.unique(np.asarray(groups, np.int64), return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=np.asarray(correct, np.float64)) / counts
    enough = counts >= minimum
    if not enough.any():
        raise TrainingError(f"no group has {minimum} items; the largest has {counts.max(initial=0)}")
    lowest = int(np.where(enough, means, np.inf).argmin())
    return WorstGroup(
        worst=float(means[lowest]),
        group=int(names[lowest]),
        means={int(g): float(m) for g, m in zip(names[enough], means[enough], strict=True)},
        counts={int(g): int(c) for g, c in zip(names[enough], counts[enough], strict=True)},
        left_out={int(g): int(c) for g, c in zip(names[~enough], counts[~enough], strict=True)},
    )
