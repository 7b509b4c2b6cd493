"""Gumbel-top-k: by log weight and by weight, alike for any cut, with the chances of drawing one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from filters.random_subset import RandomSubset
from filters.sample_by import SampleBy
from tests.filters.sampled import kept, pool_of, verdicts


def drawn(scores: Any, shards: int = 1, cut: int | None = None, **parameters: Any) -> set[int]:
    chosen = SampleBy(over="pool", column="score", **parameters)
    return kept(verdicts(pool_of({"score": scores}, shards, cut), chosen, cut))


def one_after_another(rng: np.random.Generator, weight: np.ndarray, k: int) -> np.ndarray:
    """Successive sampling without replacement, as its definition says."""
    left, found = weight.astype(float).copy(), np.zeros(len(weight))
    for _ in range(k):
        i = rng.choice(len(left), p=left / left.sum())
        found[i], left[i] = 1, 0
    return found


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_chances_are_those_of_drawing_one_after_another(scale: Any) -> None:
    weight = np.array([8.0, 4, 2, 1, 1, 0.5])
    scores = np.log(weight) if scale == "log" else weight
    runs = 600
    ours = np.zeros(6)
    pool = pool_of({"score": scores})
    for seed in range(runs):
        ours[list(kept(verdicts(pool, SampleBy(over="pool", column="score", samples=3, scale=scale, seed=seed))))] += 1
    rng = np.random.default_rng(0)
    theirs = sum(one_after_another(rng, weight, 3) for _ in range(4 * runs)) / 4
    assert np.abs(ours - theirs).max() < 4 * np.sqrt(runs / 4 * 1.25)


def test_equal_weights_are_a_uniform_draw() -> None:
    """DSIR where the target is the raw pool: all log weights are 0."""
    n, runs = 40, 400
    counts = np.zeros(n)
    pool = pool_of({"score": np.zeros(n)})
    for seed in range(runs):
        counts[list(kept(verdicts(pool, SampleBy(over="pool", column="score", fraction=0.25, seed=seed))))] += 1
    assert counts.sum() == n // 4 * runs
    expected = runs / 4
    chi_square = float(((counts - expected) ** 2 / (expected * 0.75)).sum()) * (n - 1) / n
    assert chi_square < 75  # 39 degrees of freedom: one in two thousand is above


def test_a_low_temperature_takes_the_best_and_a_high_one_anyone() -> None:
    scores = np.arange(100) / 10
    assert drawn(scores, samples=10, temperature=1e-3) == set(range(90, 100))
    runs = [drawn(scores, samples=10, temperature=1e6, seed=s) for s in range(40)]
    assert 35 < np.mean([i for r in runs for i in r]) < 64


def test_a_smaller_draw_lies_within_a_larger_one() -> None:
    scores = np.random.default_rng(2).normal(size=300)
    few, many = drawn(scores, samples=40), drawn(scores, samples=90)
    assert few < many
    assert (len(few), len(many)) == (40, 90)
    assert drawn(scores, samples=40, seed=1) != few


def test_what_has_no_weight_is_never_drawn() -> None:
    found = verdicts(
        pool_of({"score": [0.0, 2.0, 0.0, 1.0]}), SampleBy(over="pool", column="score", samples=3, scale="linear")
    )
    assert kept(found) == {1, 3}
    assert found[0] == found[2] == {"keep": False, "reason": "not_in_sample_by"}
    log = verdicts(pool_of({"score": [float("-inf"), 0.0]}), SampleBy(over="pool", column="score", samples=2))
    assert kept(log) == {1}


def test_only_those_asked() -> None:
    pool = pool_of({"score": np.zeros(20), "asked": [i % 2 == 0 for i in range(20)]}, 3)
    found = verdicts(pool, SampleBy(over="survivors", column="score", fraction=0.5))
    assert len(kept(found)) == 5
    assert all(found[i] == {"keep": None, "reason": None} for i in range(1, 20, 2))


@pytest.mark.parametrize(("policy", "expected"), [("drop", (False, "missing")), ("keep", (True, None))])
def test_missing_scores_follow_the_policy(policy: Any, expected: tuple[bool, str | None]) -> None:
    pool = pool_of({"score": [1.0, None, float("nan"), 2.0]}, 2)
    found = verdicts(pool, SampleBy(over="pool", column="score", samples=2, on_missing=policy))
    assert {tuple(found[i].values()) for i in (1, 2)} == {expected}
    assert {0, 3} <= kept(found)
    with pytest.raises(ValueError, match=r"has no 'score'.*on_missing: drop"):
        drawn([1.0, None], samples=1)


@pytest.mark.parametrize(
    ("scores", "scale", "words"),
    [
        ([1.0, float("inf")], "log", "score is inf; a score must be finite"),
        ([1.0, -0.5], "linear", "score is -0.5; a weight must be finite and not below 0; `scale: log`"),
        (["a", "b"], "log", "column 'score' is string; expected numbers"),
    ],
)
def test_what_is_no_weight_is_named(scores: Any, scale: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        drawn(scores, samples=1, scale=scale)


@pytest.mark.parametrize("parameters", [{}, {"samples": 3, "fraction": 0.5}, {"samples": 3, "temperature": 0}])
def test_parameters_that_say_nothing(parameters: Any) -> None:
    with pytest.raises(ValidationError):
        SampleBy(over="pool", column="score", **parameters)


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, -3.5, 2.0, 0.25, float("nan"), float("-inf")]), min_size=1, max_size=50),
    fraction=st.floats(0.05, 1),
    shards=st.sampled_from([1, 3, 7]),
    rows=st.integers(1, 30),
    cut=st.integers(0, 50),
)
def test_no_cut_changes_a_pick(scores: list[float], fraction: float, shards: int, rows: int, cut: int) -> None:
    whole = drawn(scores, fraction=fraction, on_missing="drop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", rows)
        assert drawn(scores, shards, cut, fraction=fraction, on_missing="drop") == whole


def test_it_is_no_other_filters_draw() -> None:
    """With equal weights the draws are not those of `random_subset`: one after the other they stay independent."""
    pool = pool_of({"score": np.zeros(2000)})
    subset = kept(verdicts(pool, RandomSubset(over="pool", samples=1000)))
    both = len(subset & drawn(np.zeros(2000), samples=1000))
    assert 420 < both < 580


def test_it_can_be_made_again_from_what_it_says_of_itself() -> None:
    chosen = SampleBy(over="pool", column="dsir", fraction=0.2, temperature=0.5)
    assert SampleBy(**chosen.identity()["parameters"]) == chosen
