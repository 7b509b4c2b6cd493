"""Sources by weight: whole shares that add up, what becomes of those that fall short, alike for any cut."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from filters.mix import Mix
from filters.shares import apportioned, filled
from stages.draws import uniform
from tests.filters.sampled import copies, kept, pool_of, uid_of, verdicts
from tests.phase_runner import PhaseRunner

LISTS = ["a"] * 60 + ["b"] * 30 + ["c"] * 10


def mixed(shares: dict[Any, float], column: Any = LISTS, shards: int = 2, **parameters: Any) -> list[int]:
    chosen = Mix(over="pool", by="list", shares=shares, **parameters)
    return copies(verdicts(pool_of({"list": column}, shards), chosen))


def by_list(times: list[int], column: Any = LISTS) -> dict[Any, int]:
    counts: Counter[Any] = Counter()
    for name, n in zip(column, times, strict=True):
        counts[name] += n
    return dict(counts)


def test_shares_of_a_total() -> None:
    times = mixed({"a": 2, "b": 1, "c": 1}, samples=40)
    assert by_list(times) == {"a": 20, "b": 10, "c": 10}
    assert set(times) == {0, 1}


def test_without_a_total_the_scarcest_source_decides() -> None:
    assert by_list(mixed({"a": 0.6, "b": 0.2, "c": 0.2})) == {"a": 30, "b": 10, "c": 10}
    assert by_list(mixed({"a": 0.9, "c": 0.1})) == {"a": 60, "b": 0, "c": 6}
    nine_to_one = ["x"] * 900 + ["y"] * 100  # 0.1 is a tenth here, though no float is
    assert by_list(mixed({"x": 0.9, "y": 0.1}, nine_to_one), nine_to_one) == {"x": 900, "y": 100}


def test_a_source_without_samples_is_no_silent_end_of_the_mix() -> None:
    with pytest.raises(ValueError, match="no samples with 'C', 'nowhere', so that there is no mix in these shares"):
        mixed({"a": 1, "C": 1, "nowhere": 1})
    assert by_list(mixed({"a": 1, "C": 0}))["a"] == 60


def test_what_falls_short_is_named_with_what_to_do() -> None:
    with pytest.raises(ValueError) as e:
        mixed({"a": 1, "b": 1, "c": 1, "nowhere": 1}, samples=160)
    words = str(e.value)
    assert "'b' has 30 of 40 (10 short); 'c' has 10 of 40 (30 short); 'nowhere' has 0 of 40 (40 short)" in words
    assert "hold for 0 samples" in words
    assert "'a'" not in words
    assert "`short: repeat`" in words


def test_repeat_writes_copies_evenly() -> None:
    times = mixed({"a": 1, "c": 1}, samples=50, short="repeat")
    assert by_list(times) == {"a": 25, "b": 0, "c": 25}
    assert sorted(times[90:]) == [2] * 5 + [3] * 5
    assert sorted(mixed({"c": 1}, samples=30, short="repeat")[90:]) == [3] * 10
    with pytest.raises(ValueError, match=r"'nowhere' has 0 of 25.*nothing to repeat"):
        mixed({"a": 1, "nowhere": 1}, samples=50, short="repeat")


def test_fill_takes_more_of_the_others() -> None:
    assert by_list(mixed({"a": 1, "b": 1, "c": 1}, samples=90, short="fill")) == {"a": 50, "b": 30, "c": 10}
    with pytest.raises(ValueError, match="all of them together have too few"):
        mixed({"a": 1, "b": 1, "c": 0}, samples=95, short="fill")


def test_less_is_less() -> None:
    assert by_list(mixed({"a": 1, "c": 1}, samples=60, short="less")) == {"a": 30, "b": 0, "c": 10}


def test_verdicts_and_what_the_run_says() -> None:
    pool = pool_of({"list": ["a", "b", None, "a"], "asked": [True, True, True, False]}, 2)
    chosen = Mix(over="survivors", by="list", shares={"a": 1}, on_missing="drop")
    found = verdicts(pool, chosen)
    assert found == {
        0: {"keep": True, "reason": None, "copies": 1},
        1: {"keep": False, "reason": "not_in_mix", "copies": 0},
        2: {"keep": False, "reason": "missing", "copies": 0},
        3: {"keep": None, "reason": None, "copies": None},
    }
    runner = PhaseRunner(pool)
    runner.run(chosen)
    assert runner.stats(chosen, "plan") == {"all": {"asked": 3, "entrants": 1, "there": [1], "places": [1]}}
    with pytest.raises(ValueError, match=r"mix: sample [0-9a-f]{32} has no 'list'.*on_missing: drop"):
        verdicts(pool, chosen.model_copy(update={"on_missing": "error"}))


def test_the_smallest_draws_of_a_source_stay() -> None:
    few, many = (mixed({"a": 1}, samples=n) for n in (7, 25))
    draws = uniform(0, "mix", pa.array([uid_of(i) for i in range(60)], pa.binary(16)))
    assert np.flatnonzero(few).tolist() == sorted(np.argsort(draws)[:7].tolist())
    assert set(np.flatnonzero(few)) < set(np.flatnonzero(many))
    assert mixed({"a": 1}, samples=7, seed=1) != few


@pytest.mark.parametrize("column", [pa.array([1, 2, 2]), pa.array(["1", "2", "2"]).dictionary_encode()])
def test_numbers_and_truth_values_are_named_as_they_are_written(column: Any) -> None:
    assert mixed({1: 1, 2: 1}, column, samples=2)[0] == 1
    assert sum(mixed({True: 1}, pa.array([True, False, True]))) == 2
    with pytest.raises(ValueError, match="column 'list' is double"):
        mixed({"1": 1}, pa.array([1.0]))


@pytest.mark.parametrize(
    "shares", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": "3"}, {"a": True}, {"a": float("nan")}, ["a"], "a"]
)
def test_shares_that_say_nothing(shares: Any) -> None:
    with pytest.raises(ValidationError):
        Mix(over="pool", by="list", shares=shares)


WEIGHTS = st.lists(st.fractions(0, 5, max_denominator=20), min_size=1, max_size=6).filter(any)


@given(total=st.integers(0, 1000), weights=WEIGHTS)
def test_parts_add_up_and_are_rounded_by_less_than_one(total: int, weights: list[Fraction]) -> None:
    parts = apportioned(total, weights)
    assert sum(parts) == total
    assert all(abs(p - total * w / sum(weights)) < 1 for p, w in zip(parts, weights, strict=True))


@given(weights=WEIGHTS, have=st.lists(st.integers(0, 40), min_size=6, max_size=6), share=st.floats(0, 1))
def test_filling_never_takes_more_than_there_is(weights: list[Fraction], have: list[int], share: float) -> None:
    have = have[: len(weights)]
    total = int(share * sum(n for n, w in zip(have, weights, strict=True) if w))
    parts = filled(total, weights, have)
    assert sum(parts) == total
    assert all(p <= n for p, n in zip(parts, have, strict=True))
    assert not any(p for p, w in zip(parts, weights, strict=True) if not w)


@settings(max_examples=50, deadline=None)
@given(
    column=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=60),
    samples=st.integers(1, 80),
    short=st.sampled_from(["repeat", "less"]),
    shards=st.sampled_from([1, 3, 7]),
    rows=st.integers(1, 30),
    cut=st.integers(0, 50),
)
def test_no_cut_changes_a_mix(
    column: list[str | None], samples: int, short: Any, shards: int, rows: int, cut: int
) -> None:
    shares = {name: 1.5 if name == "a" else 1 for name in ("a", "b") if name in column} or {"c": 1}
    chosen = Mix(over="pool", by="list", shares=shares, samples=samples, short=short, on_missing="drop")
    pools = (
        pool_of({"list": pa.array(column, pa.string())}),
        pool_of({"list": pa.array(column, pa.string())}, shards, cut),
    )
    try:
        whole = verdicts(pools[0], chosen)
    except ValueError:  # nothing to repeat: then no cut has anything either
        with pytest.raises(ValueError, match="nothing to repeat"):
            verdicts(pools[1], chosen, cut)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", rows)
        assert verdicts(pools[1], chosen, cut) == whole
    if short == "repeat":
        assert sum(copies(whole)) == samples
    assert kept(whole) <= {i for i, name in enumerate(column) if name in shares}


def test_it_can_be_made_again_from_what_it_says_of_itself() -> None:
    chosen = Mix(over="pool", by="list", shares={"b": 1, "a": 2})
    assert Mix(**chosen.identity()["parameters"]) == chosen == Mix(over="pool", by="list", shares={"a": 2, "b": 1})
