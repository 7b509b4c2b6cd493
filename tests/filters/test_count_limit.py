"""Texts that occur too often: all of them go, and it matters what they are counted among."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.shuffle as shuffle
from filters.count_limit import CountLimit
from tests.phase_runner import PhaseRunner

SCHEMA = pa.schema([("uid", pa.binary(16)), ("text", pa.string()), ("sha256", pa.string()), ("asked", pa.bool_())])


def pool_of(rows: list[tuple[str | None, str, bool]], shards: int = 1, seed: int = 0) -> dict[int, pa.Table]:
    """(text, image, asked) of each row, in any order, cut anywhere."""
    rng = np.random.default_rng(seed)
    home, order = rng.integers(0, shards, len(rows)), rng.permutation(len(rows))
    made = [dict(zip(SCHEMA.names, (i.to_bytes(16, "big"), *row), strict=True)) for i, row in enumerate(rows)]
    return {s: pa.Table.from_pylist([made[i] for i in order if home[i] == s], SCHEMA) for s in range(shards)}


def verdicts(chosen: CountLimit, pool: dict[int, pa.Table], seed: int | None = None) -> list[Any]:
    """By uid: True where kept, None where not asked, else the reason."""
    found = {}
    for shard, table in PhaseRunner(pool, seed).run(chosen).items():
        for uid, row in zip(pool[shard].column("uid").to_pylist(), table.to_pylist(), strict=True):
            found[uid] = row["reason"] if row["keep"] is False else row["keep"]
    return [found[uid] for uid in sorted(found)]


def asked(*texts: str | None) -> list[tuple[str | None, str, bool]]:
    return [(t, f"image {i}", True) for i, t in enumerate(texts)]


def test_all_of_a_common_text_go() -> None:
    rows = asked(*["logo"] * 11, *["a  dog", "a dog "] * 5)
    assert verdicts(CountLimit(by="text_clean", most=10, over="survivors"), pool_of(rows, 3)) == (
        ["too_common"] * 11 + [True] * 10
    )


def test_over_survivors_counts_only_those() -> None:
    """COYO's order: six of twelve copies fell to an earlier filter, so the other six are common no more."""
    rows = [("logo", f"image {i}", i % 2 == 0) for i in range(12)]
    assert verdicts(CountLimit(by="text", most=10, over="survivors"), pool_of(rows, 2)) == [True, None] * 6
    assert verdicts(CountLimit(by="text", most=10, over="pool"), pool_of(rows, 2)) == ["too_common"] * 12


def test_distinct_pictures_of_a_text() -> None:
    rows = [("logo", f"image {i % 3}", True) for i in range(12)] + [("own", "image 9", True)]
    assert verdicts(CountLimit(by="text", distinct="sha256", most=3, over="pool"), pool_of(rows)) == [True] * 13
    strict = verdicts(CountLimit(by="text", distinct="sha256", most=2, over="pool"), pool_of(rows))
    assert strict == ["too_common"] * 12 + [True]


def test_too_rare() -> None:
    rows = asked("a", "a", "b")
    assert verdicts(CountLimit(by="text", least=2, over="pool"), pool_of(rows)) == [True, True, "too_rare"]


def test_samples_without_a_key() -> None:
    rows = asked("a", None, " ")
    with pytest.raises(ValueError, match=r"sample 0{31}[12] has no text_clean.*on_missing: drop"):
        verdicts(CountLimit(by="text_clean", most=1, over="pool"), pool_of(rows))
    drop = CountLimit(by="text_clean", most=1, over="pool", on_missing="drop")
    assert verdicts(drop, pool_of(rows)) == [True, "missing", "missing"]
    keep = CountLimit(by="text_clean", most=1, over="pool", on_missing="keep")
    assert verdicts(keep, pool_of(rows)) == [True] * 3


def test_the_verdict_says_the_count() -> None:
    table = PhaseRunner(pool_of(asked("a", "a", None))).run(
        CountLimit(by="text", most=1, over="pool", on_missing="drop")
    )[0]
    assert sorted(table.column("occurrences").to_pylist(), key=str) == [2, 2, None]
    (margin,) = CountLimit(by="text", most=10, least=2, over="pool").margins()
    assert margin.value == "occurrences"
    assert margin.bounds == ((2.0, "above", "least 2"), (10.0, "below", "most 10"))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.booleans()), max_size=30),
    most=st.integers(0, 4),
    size=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_cut_gives_the_same(rows: list[tuple[str, str, bool]], most: int, size: int, seed: int) -> None:
    left = [text for text, _, ask in rows if ask]
    expected = [(left.count(t) <= most or "too_common") if ask else None for t, _, ask in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", size)
        for shards in (1, 3, 7):
            chosen = CountLimit(by="text", most=most, over="survivors")
            assert verdicts(chosen, pool_of(rows, shards, seed), seed) == expected


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "needs a bound: most or least"),
        ({"most": 2, "least": 3}, "least 3 is above most 2: nothing can pass"),
        ({"most": -1}, "greater than or equal to 0"),
        ({"most": 1, "by": ""}, "at least 1 character"),
    ],
)
def test_parameters_that_make_no_sense(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CountLimit(**{"by": "text", "over": "pool", **parameters})
