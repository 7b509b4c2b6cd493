"""Soft cap sampling: the published loop, its limits, three modes, exact totals, alike for any cut."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from filters.copies import enough
from filters.soft_cap import SoftCap, _draws, water_level
from filters.soft_cap_kernel import near
from filters.soft_cap_rounds import Batches, Rounds
from filters.weights import exponential
from stages.base import Shape
from stages.shuffle import halves
from tests.filters.sampled import copies, pool_of, uid_of, verdicts
from tests.phase_runner import PhaseRunner

MODES = ["rounds", "sequential", "one_pass"]


def times(scores: Any, shards: int = 2, cut: int | None = None, **parameters: Any) -> list[int]:
    chosen = SoftCap(over="pool", column="score", **parameters)
    return copies(verdicts(pool_of({"score": scores}, shards, cut), chosen, cut))


def published(rng: np.random.Generator, scores: np.ndarray, total: int, batch: int, alpha: float) -> np.ndarray:
    """The loop of the paper, with numpy's own draws."""
    z, found = scores.astype(float).copy(), np.zeros(len(scores), int)
    while found.sum() < total:
        size = min(batch, total - int(found.sum()))
        p = np.exp(z - z.max())
        drawn = rng.choice(len(z), size, replace=False, p=p / p.sum())
        found[drawn] += 1
        z[drawn] -= alpha
    return found


@pytest.mark.parametrize("mode", MODES)
def test_a_gap_of_three_is_twenty_copies(mode: Any) -> None:
    runs = 1 if mode == "one_pass" else 12
    gaps = []
    for seed in range(runs):
        low, high = times([0.0, 3.0], total=400, alpha=0.15, batch=1, mode=mode, seed=seed)
        assert low + high == 400
        gaps.append(high - low)
    assert abs(np.mean(gaps) - 20) <= 4 / math.sqrt(runs)  # one run scatters by 1 / sqrt(2 alpha) * sqrt(2), some 2.6


@pytest.mark.parametrize(("mode", "batch"), [("rounds", 20), ("rounds", 1), ("sequential", 1)])
def test_copies_are_spread_as_by_the_published_loop(mode: Any, batch: int) -> None:
    scores, runs = np.array([3.0, 2, 1, 0, 0, -2] * 8), 60 if batch == 20 else 12
    rng, theirs = np.random.default_rng(0), np.zeros(48)
    for _ in range(4 * runs):
        theirs += published(rng, scores, 120, batch, 0.4) / 4
    ours = sum(np.array(times(scores, total=120, alpha=0.4, batch=batch, mode=mode, seed=s)) for s in range(runs))
    assert isinstance(ours, np.ndarray)
    ours, theirs = (x.reshape(8, 6).sum(axis=0) / (8 * runs) for x in (ours, theirs))  # copies of one of each score
    assert np.abs(ours - theirs).max() < 4 * 1.0 / math.sqrt(8 * runs) + 0.02
    assert ours[:4].tolist() == sorted(ours[:4], reverse=True)


def test_one_pass_is_the_water_level() -> None:
    """z = 3, 1.5, 0 and alpha .5: 12 copies are 7, 4, 1, for c = -.5; and a total that leaves fractions is exact."""
    assert times([3.0, 1.5, 0.0], total=12, alpha=0.5, mode="one_pass") == [7, 4, 1]
    assert times([3.0, 1.5, -9.0], total=9, alpha=0.5, mode="one_pass") == [6, 3, 0]
    found = times([0.0] * 10, total=25, alpha=0.5, mode="one_pass")
    assert sorted(found) == [2] * 5 + [3] * 5
    assert times([0.0] * 10, total=25, alpha=0.5, mode="one_pass", seed=1) != found


def test_fractions_are_chances_of_a_further_copy() -> None:
    scores = np.repeat([0.0, 0.1, 0.3, 0.45], 50)  # alpha .5, so copies differ by .2, .6 and .9
    runs = [np.array(times(scores, total=400, alpha=0.5, mode="one_pass", seed=s)) for s in range(40)]
    assert all(r.sum() == 400 for r in runs)
    means = np.mean(runs, axis=0).reshape(4, 50).mean(axis=1)
    assert means == pytest.approx(2 - 0.425 + np.array([0, 0.2, 0.6, 0.9]), abs=0.04)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.integers(-50_000, 50_000), min_size=1, max_size=30),
    wanted=st.integers(1, 500),
    alpha=st.floats(0.01, 3),
)
def test_the_level_is_where_the_copies_add_up(scores: list[int], wanted: int, alpha: float) -> None:
    keys, counts = np.unique(scores, return_counts=True)
    level = water_level(keys, counts, wanted, alpha * 1e4)
    assert np.maximum(0, (np.array(scores) - level) / (alpha * 1e4)).sum() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("mode", ["rounds", "sequential"])
