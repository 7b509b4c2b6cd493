"""Top fraction against a plain sort: both conventions, every type, ties, missing values, any cut into shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import filters.ranked
import stages.shuffle as shuffle
from filters.top_fraction import TopFraction
from tests.phase_runner import PhaseRunner

DATACOMP = [0.1, 0.5, 0.3, 0.9, 0.7, 0.2, 0.4, 0.6, 0.8, 0.0]


def uid_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def pool_of(scores: pa.Array, shards: int = 1, asked: Sequence[bool] | None = None) -> dict[int, pa.Table]:
    """Rows in turn to `shards` shards with gaps in their numbers; the uid is the row number."""
    table = pa.table({"uid": pa.array([uid_of(i) for i in range(len(scores))], pa.binary(16)), "score": scores})
    if asked is not None:
        table = table.append_column("asked", pa.array(asked, pa.bool_()))
    return {3 * s + 1: table.take(pa.array(range(s, len(scores), shards), pa.int64())) for s in range(shards)}


def answers(pool: dict[int, pa.Table], chosen: TopFraction, seed: int | None = None) -> dict[int, tuple[Any, Any]]:
    """uid as a number -> (keep, reason)"""
    runner = PhaseRunner(pool, seed)
    found = {}
    for shard, table in runner.run(chosen).items():
        uids = pool[shard].column("uid").to_pylist()
        for uid, keep, reason in zip(uids, table["keep"].to_pylist(), table["reason"].to_pylist(), strict=True):
            found[int.from_bytes(uid, "big")] = (keep, reason)
    return found


def kept(found: dict[int, tuple[Any, Any]]) -> set[int]:
    return {uid for uid, (keep, _) in found.items() if keep}


def test_the_reference_keeps_one_more() -> None:
    scores = pa.array(DATACOMP, pa.float32())
    chosen = TopFraction(over="pool", column="score", fraction=0.3, convention="n+1")
    runner = PhaseRunner(pool_of(scores))
    (table,) = runner.run(chosen).values()
    assert [DATACOMP[i] for i in np.flatnonzero(table["keep"])] == [0.9, 0.7, 0.6, 0.8]
    assert set(table["reason"].to_pylist()) == {None, "below_threshold"}
    (stats,) = runner.stats(chosen, "threshold").values()
    assert stats == {"asked": 10, "present": 10, "missing": 0, "threshold": pytest.approx(0.6)}


def test_exactly_n() -> None:
    found = answers(pool_of(pa.array(DATACOMP)), TopFraction(over="pool", column="score", fraction=0.3))
    assert sorted(DATACOMP[i] for i in kept(found)) == [0.7, 0.8, 0.9]


def test_lowest() -> None:
    chosen = TopFraction(over="pool", column="score", fraction=0.3, lowest=True)
    found = answers(pool_of(pa.array(DATACOMP)), chosen)
    assert sorted(DATACOMP[i] for i in kept(found)) == [0.0, 0.1, 0.2]
    assert found[3] == (False, "above_threshold")


@pytest.mark.parametrize("convention", ["n", "n+1"])
def test_all_of_it(convention: Any) -> None:
    chosen = TopFraction(over="pool", column="score", fraction=1.0, convention=convention)
    assert len(kept(answers(pool_of(pa.array(DATACOMP)), chosen))) == 10


def test_less_than_one_sample() -> None:
    few = TopFraction(over="pool", column="score", fraction=0.05)
    assert kept(answers(pool_of(pa.array(DATACOMP)), few)) == set()
    one_more = TopFraction(over="pool", column="score", fraction=0.05, convention="n+1")
    assert kept(answers(pool_of(pa.array(DATACOMP)), one_more)) == {3}


def test_nobody_is_asked() -> None:
    pool = pool_of(pa.array(DATACOMP), 2, asked=[False] * 10)
    for convention in ("n", "n+1"):
        chosen = TopFraction(over="survivors", column="score", fraction=0.5, convention=convention)
        assert set(answers(pool, chosen).values()) == {(None, None)}


def test_an_empty_shard() -> None:
    pool = pool_of(pa.array(DATACOMP), 2) | {9: pool_of(pa.array([], pa.float64()))[1]}
    assert len(kept(answers(pool, TopFraction(over="pool", column="score", fraction=0.3)))) == 3


def test_only_survivors_count() -> None:
    pool = pool_of(pa.array(DATACOMP), asked=[s < 0.75 for s in DATACOMP])
    chosen = TopFraction(over="survivors", column="score", fraction=0.25)
    found = answers(pool, chosen)
    assert sorted(DATACOMP[i] for i in kept(found)) == [0.6, 0.7]
    assert found[3] == (None, None)
    over_pool = answers(pool, chosen.model_copy(update={"over": "pool"}))
    assert sorted(DATACOMP[i] for i in kept(over_pool)) == [0.8, 0.9]


@pytest.mark.parametrize(("policy", "expected"), [("drop", (False, "missing")), ("keep", (True, None))])
def test_missing_values_rank_last_and_follow_the_policy(policy: Any, expected: tuple[bool, str | None]) -> None:
    scores = pa.array([float("nan"), 3.0, None, float("-inf"), 1.0, 2.0])
    chosen = TopFraction(over="pool", column="score", fraction=0.5, on_missing=policy)
    found = answers(pool_of(scores, 2), chosen)
    assert found[0] == found[2] == expected
    assert {uid for uid in kept(found) if uid not in (0, 2)} == {1, 4, 5}
    most = answers(pool_of(scores, 2), chosen.model_copy(update={"fraction": 0.9}))
    assert most[3] == (True, None)
    assert most[0] == expected


def test_a_missing_value_is_an_error_unless_said_otherwise() -> None:
    with pytest.raises(ValueError, match=r"sample 0{31}1 has no 'score'.*on_missing: drop"):
        answers(pool_of(pa.array([1.0, None])), TopFraction(over="pool", column="score", fraction=0.5))


def test_zeros_of_both_signs_are_equal() -> None:
    scores = pa.array([-0.0, 0.0, -0.0, 0.0, -1.0], pa.float32())
    one_more = TopFraction(over="pool", column="score", fraction=0.2, convention="n+1")
    assert kept(answers(pool_of(scores), one_more)) == {0, 1, 2, 3}
    assert kept(answers(pool_of(scores), TopFraction(over="pool", column="score", fraction=0.4))) == {0, 1}


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()])
def test_every_type_of_number(kind: pa.DataType) -> None:
    values = [5, 1, 120, 7, 0, 99]
    if pa.types.is_signed_integer(kind):
        values[1] = -3
    if kind == pa.uint64():
        values[2] = 2**64 - 1
    array = pa.array(np.array(values, kind.to_pandas_dtype()), kind)
    chosen = TopFraction(over="pool", column="score", fraction=0.5)
    runner = PhaseRunner(pool_of(array, 2))
    runner.run(chosen)
    assert runner.stats(chosen, "threshold")["all"]["threshold"] == 7
    assert kept(answers(pool_of(array, 2), chosen)) == {2, 3, 5}


def test_text_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match="only numbers"):
        answers(pool_of(pa.array(["a"])), TopFraction(over="pool", column="score", fraction=0.5))


def test_one_column_of_two_types() -> None:
    pool = pool_of(pa.array([1.0, 2.0])) | {8: pool_of(pa.array([3, 4]))[1]}
    with pytest.raises(ValueError, match="another type"):
        answers(pool, TopFraction(over="pool", column="score", fraction=0.5))


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, -0.0, 0.25, 1.5, -2.0, float("inf"), float("nan")]), min_size=1, max_size=60),
    fraction=st.floats(0.01, 1),
    lowest=st.booleans(),
    convention=st.sampled_from(["n", "n+1"]),
    shards=st.integers(1, 6),
    rows=st.integers(1, 40),
    seed=st.integers(0, 100),
)
def test_any_cut_gives_what_a_sort_gives(
    scores: list[float], fraction: float, lowest: bool, convention: Any, shards: int, rows: int, seed: int
) -> None:
    chosen = TopFraction(
        over="pool", column="score", fraction=fraction, lowest=lowest, convention=convention, on_missing="drop"
    )
    ranked = sorted(((s if lowest else -s) + 0.0, uid) for uid, s in enumerate(scores) if s == s)
    n = int(len(scores) * fraction)
    if convention == "n":
        expected = {uid for _, uid in ranked[:n]}
    else:
        place = min(n, len(scores) - 1)
        limit = ranked[place][0] if place < len(ranked) else float("inf")
        expected = {uid for score, uid in ranked if score <= limit}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", rows)
        patch.setattr(filters.ranked, "NOTES", 3)
        assert kept(answers(pool_of(pa.array(scores), shards), chosen, seed)) == expected


@pytest.mark.parametrize("kind", ["scores", "all_equal"])
def test_a_million_scores_equal_numpy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties, both zeros and NaN among a million float32; what is collected stays a small part of them."""
    rng = np.random.default_rng(1)
    n = 1_000_000
    scores = np.round(rng.normal(size=n), 3).astype(np.float32) if kind == "scores" else np.full(n, 0.5, np.float32)
    scores[rng.integers(0, n, 1000)] = np.nan
    scores[rng.integers(0, n, 1000)] = -0.0
    uid = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    table = pa.table({"uid": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(uid)]),
                      "score": pa.array(scores)})  # fmt: skip
    pool = {s: table.slice(s * 100_000, 100_000) for s in range(10)}
    monkeypatch.setattr(shuffle, "ROWS", 250_000)

    filled = np.where(np.isnan(scores), -np.inf, scores)
    by_uid = np.argsort(uid.view("S16").ravel(), kind="stable")  # uids are random: none ends in a null byte alone
    best = by_uid[np.argsort(-filled[by_uid], kind="stable")]
    for convention in ("n", "n+1"):
        chosen = TopFraction(over="pool", column="score", fraction=0.3, convention=convention, on_missing="drop")
        runner = PhaseRunner(pool)
        keep = np.concatenate([t.column("keep").to_numpy() for t in runner.run(chosen).values()])
        if convention == "n":
            assert np.count_nonzero(keep) == 300_000
            expected = np.zeros(n, bool)
            expected[best[:300_000]] = True
        else:
            expected = filled >= filled[best[300_000]]
        assert np.array_equal(keep, expected)
        assert sum(s["between"] for s in runner.stats(chosen, "collect").values()) < n / 500
