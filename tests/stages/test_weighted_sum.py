"""Weighted sums: every scale against numpy and pandas, missing values, and no bit that a cut changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
import stages.weighted_sum
from stages.base import Column, Shape, fact
from stages.phash import PHash
from stages.weighted_sum import WeightedSum
from tests.filters.sampled import pool_of
from tests.phase_runner import PhaseRunner
from tests.stages.cuts import column

RNG = np.random.default_rng(0)
SCORES = {
    "clip": np.round(RNG.normal(0.25, 0.06, 500), 4).astype(np.float32),
    "size": RNG.integers(1, 40, 500),
    "far": RNG.normal(1e6, 1e-3, 500),
}


def summed(columns: dict[str, Any], weights: dict[Any, float], shards: int = 3, **parameters: Any) -> list[Any]:
    return column(pool_of(columns, shards), WeightedSum(columns=weights, **parameters))


def close(found: list[Any], expected: Any) -> None:
    assert np.abs(np.array(found, float) - np.asarray(expected, float)).max() <= 5.1e-5


def test_as_they_are() -> None:
    weights = {"clip": 2, "size": -0.5}
    close(summed(SCORES, weights), 2 * SCORES["clip"].astype(float) - 0.5 * SCORES["size"])


def test_zscore_is_of_the_population_and_keeps_small_differences_of_large_numbers() -> None:
    expected = sum(w * (SCORES[n] - SCORES[n].astype(float).mean()) / SCORES[n].astype(float).std()
                   for n, w in {"clip": 1.0, "size": 0.25}.items())  # fmt: skip
    close(summed(SCORES, {"clip": 1, "size": 0.25}, standardise="zscore"), expected)
    far = SCORES["far"] - 1e6
    close(summed(SCORES, {"far": 1}, standardise="zscore"), (far - far.mean()) / far.std())


@pytest.mark.parametrize("tails", [0.0, 0.001, 0.1])
def test_percentiles_are_numpys(tails: float) -> None:
    low, high = np.quantile(SCORES["clip"].astype(float), [tails, 1 - tails])
    expected = np.clip((SCORES["clip"] - low) / (high - low), 0, 1)
    found = summed(SCORES, {"clip": 1}, standardise="percentile", tails=tails)
    assert np.abs(np.array(found) - expected).max() < 2e-4  # values are taken to 1e-4, of a range of some 0.4
    assert (min(found), max(found)) == (0, 1)


def test_ranks_are_those_of_pandas() -> None:
    weights = {"clip": 0.5, "size": 0.5}
    expected = sum(w * pd.Series(SCORES[n]).rank(pct=True) for n, w in weights.items())
    close(summed(SCORES, weights, standardise="rank"), expected)


@pytest.mark.parametrize("standardise", ["none", "zscore", "percentile", "rank"])
def test_a_missing_value_is_no_sum_and_counts_for_nothing(standardise: Any) -> None:
    some = {"a": [1.0, None, 3.0, float("nan"), 2.0], "b": [True, True, None, False, False]}
    found = summed(some, {"a": 1, "b": 1}, standardise=standardise)
    assert [v is None for v in found] == [False, True, True, True, False]
    only = summed({"a": [1.0, 3.0, 2.0]}, {"a": 1}, standardise=standardise)
    assert [v for v in summed(some, {"a": 1}, standardise=standardise) if v is not None] == only


@pytest.mark.parametrize("standardise", ["zscore", "percentile"])
def test_what_is_everywhere_the_same_adds_nothing(standardise: Any) -> None:
    columns = {"a": np.full(7, 0.1), "b": np.arange(7.0)}
    assert summed(columns, {"a": 5, "b": 1}, standardise=standardise) == summed(
        columns, {"b": 1}, standardise=standardise
    )


@pytest.mark.parametrize("standardise", ["none", "zscore", "percentile", "rank"])
def test_no_values_at_all(standardise: Any) -> None:
    nothing = {"a": pa.array([None, None], pa.float32())}
    assert summed(nothing, {"a": 1}, standardise=standardise) == [None, None]
    assert summed({"a": pa.array([], pa.float32())}, {"a": 1}, 1, standardise=standardise) == []


VALUES = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32), st.sampled_from([0.25, 0.3, 1e-30, float("nan")]))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(VALUES, min_size=1, max_size=50),
    standardise=st.sampled_from(["none", "zscore", "percentile", "rank"]),
    shards=st.sampled_from([1, 3, 7]),
    rows=st.integers(1, 30),
    cut=st.integers(0, 50),
)
def test_no_cut_changes_a_bit(values: list[Any], standardise: Any, shards: int, rows: int, cut: int) -> None:
    columns = {"a": pa.array(values, pa.float64()), "b": np.arange(len(values)) % 5}
    barrier = WeightedSum(columns={"a": 1, "b": -0.3}, standardise=standardise)
    whole = column(pool_of(columns), barrier)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", rows)
        assert column(pool_of(columns, shards, cut), barrier, cut) == whole


def test_the_order_of_the_columns_is_not_a_parameter() -> None:
    one, other = WeightedSum(columns={"b": 1, "a": 2}), WeightedSum(columns={"a": 2, "b": 1})
    assert one == other
    assert one.identity() == other.identity()
    assert WeightedSum(**one.identity()["parameters"]) == one


def test_columns_of_stages_are_read_by_their_names() -> None:
    given = Column(PHash(), "phash_quality")
    barrier = WeightedSum(columns=((given, 1.0), (fact("width"), 2.0)))
    assert barrier.reads() == (given, fact("width"))
    with pytest.raises(ValidationError, match="two columns named 'phash_quality'"):
        WeightedSum(columns=((given, 1.0), (fact("phash_quality"), 2.0)))


@pytest.mark.parametrize(
    ("columns", "standardise", "words"),
    [
        ({"a": ["x"]}, "none", "column 'a' is string; expected numbers"),
        ({"a": [1.0, float("inf")]}, "rank", "has a inf; rank takes finite numbers up to 1e\\+11"),
        ({"a": [1e12]}, "percentile", "percentile takes finite numbers"),
        ({"a": [1e151]}, "zscore", "zscore takes finite numbers up to 1e\\+150"),
        ({"a": [float("-inf")]}, "none", "has a -inf; none takes finite"),
    ],
)
def test_what_cannot_be_summed_is_named(columns: dict[str, Any], standardise: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        summed(columns, {"a": 1}, 1, standardise=standardise)


def test_too_many_values_to_rank_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.weighted_sum, "MOST_VALUES", 100)
    with pytest.raises(
        ValueError,
        match="weighted_sum: more than 100 different values, the most of 'b', are too many for rank",
    ):
        summed({"a": np.zeros(101), "b": np.arange(101)}, {"a": 1, "b": 1}, standardise="rank")


def test_no_part_joins_many_sums_of_many_values() -> None:
    """What stands in memory at once: a part's inputs, a few of them, and the machine is asked for room for them."""
    phases = WeightedSum(columns={"a": 1}, standardise="rank").phases(Shape(tuple(range(300)), (shuffle.ROWS,) * 300))
    total = [phase for phase in phases if phase.name.startswith("total-")]
    assert [len(phase.parts) for phase in total] == [38, 5, 1]
    assert max(len(phase.inputs(part)) for phase in total for part in phase.parts) == 8
    assert all(phase.need.memory_gb >= 2 for phase in (*total, phases[-2]))


