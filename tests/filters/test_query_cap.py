"""Query balancing against plain Python: exactly the smallest draws of each query, however the pool is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stages.shuffle as shuffle
from filters.query_cap import SALT, QueryCap
from stages.draws import hash64, hash64_halves
from tests.filters.metaclip_parts import ENTRIES, Rows, Runner, captions, pool_of


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("queries") / "queries.json"
    path.write_text(json.dumps(ENTRIES))
    return str(path)


def verdicts(rows: Rows, chosen: QueryCap, shards: int = 1, seed: int | None = None) -> dict[bytes, tuple[Any, ...]]:
    pool = pool_of(rows, shards, seed)
    return {
        uid: tuple(found)
        for shard, table in Runner(pool, seed).run(chosen).items()
        for uid, *found in zip(
            pool[shard].column("uid").to_pylist(), *(c.to_pylist() for c in table.columns), strict=True
        )
    }


def matches(text: str | None) -> list[int]:
    padded = f" {(text or '').replace(',', ' , ')} "
    return [i for i, e in enumerate(ENTRIES) if f" {e} " in padded]


def plain(rows: Rows, most: int, seed: int) -> set[bytes]:
    """uids that a query takes, query by query."""
    own = hash64(seed, SALT, pa.array([r["uid"] for r in rows], pa.binary(16)))
    kept: set[bytes] = set()
    for query in range(len(ENTRIES)):
        mine = [i for i, r in enumerate(rows) if query in matches(r["text"])]
        key = np.full(len(mine), query, np.uint64)
        draws = hash64_halves(seed, SALT, own[mine], key).tolist()
        first = sorted(zip(draws, [rows[i]["uid"] for i in mine], strict=True))[:most]
        kept |= {uid for _, uid in first}
    return kept


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 7))
def test_each_query_takes_its_smallest_draws(queries: str, seed: int, most: int, shards: int) -> None:
    rows = captions(150, seed)
    chosen = QueryCap(metadata=queries, most=most, over="pool", seed=seed)
    found = verdicts(rows, chosen, shards, seed)
    assert {uid for uid, v in found.items() if v[0]} == plain(rows, most, seed)
    for row in rows:
        keep, reason = found[row["uid"]]
        assert reason == (None if keep else "queries_full" if matches(row["text"]) else "no_query")


def test_many_buckets_and_spans_change_nothing(queries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = captions(900, 2)
    chosen = QueryCap(metadata=queries, most=25, over="pool")
    whole = verdicts(rows, chosen)
    monkeypatch.setattr("filters.query_cap.ROWS", 8 * 50)
    shape = Runner(pool_of(rows, 9)).shape
    assert len(shuffle.Layout(shape, 50).bucket_parts) > 8
    assert verdicts(rows, chosen, 9, 4) == whole


def test_a_query_takes_most_of_its_own_and_no_more_are_collected_than_needed(queries: str) -> None:
    rows = captions(6000, 3)
    chosen = QueryCap(metadata=queries, most=50, over="pool")
    runner = Runner(pool_of(rows, 3))
    runner.run(chosen)
    assert runner.stats(chosen, "limits")["all"] == {"matched_queries": 5, "full_queries": 5}
    collected = sum(s["collected"] for s in runner.stats(chosen, "collect").values())
    assert 5 * 50 <= collected < 5 * (50 + 16 * 50**0.5 + 128)
    found = verdicts(rows, chosen)
    assert 50 <= sum(v[0] for v in found.values()) <= 5 * 50


def test_survivors_only_fill_the_queries(queries: str) -> None:
    rows = [{**r, "asked": i % 2 == 0} for i, r in enumerate(captions(300, 4))]
    found = verdicts(rows, QueryCap(metadata=queries, most=10, over="survivors"), 2)
    asked = [r for r in rows if r["asked"]]
    assert {uid for uid, v in found.items() if v[0]} == plain(asked, 10, 0)
    assert all(found[r["uid"]] == (None, None) for r in rows if not r["asked"])


def test_room_for_all_keeps_all_that_match(queries: str) -> None:
    rows = captions(200, 5)
    found = verdicts(rows, QueryCap(metadata=queries, over="pool"), 3)
    assert {uid for uid, v in found.items() if v[0]} == {r["uid"] for r in rows if matches(r["text"])}


def test_missing_list_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no list of entries at .*q\.json"):
        QueryCap(metadata=str(tmp_path / "q.json"), over="pool").files()
