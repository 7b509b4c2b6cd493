"""The report's tables of values, its lists of uids, and the times of passes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.ask.report import uid_lists as lists
from curate.ask.report.found import Counts, Timing, UidList
from curate.ask.report.tables import LENGTHS, MOST, SHAPES, SIDES, tables
from curate.ask.report.timings import timings
from curate.ask.sql import Session
from curate.ask.views import Views
from curate.errors import UserError
from curate.pool.layout import RUNS
from curate.pool.pool import Pool
from tests import pools


def pool_of(root: Path, columns: dict[str, list[Any]], shards: int = 2) -> tuple[Pool, str]:
    """A pool whose shards all have these columns; rows with an odd number are dropped."""
    rows = len(next(iter(columns.values())))
    pool = pools.synthetic(root / "pool", [rows] * shards)
    for shard in range(shards):
        table, _ = pool.facts(shard)
        for name, values in columns.items():
            known = name in table.column_names
            made = pa.array(values, table.schema.field(name).type if known else None)
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, made) if known else table.append_column(name, made)
        pools.write_facts(pool, shard, table)
    odd = pools.add_verdict(pool, "where", lambda s, u: np.arange(len(u)) % 2 == 0)
    return pool, pools.add_pick(pool, "test", [("even", odd)])


def told(pool: Pool, pick: str) -> dict[str, Counts]:
    return {c.title: c for c in tables(Session(Views(pool, pick)))}


def by_title(root: Path, columns: dict[str, list[Any]]) -> dict[str, Counts]:
    return told(*pool_of(root, columns))


def test_the_commonest_values_and_the_rest(tmp_path: Path) -> None:
    hosts = [f"h{n}.test" for n in range(20) for _ in range(n + 1)]
    found = by_title(tmp_path, {"url": [f"https://{h.upper()}:80/x?a@b" for h in hosts]})["host"]
    kept = Counter(hosts[::2])
    expected = [(f"h{n}.test", 2 * (n + 1), 2 * kept[f"h{n}.test"]) for n in range(19, 19 - MOST, -1)]
    rest = (sum(2 * (n + 1) for n in range(8)), sum(2 * kept[f"h{n}.test"] for n in range(8)))
    assert found.rows == (*expected, ("8 others", *rest))


def test_values_with_an_order_keep_it(tmp_path: Path) -> None:
    sides = [10, 64, 65, 130, 300, 600, 2000, None]
    found = by_title(tmp_path, {"original_width": sides, "original_height": [5000] * 8})
    rows = found["shorter side as received, pixels"].rows
    words = [w for _, w in SIDES]
    expected = {words[0]: (2, 2), words[1]: (4, 2), words[2]: (2, 0), words[3]: (2, 2), words[4]: (2, 0)}
    assert {v: (n, k) for v, n, k in rows} == expected | {"1,024 and more": (2, 2), "unknown": (2, 0)}
    assert [v for v, _, _ in rows] == [*words, "1,024 and more", "unknown"]
    shapes = {v: n for v, n, _ in found["longer to shorter side"].rows}
    assert shapes == {SHAPES[3][1]: 2, "3 and more": 12, "unknown": 2}


def test_words_of_captions(tmp_path: Path) -> None:
    texts = ["", None, "one", " one  two ", "a b\nc", "w " * 40, "w " * 41, "<b>two words</b>"]
    rows = by_title(tmp_path, {"text": texts})["words in the caption"].rows
    none, few, some = (LENGTHS[i][1] for i in (0, 1, 2))
    most = [(LENGTHS[5][1], 2, 0), ("41 and more", 2, 2), ("unknown", 2, 0)]
    assert rows == ((none, 2, 2), (few, 6, 2), (some, 2, 2), *most)


@pytest.mark.parametrize("name", ["license", "Licence", "license_name", "rights"])
def test_licences_under_any_name(tmp_path: Path, name: str) -> None:
    found = by_title(tmp_path, {name: ["CC0", " CC0 ", None, "<i>&", ""]})
    assert found[f"licence (column {name})"].rows == (("CC0", 4, 2), ("none", 4, 4), ("<i>&", 2, 0))


def test_tables_need_their_columns(tmp_path: Path) -> None:
    titles = list(by_title(tmp_path, {"text": ["a"]}))
    assert "language" not in titles
    assert not [t for t in titles if "licence" in t]
    assert titles[:3] == ["shorter side as received, pixels", "longer to shorter side", "format as received"]


def test_samples_that_the_pick_did_not_see_are_in_no_table(tmp_path: Path) -> None:
    pool, pick = pool_of(tmp_path, {"text": ["a", "b"]})
    pools.add_claims(pool, [1], first=2)
    pools.write_facts(pool, 2, pools.facts_table(2, 7))
    assert told(Pool.open(pool.storage.url), pick)["format as received"].rows == (("jpeg", 4, 2),)


# ---------------------------------------------------------------- lists of uids


def dropped(pool: Pool, pick: str) -> list[UidList]:
    return lists.uid_lists(Session(Views(pool, pick)), pick, ["even", "best", "no_text"])


def lists_pool(root: Path) -> tuple[Pool, str]:
    pool = pools.synthetic(root / "pool", [100, 100])

    def verdict(shard: int, uid: pa.Array) -> pa.Table:
        reasons = [None if i % 4 == 0 else "it's" if i % 4 == 1 else "b" for i in range(len(uid))]
        return pa.table({"keep": [r is None for r in reasons], "reason": pa.array(reasons, pa.string())})

    best = pools.add_verdict(pool, "top", lambda s, u: np.arange(len(u)) != 4)
    return pool, pools.add_pick(pool, "test", [("even", pools.add_verdict(pool, "own", verdict)), ("best", best)])


def test_lists_are_by_step_and_reason_and_complete(tmp_path: Path) -> None:
    pool, pick = lists_pool(tmp_path)
    found = dropped(pool, pick)
    assert [(x.step, x.reason, x.count) for x in found] == [
        ("even", "b", 100),
        ("even", "it's", 50),
        ("best", "not_top", 2),
    ]
    uid = pa.concat_tables([pool.facts(s, ["uid"])[0] for s in (0, 1)]).column("uid").to_pylist()
    assert found[1].uids == tuple(sorted(u.hex() for i, u in enumerate(uid) if i % 4 == 1))
    for x in found:
        answer = Session(Views(pool, pick)).ask(x.query).fetchall()
        assert tuple(u for (u,) in answer) == x.uids
        assert Session(Views(pool)).ask(x.query).fetchall() == answer


def test_large_lists_are_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, pick = lists_pool(tmp_path)
    monkeypatch.setattr(lists, "BUDGET", 60 * lists.BYTES)
    found = dropped(pool, pick)
    assert [x.uids is None for x in found] == [True, False, False]
    assert len(Session(Views(pool, pick)).ask(found[0].query).fetchall()) == 100
    monkeypatch.setattr(lists, "BUDGET", 0)
    assert [x.uids for x in dropped(pool, pick)] == [None, None, None]


def test_removed_samples_are_in_no_list(tmp_path: Path) -> None:
    pool, pick = lists_pool(tmp_path)
    uids = dropped(pool, pick)[1].uids
    assert uids
    pool.remove(pa.array([bytes.fromhex(uids[0])], pa.binary(16)), "takedown")
    after = dropped(Pool.open(pool.storage.url), pick)[1]
    assert (after.count, after.uids) == (49, uids[1:])


# ---------------------------------------------------------------- times


def status(pool: Pool, run: str, passes: dict[str, dict[str, Any]]) -> None:
    plain = {"total": 9, "done": 0, "failed": 0, "rows": 0, "worker_seconds": 0.0, "outcomes": {}}
    made = {"run": run, "passes": {n: plain | p for n, p in passes.items()}}
    pools.write(pool, f"{RUNS}/{run}/status.json", json.dumps(made).encode())


def test_passes_are_summed_over_runs(tmp_path: Path) -> None:
    pool = pools.synthetic(tmp_path / "pool", [1])
    assert timings(pool) == []
    (tmp_path / "pool" / RUNS / "0-has-said-nothing-yet").mkdir(parents=True)
    status(pool, "2", {"ingest": {"done": 1, "failed": 1, "rows": 5, "worker_seconds": 0.5, "wall_s": 1.0}})
    ingest = {"done": 3, "rows": 30, "worker_seconds": 1.25, "wall_s": 0.75}
    keys = {"done": 1, "rows": 1, "worker_seconds": 1.0}
    status(pool, "1", {"ingest": ingest, "idle": {}, "keys": keys | {"wall_s": 2.0}, "keys #2": keys})
    assert timings(pool) == [
        Timing("ingest", 2, 4, 35, 1.75, 1.75, 1),
        Timing("keys", 1, 2, 2, 2.0, None, 0),
    ]


def test_a_damaged_status_is_named(tmp_path: Path) -> None:
    pool = pools.synthetic(tmp_path / "pool", [1])
    pools.write(pool, f"{RUNS}/1/status.json", b'{"passes": ')
    with pytest.raises(UserError, match=r"runs/1/status\.json: is no status of a run"):
        timings(pool)
