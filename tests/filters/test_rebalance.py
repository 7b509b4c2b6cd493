"""Groups by a power of their size: exact totals, copies spread evenly within a group, alike for any cut."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from filters.rebalance import Rebalance
from stages.base import Shape
from tests.filters.sampled import copies, pool_of, verdicts
from tests.phase_runner import PhaseRunner

CLUSTERS = np.repeat([3, 1, 7], [900, 90, 10])


def times(column: Any, shards: int = 2, cut: int | None = None, **parameters: Any) -> list[int]:
    chosen = Rebalance(over="pool", by="cluster", **parameters)
    return copies(verdicts(pool_of({"cluster": column}, shards, cut), chosen, cut))


def by_group(found: list[int], column: Any = CLUSTERS) -> dict[Any, int]:
    counts: Counter[Any] = Counter()
    for group, n in zip(np.asarray(column).tolist(), found, strict=True):
        counts[group] += n
    return dict(counts)


def test_power_one_keeps_the_proportions_and_zero_makes_groups_alike() -> None:
    assert by_group(times(CLUSTERS, power=1, total=500)) == {3: 450, 1: 45, 7: 5}
    assert by_group(times(CLUSTERS, power=0, total=300)) == {3: 100, 1: 100, 7: 100}
    assert times(CLUSTERS, power=1, fraction=1.0) == [1] * 1000
    assert times(CLUSTERS, power=1, fraction=2.0) == [2] * 1000


def test_a_half_goes_by_the_root_of_the_size() -> None:
    found = by_group(times(CLUSTERS, power=0.5, total=4265))
    root = np.sqrt([900, 90, 10])
    assert list(found.values()) == pytest.approx(4265 * root / root.sum(), abs=1)


def test_copies_are_even_within_a_group_and_capped() -> None:
    found = times(CLUSTERS, power=0, total=300)
    assert sorted(set(found[:900])) == [0, 1]
    assert sorted(Counter(found[900:990]).items()) == [(1, 80), (2, 10)]
    assert set(found[990:]) == {10}
    capped = times(CLUSTERS, power=0, total=300, most=3)  # ten samples give 30; the others share the rest
    assert by_group(capped) == {3: 135, 1: 135, 7: 30}
    assert max(capped) == 3


def test_more_than_there_can_be_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="rebalance: 2,001 copies are asked for, and 1,000 samples in at most 2 copies"
    ):
        times(CLUSTERS, power=0.5, total=2001, most=2)
    assert times(CLUSTERS, power=0.5, total=2000, most=2) == [2] * 1000


def test_what_makes_a_group() -> None:
    for column in (["a", "a", "b"], [True, True, False], pa.array([2**63, 2**63, 5], pa.uint64()), [-1, -1, 0]):
        found = times(column, power=0, total=4)
        assert (sum(found[:2]), found[2]) == (2, 2)
    with pytest.raises(ValueError, match="cluster is list<"):
        times([[1], [2]], power=0, total=1)


def test_verdicts_and_what_the_run_says() -> None:
    pool = pool_of({"cluster": [1, 1, None, 2], "asked": [True, True, True, False]}, 2)
    chosen = Rebalance(over="survivors", by="cluster", power=1, total=1, on_missing="drop")
    runner = PhaseRunner(pool)
    runner.run(chosen)
    assert runner.stats(chosen, "plan") == {"all": {"asked": 3, "entrants": 2, "groups": 1, "copies": 1, "largest": 1}}
    found = verdicts(pool, chosen)
    assert sorted(str(found[i]) for i in (0, 1)) == [
        "{'keep': False, 'reason': 'not_in_rebalance', 'copies': 0}",
        "{'keep': True, 'reason': None, 'copies': 1}",
    ]
    assert found[2] == {"keep": False, "reason": "missing", "copies": 0}
    assert found[3] == {"keep": None, "reason": None, "copies": None}
    with pytest.raises(ValueError, match=r"rebalance: sample [0-9a-f]{32} has no 'cluster'.*on_missing: drop"):
        verdicts(pool, chosen.model_copy(update={"on_missing": "error"}))


def test_too_many_groups_are_refused_before_they_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rebalance, "most_surveyed", 50)
    assert sum(times(np.arange(50), power=1, total=20)) == 20
    with pytest.raises(ValueError, match=r"rebalance: 'cluster' has more than 50 different values.*`cap`"):
        times(np.arange(51), power=1, total=20)
    chosen = Rebalance(over="pool", by="cluster", power=1, total=20)
    with pytest.raises(ValueError, match="more than 50 different values"):
        PhaseRunner(pool_of({"cluster": np.arange(60)}, 1)).run(chosen)


def test_what_a_part_holds_grows_by_the_root_of_the_samples() -> None:
    """Neither a count for every draw nor every draw of a bin, where there are many groups."""
    groups, size = 40, 100
    chosen = Rebalance(over="pool", by="cluster", power=1, fraction=0.5)
    runner = PhaseRunner(pool_of({"cluster": np.arange(groups * size) % groups}, 3))
    runner.run(chosen)
    root = groups * int(np.sqrt(size))
    (added,) = (output.tables for output in runner.files[chosen]["sum-0"].values())
    assert len(added) <= root + groups
    assert sum(n["near"] for n in runner.stats(chosen, "collect").values()) < 2 * root
    pool = Shape(tuple(range(10_000)), (10_000,) * 10_000)
    assert max(phase.need.memory_gb for phase in chosen.phases(pool)) == 2 + 10_240_000 * 100 // 2**30


@settings(max_examples=50, deadline=None)
@given(
    column=st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=60),
    power=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    share=st.floats(0, 1),
    most=st.integers(1, 5),
    shards=st.sampled_from([1, 3, 7]),
    rows=st.integers(1, 30),
    cut=st.integers(0, 50),
)
def test_no_cut_changes_it(
    column: list[str | None], power: float, share: float, most: int, shards: int, rows: int, cut: int
) -> None:
    column = [*column, "a"]
    total = max(1, int(share * most * sum(c is not None for c in column)))
    chosen = {"power": power, "total": total, "most": most, "on_missing": "drop"}
    whole = times(pa.array(column), 1, **chosen)
    assert sum(whole) == total
    assert max(whole) <= most
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", rows)
        assert times(pa.array(column), shards, cut, **chosen) == whole


@pytest.mark.parametrize(
    "parameters",
    [
        {"power": 0.5},
        {"power": 0.5, "total": 1, "fraction": 1},
        {"power": 2, "total": 1},
        {"power": 0, "total": 1, "most": 0},
    ],
)
def test_parameters_that_say_nothing(parameters: Any) -> None:
    with pytest.raises(ValidationError):
        Rebalance(over="pool", by="cluster", **parameters)


def test_it_can_be_made_again_from_what_it_says_of_itself() -> None:
    chosen = Rebalance(over="pool", by="domain", power=0.5, fraction=1.0)
    assert Rebalance(**chosen.identity()["parameters"]) == chosen
    assert [c.field for c in chosen.reads()] == ["url"]