def test_the_run_says_the_scales() -> None:
    barrier = WeightedSum(columns={"a": 1}, standardise="zscore")
    runner = PhaseRunner(pool_of({"a": [1.0, 2.0, 3.0]}, 2))
    runner.run(barrier)
    (stats,) = runner.stats(barrier, "scale").values()
    assert stats == {"a": (2.0, pytest.approx(0.81649658))}


@pytest.mark.parametrize("parameters", [{"columns": {}}, {"columns": {"a": 1}, "tails": 0.5}, {"columns": ["a"]}])
def test_parameters_that_say_nothing(parameters: Any) -> None:
    with pytest.raises(ValidationError):
        WeightedSum(**parameters)


@pytest.mark.parametrize("standardise", ["none", "zscore", "percentile", "rank"])
def test_over_survivors_it_is_that_of_a_pool_of_them_and_null_for_the_others(standardise: str) -> None:
    asked = np.arange(500) % 3 > 0
    pool = pool_of({**SCORES, "asked": asked}, 3)
    for table in pool.values():
        assert table.schema.field("asked").type == pa.bool_()
    weights = {"clip": 1.0, "size": 0.5}
    found = column(pool, WeightedSum(columns=weights, standardise=standardise, over="survivors"))
    alone = summed({n: v[asked] for n, v in SCORES.items()}, weights, standardise=standardise)
    assert [value for value, kept in zip(found, asked, strict=True) if kept] == alone
    assert {value for value, kept in zip(found, asked, strict=True) if not kept} == {None}


def test_over_the_pool_the_fingerprint_is_as_it_was() -> None:
    assert "over" not in WeightedSum(columns={"clip": 1}).identity()["parameters"]
    assert WeightedSum(columns={"clip": 1}, over="survivors").identity()["parameters"]["over"] == "survivors"
