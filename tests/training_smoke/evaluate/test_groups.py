"""The worst group, and that groups too small to say anything do not count."""

from __future__ import annotations

import numpy as np
import pytest

from training_smoke.errors import TrainingError
from training_smoke.evaluate.groups import worst_group


def test_by_hand() -> None:
    found = worst_group([1, 1, 0, 1, 0], [0, 0, 1, 1, 2], minimum=2)
    assert (found.worst, found.group) == (0.5, 1)
    assert (found.means, found.counts, found.left_out) == ({0: 1.0, 1: 0.5}, {0: 2, 1: 2}, {2: 1})


def test_every_group_counts_with_one() -> None:
    found = worst_group(np.array([True, True, False, True, False]), [0, 0, 1, 1, 7], minimum=1)
    assert (found.worst, found.group, found.left_out) == (0.0, 7, {})


def test_the_lowest_of_equally_bad_ones() -> None:
    assert worst_group([0, 0, 1], [5, 3, 9], minimum=1).group == 3


def test_no_group_is_large_enough() -> None:
    with pytest.raises(TrainingError, match="no group has 3 items; the largest has 2"):
        worst_group([1, 1, 0], [0, 0, 1], minimum=3)
    with pytest.raises(TrainingError, match="the largest has 0"):
        worst_group([], [], minimum=1)
