"""The label model: votes by cut points, accuracies recovered from agreement alone, alike for any cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from stages.label_model import DROP, KEEP, LabelModel, Vote, fitted, probability, together
from tests.filters.sampled import pool_of
from tests.phase_runner import PhaseRunner
from tests.stages.cuts import column

RIGHT = np.array([0.9, 0.75, 0.6, 0.8, 0.5])  # of five operators' votes
CAST = np.array([0.9, 0.5, 0.8, 0.4, 0.7])  # of the samples that they vote on


def planted(n: int, keep_share: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(good, votes): bool (n,), and votes that are right as often as planted, whatever the sample."""
    rng = np.random.default_rng(seed)
    good = rng.random(n) < keep_share
    right = rng.random((n, 5)) < RIGHT
    votes = np.where(right == good[:, None], 1, -1) * (rng.random((n, 5)) < CAST)
    return good, votes.astype(np.int8)


def model_of(votes: np.ndarray, keep_share: float = 0.5) -> np.ndarray:
    counts = together(votes)
    size = 2 * votes.shape[1]
    return fitted(counts[:-1].reshape(size, size), int(counts[-1]), keep_share)


@pytest.mark.parametrize("keep_share", [0.5, 0.3])
def test_accuracies_are_recovered_from_agreement_alone(keep_share: float) -> None:
    _, votes = planted(60_000, keep_share)
    chances = model_of(votes, keep_share).reshape(5, 2, 2)
    assert chances[:, KEEP, KEEP] == pytest.approx(RIGHT * CAST, abs=0.03)
    assert chances[:, DROP, DROP] == pytest.approx(RIGHT * CAST, abs=0.03)
    assert chances[:, KEEP, DROP] == pytest.approx((1 - RIGHT) * CAST, abs=0.03)


def test_it_knows_better_than_the_majority_and_nearly_as_well_as_who_knows_the_accuracies() -> None:
    good, votes = planted(40_000)
    found = probability(votes, model_of(votes), 0.5)
    best = np.stack([CAST * (1 - RIGHT), CAST * RIGHT, CAST * RIGHT, CAST * (1 - RIGHT)]).T.reshape(10, 2)[:, ::-1]
    known = probability(votes, best, 0.5)
    total = votes.sum(axis=1)
    majority = np.where(total == 0, 0.5, (total > 0) == good).mean()
    ours, theirs = (((p > 0.5) == good).mean() for p in (found, known))
    assert ours > majority + 0.02
    assert ours > theirs - 0.005


def test_probabilities_mean_what_they_say() -> None:
    good, votes = planted(60_000, 0.4)
    found = probability(votes, model_of(votes, 0.4), 0.4)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        here = (found >= low) & (found < low + 0.2)
        assert abs(good[here].mean() - found[here].mean()) < 0.05


def test_who_only_guesses_hardly_counts() -> None:
    _, votes = planted(60_000)
    says = np.log(model_of(votes).reshape(5, 2, 2))
    weight = np.abs(says[:, :, KEEP] - says[:, :, DROP]).max(axis=1)
    assert weight[4] < 0.15 < weight[2] < weight[1] < weight[0]


@pytest.mark.parametrize(
    ("cuts", "expected"),
    [
        ({"drop_below": 2, "keep_above": 4}, [-1, 0, 0, 1, 1, 0]),
        ({"drop_below": 2}, [-1, 0, 0, 0, 0, 0]),
        ({"keep_above": 4}, [0, 0, 0, 1, 1, 0]),
        ({"drop_above": 4, "keep_below": 2}, [1, 1, 0, 0, -1, 0]),
        ({"drop_below": 2, "keep_above": 3, "keep_below": 4, "drop_above": 4}, [-1, 0, 1, 1, -1, 0]),
        ({"drop_below": 3, "keep_above": 3}, [-1, -1, 1, 1, 1, 0]),
    ],
)
def test_votes_by_cut_points(cuts: dict[str, float], expected: list[int]) -> None:
    table = pa.table({"a": [1.0, 2.0, 3.0, 4.0, 5.0, None]})
    assert Vote(column="a", **cuts).cast(table).tolist() == expected


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_what_is_written_as_the_cut_is_at_the_cut(kind: Any) -> None:
    """A score of 0.24 is at least 0.24 and not below it, though float32's is less than the recipe's."""
    for n in range(1, 100):
        table = pa.table({"a": pa.array(np.array([n / 100]).astype(kind))})
        assert Vote(column="a", drop_below=n / 100, keep_above=n / 100).cast(table).tolist() == [1]
        assert Vote(column="a", keep_below=n / 100, drop_above=n / 100).cast(table).tolist() == [1]
    table = pa.table({"a": pa.array([0.2399, 0.24, 0.2401], pa.float32())})
    assert Vote(column="a", drop_below=0.24, keep_above=0.2401).cast(table).tolist() == [-1, 0, 1]
    assert Vote(column="a", drop_below=-1e300, keep_above=1e300).cast(table).tolist() == [0, 0, 0]


