"""At most so many of a key: the declared best, else a draw; alike for any cut; and what has no key."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from filters.cap import Cap
from stages.draws import hash64
from tests.filters.sampled import kept, pool_of, uid_of, verdicts


def stay(columns: dict[str, Any], shards: int = 1, cut: int | None = None, **parameters: Any) -> set[int]:
    chosen = Cap(over="pool", **parameters)
    return kept(verdicts(pool_of(columns, shards, cut), chosen, cut))


def test_the_best_of_each_key_stay() -> None:
    columns = {"site": ["a", "a", "b", "a", "b"], "score": [0.1, 0.3, 0.5, 0.2, 0.4]}
    found = verdicts(pool_of(columns, 2), Cap(over="pool", by="site", most=2, prefer=("score desc",)))
    assert kept(found) == {1, 2, 3, 4}
    assert found[0] == {"keep": False, "reason": "over_cap"}
    assert stay(columns, by="site", most=1, prefer=("score asc",)) == {0, 4}
    assert stay(columns, by="site", most=3) == {0, 1, 2, 3, 4}


def test_a_product_of_columns_then_the_next_entry() -> None:
    columns = {"k": [1] * 4, "w": [2, 3, 6, 1], "h": [3, 2, 1, 1], "score": [0.1, 0.9, 0.5, 1.0]}
    assert stay(columns, by="k", most=1, prefer=("w * h desc", "score desc")) == {1}
    assert stay(columns, by="k", most=2, prefer=("w * h desc", "score desc")) == {1, 2}


def test_without_a_preference_it_is_a_draw() -> None:
    columns = {"k": np.zeros(400, np.int64)}
    few, many = stay(columns, by="k", most=50), stay(columns, by="k", most=120)
    assert (len(few), len(many)) == (50, 120)
    assert few < many
    assert stay(columns, by="k", most=50, seed=1) != few
    uid = pa.array([uid_of(i) for i in range(400)], pa.binary(16))
    assert few == set(np.argsort(hash64(0, "cap", uid))[:50].tolist())


def test_ties_of_the_preference_are_drawn_and_missing_values_are_worst() -> None:
    columns = {"k": [7] * 9, "score": [1.0] * 6 + [None, float("nan"), 2.0]}
    chosen = stay(columns, by="k", most=3, prefer=("score desc",))
    assert 8 in chosen
    assert not chosen & {6, 7}
    assert len({frozenset(stay(columns, by="k", most=3, prefer=("score desc",), seed=s)) for s in range(9)}) > 2


@pytest.mark.parametrize(
    ("by", "column", "values", "groups"),
    [
        ("text_clean", "text", ["a b", " a  b ", "a b c", "A b"], [{0, 1}, {2}, {3}]),
        ("domain", "url", ["http://www.x.org/1", "https://X.org/2", "http://y.org"], [{0, 1}, {2}]),
        ("phash64", "phash64", pa.array([2**63 + 1, 2**63 + 1, 5], pa.uint64()), [{0, 1}, {2}]),
        ("flag", "flag", [True, False, True], [{0, 2}, {1}]),
    ],
)
def test_what_counts_as_the_same(by: str, column: str, values: Any, groups: list[set[int]]) -> None:
    found = stay({column: values}, by=by, most=1)
    assert [len(found & group) for group in groups] == [1] * len(groups)


def test_what_has_no_key() -> None:
    columns = {"site": ["a", "", None, "a", ""]}
    with pytest.raises(ValueError, match=r"cap: sample [0-9a-f]{32} has no 'site'.*on_missing: keep"):
        stay(columns, by="site", most=1)
    found = verdicts(pool_of(columns), Cap(over="pool", by="site", most=1, on_missing="keep"))
    assert {1, 2, 4} < kept(found)
    assert len(kept(found)) == 4
    found = verdicts(pool_of(columns), Cap(over="pool", by="site", most=1, on_missing="drop"))
    assert [found[i]["reason"] for i in (1, 2, 4)] == ["missing"] * 3


def test_only_survivors_count() -> None:
    columns = {"site": ["a"] * 4, "score": [4.0, 3, 2, 1], "asked": [False, True, True, True]}
    found = verdicts(pool_of(columns, 2), Cap(over="survivors", by="site", most=2, prefer=("score desc",)))
    assert kept(found) == {1, 2}
    assert found[0] == {"keep": None, "reason": None}
    pool = pool_of(columns | {"asked": [False] * 4}, 2)
    assert set(map(str, verdicts(pool, Cap(over="survivors", by="site", most=2)).values())) == {
        "{'keep': None, 'reason': None}"
    }


def test_a_key_that_everybody_has_sends_no_more_than_the_cap() -> None:
    from tests.phase_runner import PhaseRunner

    pool = pool_of({"site": ["a"] * 3000}, 3)
    chosen, runner = Cap(over="pool", by="site", most=5), PhaseRunner(pool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", 1000)
        runner.run(chosen)
        assert [s["candidates"] for s in runner.stats(chosen, "best").values()] == [5, 5, 5]


def plain(keys: list[Any], scores: list[float], most: int) -> set[int]:
    """The same by a sort."""
    draws = hash64(0, "cap", pa.array([uid_of(i) for i in range(len(keys))], pa.binary(16)))
    groups = defaultdict(list)
    for i, key in enumerate(keys):
        groups[key].append(i)
    best = (sorted(g, key=lambda i: (-scores[i], draws[i]))[:most] for g in groups.values())
    return {i for g in best for i in g}


@settings(max_examples=60, deadline=None)
@given(
    keys=st.lists(st.sampled_from(["a", "b", "c", "dd"]), min_size=1, max_size=60),
    most=st.integers(1, 6),
    shards=st.sampled_from([1, 3, 7]),
    rows=st.integers(1, 30),
    cut=st.integers(0, 50),
)
def test_any_cut_gives_what_a_sort_gives(keys: list[str], most: int, shards: int, rows: int, cut: int) -> None:
    scores = [float(i % 3) for i in range(len(keys))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", rows)
        found = stay({"k": keys, "score": scores}, shards, cut, by="k", most=most, prefer=("score desc",))
    assert found == plain(keys, scores, most)


@pytest.mark.parametrize("parameters", [{"most": 0}, {"most": 1, "prefer": ("score",)}, {"most": 1, "by": ""}])
def test_parameters_that_say_nothing(parameters: Any) -> None:
    with pytest.raises(ValidationError):
        Cap(**{"over": "pool", "by": "k"} | parameters)


def test_what_cannot_be_a_key_is_said() -> None:
    with pytest.raises(ValueError, match="k is list<"):
        stay({"k": [[1], [2]]}, by="k", most=1)
    with pytest.raises(ValueError, match="'name' is string; only numbers"):
        stay({"k": [1, 1], "name": ["a", "b"]}, by="k", most=1, prefer=("name desc",))


def test_it_can_be_made_again_from_what_it_says_of_itself() -> None:
    chosen = Cap(over="pool", by="domain", most=3, prefer=("score desc",))
    assert Cap(**chosen.identity()["parameters"]) == chosen
    assert [getattr(c, "field", c) for c in chosen.reads()] == ["url", "score"]