def test_without_alpha_it_is_drawing_with_replacement(mode: Any) -> None:
    weight = np.array([4.0, 2, 1, 1])
    counts = np.zeros(4)
    for seed in range(10):
        counts += times(np.log(weight), total=200, alpha=0, batch=1, mode=mode, seed=seed)
    expected = 2000 * weight / weight.sum()
    assert float(((counts - expected) ** 2 / expected).sum()) < 17.7  # 3 degrees of freedom, one in two thousand


@pytest.mark.parametrize("mode", ["rounds", "sequential"])
def test_with_infinite_alpha_everyone_is_drawn_before_anyone_twice(mode: Any) -> None:
    scores = np.linspace(-30, 30, 20)
    for total in (5, 20, 47):
        found = np.array(times(scores, total=total, alpha=math.inf, batch=7, mode=mode))
        assert found.sum() == total
        assert found.max() - found.min() <= 1


def test_the_best_are_drawn_first_at_a_low_temperature() -> None:
    for mode in ("rounds", "sequential"):
        assert times([5.0, 1.0, 3.0, 2.0], total=2, alpha=1e3, batch=2, temperature=1e-2, mode=mode) == [1, 0, 1, 0]
    assert times([5.0, 1.0, 3.0, 2.0], total=2, alpha=0.1, temperature=1e-2, mode="one_pass") == [2, 0, 0, 0]


@pytest.mark.parametrize("mode", MODES)
def test_verdicts(mode: Any) -> None:
    pool = pool_of({"score": [2.0, -90.0, None, 2.0, 0.0], "asked": [True, True, True, True, False]}, 2)
    chosen = SoftCap(over="survivors", column="score", fraction=1.0, alpha=0.5, batch=1, mode=mode, on_missing="drop")
    found = verdicts(pool, chosen)
    assert sum(copies(found)) == 4
    assert found[1] == {"keep": False, "reason": "not_in_soft_cap", "copies": 0}
    assert found[2] == {"keep": False, "reason": "missing", "copies": 0}
    assert found[4] == {"keep": None, "reason": None, "copies": None}
    with pytest.raises(ValueError, match=r"soft_cap: sample [0-9a-f]{32} has no 'score'.*on_missing: drop"):
        verdicts(pool, chosen.model_copy(update={"on_missing": "error"}))


@pytest.mark.parametrize("mode", MODES)
def test_nobody_to_draw(mode: Any) -> None:
    chosen = SoftCap(over="survivors", column="score", fraction=1.0, mode=mode)
    found = verdicts(pool_of({"score": [1.0, 2.0], "asked": [False, False]}), chosen)
    assert {v["keep"] for v in found.values()} == {None}
    with pytest.raises(ValueError, match="4 copies are asked for, and no sample has a weight"):
        times([0.0, 0.0], total=4, scale="linear", mode=mode)
    empty = pool_of({"score": pa.array([], pa.float32()), "asked": pa.array([], pa.bool_())})
    assert verdicts(empty, chosen) == {}


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(
        st.sampled_from([0.0, 1.0, 0.33333, -2.5, 8.0, float("nan"), float("-inf")]), min_size=1, max_size=40
    ),
    total=st.integers(1, 150),
    alpha=st.sampled_from([0.05, 0.15, 1.0, 40.0]),
    batch=st.sampled_from([1, 7, 1000]),
    mode=st.sampled_from(MODES),
    shards=st.sampled_from([1, 3, 7]),
    rows=st.integers(1, 30),
    cut=st.integers(0, 50),
)
def test_no_cut_changes_a_draw(
    scores: list[float], total: int, alpha: float, batch: int, mode: Any, shards: int, rows: int, cut: int
) -> None:
    scores = [*scores, 0.5]
    parameters = {"total": total, "alpha": alpha, "batch": batch, "mode": mode, "on_missing": "drop"}
    whole = times(scores, 1, **parameters)
    assert sum(whole) == total
    assert not any(n for n, s in zip(whole, scores, strict=True) if not np.isfinite(s))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", rows)
        assert times(scores, shards, cut, **parameters) == whole