def test_truth_values_vote_and_words_do_not() -> None:
    vote = Vote(column="a", drop_below=1, keep_above=1)
    assert vote.cast(pa.table({"a": [True, False, None]})).tolist() == [1, -1, 0]
    with pytest.raises(ValueError, match="column 'a' is string"):
        vote.cast(pa.table({"a": ["x"]}))


VOTES = tuple(Vote(column=f"c{i}", drop_below=0, keep_above=1) for i in range(5))


def scores(votes: np.ndarray) -> dict[str, Any]:
    """Columns whose votes are these: below 0, at least 1, or nothing."""
    values = np.where(votes == 0, np.nan, votes * 2.0)
    return {f"c{i}": values[:, i] for i in range(5)}


def test_the_column_and_what_the_run_says_of_the_operators() -> None:
    _, votes = planted(4000)
    votes[7] = 0
    barrier = LabelModel(votes=VOTES, keep_share=0.5, name="vote")
    runner = PhaseRunner(pool_of(scores(votes), 3))
    runner.run(barrier)
    found = column(pool_of(scores(votes), 3), barrier)
    assert found == np.round(probability(votes, model_of(votes), 0.5), 4).astype(np.float32).tolist()
    assert found[7] == 0.5
    (stats,) = runner.stats(barrier, "model").values()
    assert stats["samples"] == 4000
    assert stats["operators"]["0 c0"]["right"] == pytest.approx(0.9, abs=0.06)
    assert stats["operators"]["3 c3"]["votes"] == pytest.approx(0.4, abs=0.03)


@settings(max_examples=15, deadline=None)
@given(
    votes=st.lists(st.tuples(*[st.sampled_from([-1, 0, 1])] * 5), min_size=1, max_size=40),
    shards=st.sampled_from([1, 3, 7]),
    rows=st.integers(1, 30),
    cut=st.integers(0, 50),
)
def test_no_cut_changes_a_bit(votes: list[Any], shards: int, rows: int, cut: int) -> None:
    barrier = LabelModel(votes=VOTES)
    columns = scores(np.array(votes, np.int8))
    whole = column(pool_of(columns), barrier)
    assert all(0 <= p <= 1 for p in whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", rows)
        assert column(pool_of(columns, shards, cut), barrier, cut) == whole


def test_an_empty_pool() -> None:
    barrier = LabelModel(votes=VOTES)
    assert column(pool_of({f"c{i}": pa.array([], pa.float32()) for i in range(5)}), barrier) == []


@pytest.mark.parametrize(
    "cuts",
    [
        {},
        {"drop_below": 2, "keep_above": 1},
        {"keep_above": 3, "drop_above": 2},
        {"keep_below": 5, "drop_above": 4},
        {"drop_below": float("nan")},
    ],
)
def test_cut_points_that_contradict_each_other(cuts: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Vote(column="a", **cuts)


def test_two_operators_are_too_few() -> None:
    with pytest.raises(ValidationError):
        LabelModel(votes=VOTES[:2])


def test_it_can_be_made_again_from_what_it_says_of_itself() -> None:
    barrier = LabelModel(votes=VOTES, keep_share=0.3)
    assert LabelModel(**barrier.identity()["parameters"]) == barrier
    twice = LabelModel(votes=(*VOTES, Vote(column="c0", drop_below=5)))
    assert len(twice.reads()) == 5
