"""AUROC: the chance of the right order, over all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.auroc import auroc


def test_auroc_counts_ties_as_half() -> None:
    good = np.array([True, True, False, False, False])
    assert auroc(np.array([3.0, 1, 1, 0, 2]), good) == pytest.approx((3 + 1.5) / 6)
    assert auroc(np.zeros(5), good) == 0.5
    assert math.isnan(auroc(np.zeros(2), np.array([True, True])))


@given(rows=st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_it_is_what_all_pairs_say(rows: list[tuple[int, bool]]) -> None:
    score, good = (np.array(values) for values in zip(*rows, strict=True))
    apart = score[good][:, None] - score[~good][None, :]
    expected = ((apart > 0) + 0.5 * (apart == 0)).mean() if apart.size else math.nan
    assert auroc(score, good) == pytest.approx(expected, nan_ok=True)