@pytest.mark.parametrize("mode", MODES)
def test_scores_far_apart_get_the_copies_of_the_water_level(mode: Any) -> None:
    scores = np.repeat([30.0, 10.0, -200.0], 40)
    found = np.array(times(scores, total=6000, alpha=0.1, batch=40, mode=mode)).reshape(3, 40).mean(axis=1)
    assert found == pytest.approx([150, 0, 0], abs=1.5)


def test_the_kernel_draws_what_the_stage_draws() -> None:
    n = 5000
    high, low = map(np.ascontiguousarray, halves(pa.array([uid_of(i) for i in range(n)], pa.binary(16))))
    weight = np.exp(np.random.default_rng(0).normal(size=n))
    wait = exponential(3, "soft_cap:7", high, low)
    for bound in (0.0, 1e-3, 0.1, 50.0):
        found = near(high, low, 3, "soft_cap:7", weight, bound)
        assert set(np.flatnonzero(wait / weight < bound)) <= set(found.tolist())
        assert len(found) <= np.count_nonzero(wait < -np.log1p(-np.minimum(weight * bound, 1 - 1e-16)) * (1 + 1e-9))


def test_a_bound_that_is_far_off_changes_nothing() -> None:
    n = 3000
    high, low = halves(pa.array([uid_of(i) for i in range(n)], pa.binary(16)))
    score = np.random.default_rng(1).normal(size=n) * 20
    runs = []
    for bound in (0.0, 1e-300, 1e190):
        race = Batches(score, high, low, 0.15, 0)
        race._bound = bound
        race.draw(4000, 300)
        runs.append(race.copies.tolist())
    assert runs[0] == runs[1] == runs[2]
    assert sum(runs[0]) == 4000


def test_enough_is_enough() -> None:
    """By the time that bounds the work, the mean number of draws is twice what is asked for."""
    scores, counts = np.array([-3.0, 0.0, 2.0]), np.array([5, 3, 1])
    for slower in (0.0, 0.15, 5.0):
        until = enough(lambda rate, by=slower: _draws(rate, by), scores, counts, 30)
        rate = np.exp(scores + until)
        mean = rate if slower == 0 else np.log1p(slower * rate) / slower
        assert 160 <= (counts * mean).sum() <= 164
        assert len({tuple(times(scores, total=30, alpha=slower, batch=1, mode="sequential")) for _ in range(2)}) == 1


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"total": 3, "fraction": 1.0},
        {"total": 0},
        {"total": 3, "alpha": -1},
        {"total": 3, "mode": "one_pass", "alpha": 0},
        {"total": 3, "mode": "one_pass", "alpha": math.inf},
        {"total": 3, "on_missing": "keep"},
    ],
)
def test_parameters_that_say_nothing(parameters: Any) -> None:
    with pytest.raises(ValidationError):
        SoftCap(over="pool", column="score", **parameters)


def test_what_is_too_wide_or_too_many_is_said() -> None:
    for mode in ("sequential", "one_pass"):
        with pytest.raises(ValueError, match="score / temperature spreads over 3000"):
            times([0.0, 3000.0], total=3, mode=mode)
        with pytest.raises(ValueError, match="beyond 2\\^40"):
            times([0.0, 1e20], total=3, mode=mode)
    chosen = SoftCap(over="pool", column="score", fraction=1.0)
    with pytest.raises(ValueError, match="more than mode rounds can hold; use `mode: sequential`"):
        Rounds(chosen, 0.15, 100).phases(Shape((0, 1), (1 << 28, 1)))


def test_stats_say_how_far_it_went() -> None:
    pool = pool_of({"score": np.zeros(50)}, 3)
    chosen = SoftCap(over="pool", column="score", total=75, batch=20)
    runner = PhaseRunner(pool)
    runner.run(chosen)
    (stats,) = runner.stats(chosen, "rounds").values()
    assert (stats["copies"], stats["rounds"]) == (75, 4)
    assert sum(s["copies"] for s in runner.stats(chosen, "verdict").values()) == 75


def test_it_can_be_made_again_from_what_it_says_of_itself() -> None:
    for chosen in (
        SoftCap(over="pool", column="flyt", total=9, alpha=math.inf),
        SoftCap(over="pool", column="flyt", fraction=1.0, mode="one_pass"),
    ):
        assert SoftCap(**chosen.identity()["parameters"]) == chosen
