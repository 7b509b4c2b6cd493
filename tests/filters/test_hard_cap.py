"""Hard cap sampling: with replacement, never above the limit, exact totals, alike for any cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from filters.hard_cap import HardCap
from tests.filters.sampled import copies, pool_of, verdicts


def times(scores: Any, shards: int = 2, cut: int | None = None, **parameters: Any) -> list[int]:
    chosen = HardCap(over="pool", column="score", **parameters)
    return copies(verdicts(pool_of({"score": scores}, shards, cut), chosen, cut))


def one_by_one(rng: np.random.Generator, weight: np.ndarray, total: int, most: int) -> np.ndarray:
    """With replacement; whoever has reached the limit is drawn no more."""
    found = np.zeros(len(weight), int)
    for _ in range(total):
        p = weight * (found < most)
        found[rng.choice(len(p), p=p / p.sum())] += 1
    return found


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_copies_are_spread_as_by_drawing_one_by_one(scale: Any) -> None:
    weight = np.array([16.0, 4, 2, 1, 1])
    scores = np.log(weight) if scale == "log" else weight
    runs = 120
    ours = sum(np.array(times(scores, total=12, most=4, scale=scale, seed=s)) for s in range(runs))
    rng = np.random.default_rng(0)
    theirs = sum(one_by_one(rng, weight, 12, 4) for _ in range(10 * runs)) / 10
    assert np.abs(ours - theirs).max() < 4 * 1.2 * np.sqrt(runs)


def test_a_limit_that_does_not_bind_is_drawing_with_replacement() -> None:
    weight = np.array([4.0, 2, 1, 1])
    counts = sum(np.array(times(np.log(weight), total=200, most=10_000, seed=s)) for s in range(10))
    expected = 2000 * weight / weight.sum()
    assert float(((counts - expected) ** 2 / expected).sum()) < 17.7  # 3 degrees of freedom, one in two thousand


def test_the_limit_holds_and_all_of_it_can_be_asked_for() -> None:
    scores = np.array([9.0, 8, 0, -5, -40])
    assert times(scores, total=75) == [15] * 5
    assert max(times(scores, total=60)) == 15
    assert times(scores, total=3, most=1) == [1, 1, 1, 0, 0]


def test_more_than_the_limit_allows_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"76 copies are asked for, and 5 samples .* at most 15 copies each are 75"):
        times(np.zeros(5), total=76)
    with pytest.raises(ValueError, match="31 copies are asked for, and 2 samples with a weight"):
        times([1.0, 0.0, 2.0], total=31, scale="linear")  # what has no weight does not count
    with pytest.raises(ValueError, match="30 copies are asked for, and 1 samples"):
        times([1.0, None], fraction=15.0, on_missing="drop")


def test_verdicts() -> None:
    pool = pool_of({"score": [50.0, -50.0, None, 0.0], "asked": [True, True, True, False]}, 2)
    found = verdicts(pool, HardCap(over="survivors", column="score", total=3, on_missing="drop"))
    assert found == {
        0: {"keep": True, "reason": None, "copies": 3},
        1: {"keep": False, "reason": "not_in_hard_cap", "copies": 0},
        2: {"keep": False, "reason": "missing", "copies": 0},
        3: {"keep": None, "reason": None, "copies": None},
    }


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 1.0, 0.3, -2.5, 40.0, float("nan"), float("-inf")]), min_size=1, max_size=40),
    share=st.floats(0, 1),
    most=st.integers(1, 20),
    shards=st.sampled_from([1, 3, 7]),
    rows=st.integers(1, 30),
    cut=st.integers(0, 50),
)
def test_no_cut_changes_a_draw(scores: list[float], share: float, most: int, shards: int, rows: int, cut: int) -> None:
    scores = [*scores, 0.5]
    total = max(1, int(share * most * int(np.isfinite(scores).sum())))
    whole = times(scores, 1, total=total, most=most, on_missing="drop")
    assert sum(whole) == total
    assert max(whole) <= most
    assert not any(n for n, s in zip(whole, scores, strict=True) if not np.isfinite(s))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", rows)
        assert times(scores, shards, cut, total=total, most=most, on_missing="drop") == whole


@pytest.mark.parametrize("parameters", [{}, {"total": 3, "fraction": 1.0}, {"total": 3, "most": 0}, {"fraction": 0}])
def test_parameters_that_say_nothing(parameters: Any) -> None:
    with pytest.raises(ValidationError):
        HardCap(over="pool", column="score", **parameters)


def test_it_can_be_made_again_from_what_it_says_of_itself() -> None:
    chosen = HardCap(over="pool", column="flyt", fraction=1.0, most=7, scale="linear")
    assert HardCap(**chosen.identity()["parameters"]) == chosen
