"""Paired differences against SciPy's own, Holm against its definition, draws that any machine repeats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training_smoke.errors import TrainingError
from training_smoke.statistics import (
    against,
    bootstrap_items,
    holm,
    holm_corrected,
    paired,
    resample,
    seeds_needed,
    t_quantile,
)

SCORES = st.lists(st.integers(0, 1000).map(lambda i: i / 10), min_size=2, max_size=12)
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_the_example() -> None:
    found = paired([3, 5, 7], [1, 2, 3])
    assert (found.mean, found.sd, found.n, found.wins) == (3, 1, 3, 3)
    assert (found.low, found.high) == (pytest.approx(0.516, abs=1e-3), pytest.approx(5.484, abs=1e-3))
    assert found.p == pytest.approx(0.0351, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_like_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(1, 2, 9), rng.normal(0, 2, 9)
    found, theirs = paired(a, b), stats.ttest_rel(a, b)
    low, high = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.wins == int((a > b).sum())


@given(SCORES, st.randoms(use_true_random=False))
def test_turned_round_it_is_the_same_with_the_other_sign(a: list[float], random: object) -> None:
    b = [score + random.randint(-9, 9) / 8 for score in a]  # type: ignore[attr-defined]
    one, other = paired(a, b), paired(b, a)
    assert one.mean == pytest.approx(-other.mean)
    assert (one.low, one.p) == (pytest.approx(-other.high), pytest.approx(other.p))
    assert one.low <= one.mean <= one.high
    assert one.within_noise == (one.p >= 0.05)


def test_the_interval_leaves_out_zero_just_where_p_is_small() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        found = paired(rng.normal(0.5, 1, 6), np.zeros(6))
        assert (found.low <= 0 <= found.high) == (found.p >= 0.05)


def test_two_arms_of_one_kind_differ_by_chance_in_one_case_of_twenty() -> None:
    rng = np.random.default_rng(1)
    noise = [paired(*rng.normal(0, 1, (2, 5))).within_noise for _ in range(2000)]
    assert abs(sum(noise) - 1900) < 4 * math.sqrt(2000 * 0.05 * 0.95)


def test_one_replicate_shows_nothing() -> None:
    found = paired([50.0], [10.0])
    assert (found.mean, found.low, found.high, found.p) == (40, -math.inf, math.inf, 1)
    assert found.within_noise


def test_without_spread_the_mean_is_certain() -> None:
    same, more = paired([1, 2], [1, 2]), paired([2, 3], [1, 2])
    assert (same.low, same.high, same.p, same.within_noise) == (0, 0, 1, True)
    assert (more.low, more.high, more.p, more.within_noise) == (1, 1, 0, False)


@pytest.mark.parametrize(("a", "b"), [([1], [1, 2]), ([], []), ([[1]], [[1]]), ([math.nan], [1]), ([1], [math.inf])])
def test_what_cannot_be_paired_is_refused(a: list, b: list) -> None:
    with pytest.raises(ValueError):
        paired(a, b)
    with pytest.raises(ValueError):
        bootstrap_items(a, b, seed=0)


def test_against_a_baseline_pairs_by_replicate_and_corrects() -> None:
    scores = {
        "none": {0: 32.1, 1: 33.4, 2: 32.9},
        "dfn": {2: 45.2, 0: 45.0, 1: 46.3},  # another order
        "random": {0: 32.0, 1: 33.9, 2: 32.2},
    }
    found = against("none", scores)
    assert list(found) == ["dfn", "random"]
    assert found["dfn"].mean == pytest.approx(12.7)
    assert (found["dfn"].low, found["dfn"].high) == (pytest.approx(11.839, abs=1e-3), pytest.approx(13.561, abs=1e-3))
    assert found["dfn"].p_holm == pytest.approx(2 * found["dfn"].p)
    assert found["random"].p_holm == found["random"].p
    assert (found["dfn"].within_noise, found["random"].within_noise) == (False, True)


def test_against_names_what_is_not_paired() -> None:
    with pytest.raises(TrainingError, match=r"no scores of 'nothing'.*none"):
        against("nothing", {"none": {0: 1.0}})
    with pytest.raises(TrainingError, match="dfn and none do not share replicates 1, 2"):
        against("none", {"none": {0: 1.0, 1: 1.0}, "dfn": {0: 1.0, 2: 1.0}})
    assert against("none", {"none": {0: 1.0}}) == {}


def test_correction_can_turn_a_difference_into_noise() -> None:
    one = paired([3, 5, 7], [1, 2, 3])
    assert not one.within_noise
    assert all(c.within_noise for c in holm_corrected({"a": one, "b": one}).values())


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, math.nan])


@given(P_VALUES)
def test_holm_by_its_definition(p: list[float]) -> None:
    """Reject while the i-th smallest is at most alpha / (m - i + 1): the corrected value is the least such alpha."""
    corrected, m = holm(p), len(p)
    for alpha in (0.01, 0.05, 0.3, 0.999):
        rejected = set()
        for i, k in enumerate(sorted(range(m), key=lambda k: p[k])):
            if p[k] * (m - i) > alpha:
                break
            rejected.add(k)
        assert {k for k in range(m) if corrected[k] <= alpha} == rejected
    assert all(own <= c <= min(1, own * m) + 1e-12 for own, c in zip(p, corrected, strict=True))


def test_draws_are_the_same_everywhere() -> None:
    drawn = [8, 2, 4, 4, 0, 6, 2, 6, 0, 7]
    assert resample(7, 0, 10).tolist() == drawn
    assert resample(7, 1, 10).tolist() != drawn
    assert resample(8, 0, 10).tolist() != drawn


def test_draws_are_even() -> None:
    counts = np.bincount(np.concatenate([resample(3, k, 50) for k in range(2000)]), minlength=50)
    assert len(counts) == 50
    assert np.abs(counts - 2000).max() < 4.5 * math.sqrt(2000)


def test_bootstrap_of_items_agrees_with_the_normal_interval() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(4000) < 0.46, rng.random(4000) < 0.44
    found = bootstrap_items(a, b, seed=5)
    half = t_quantile(3999) * np.std(a * 1.0 - b, ddof=1) / math.sqrt(4000)
    assert (found.mean, found.n) == (pytest.approx((a * 1.0 - b).mean()), 4000)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.07)
    assert found == bootstrap_items(a, b, seed=5)
    assert found != bootstrap_items(a, b, seed=6)


def test_bootstrap_of_equal_items_has_no_width() -> None:
    found = bootstrap_items([2, 3, 4], [1, 2, 3], seed=0, draws=20)
    assert (found.mean, found.low, found.high) == (1, 1, 1)


def test_pairing_narrows_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    easy = rng.random(3000) < 0.5
    better = easy | (rng.random(3000) < 0.05)
    together = bootstrap_items(better, easy, seed=0, draws=400)
    apart = bootstrap_items(better, rng.permutation(easy), seed=0, draws=400)
    assert together.high - together.low < (apart.high - apart.low) / 2


def test_seeds_needed_by_hand() -> None:
    assert seeds_needed(sd=1.0, delta=1.0) == 7
    assert seeds_needed(sd=0.0, delta=1.0) == 2
    with pytest.raises(ValueError, match="delta"):
        seeds_needed(1.0, 0.0)
    with pytest.raises(ValueError, match="sd"):
        seeds_needed(math.nan, 1.0)


@given(st.floats(0.01, 20), st.floats(0.1, 5))
def test_seeds_needed_is_the_least_that_will_do(sd: float, delta: float) -> None:
    def half(n: int) -> float:
        return t_quantile(n - 1) * sd / math.sqrt(n)

    n = seeds_needed(sd, delta)
    assert half(n) <= delta * (1 + 1e-9)
    assert n == 2 or half(n - 1) > delta * (1 - 1e-9)
