"""Downloads: each URL once by its last attempt, hosts with most failures first, and what the failures come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.ask.report.diagnosis import AT_ONE_HOST, ON_MANY, PLAIN, SENTENCES
from curate.ask.report.downloads import HOSTS, downloads
from curate.ask.report.found import Downloads
from curate.ask.sql import Session
from curate.ask.views import Views
from curate.pool.columns import write_parquet
from curate.pool.facts import FETCHES, OUTCOMES
from curate.pool.layout import CLAIMS, fetch_log
from curate.pool.pool import Pool
from stages.base import shard_name
from tests import pools

Row = tuple[str, str, int | None]
"""(host, outcome, status)."""


def write_log(pool: Pool, shard: int, rows: Sequence[Row], attempt: int = 0, uids_of: int | None = None) -> None:
    uid = pools.uids(shard if uids_of is None else uids_of, len(rows)).to_pylist()
    made = [
        {"uid": u, "url": f"http://{host}/{i}.jpg" if host else None, "outcome": o, "status": s, "attempt": attempt}
        for i, (u, (host, o, s)) in enumerate(zip(uid, rows, strict=True))
    ]
    pools.write(
        pool, fetch_log(shard, attempt), write_parquet(pa.Table.from_pylist(made, FETCHES), {"rows": len(rows)})
    )


def told(root: Path, *shards: Sequence[Row]) -> Downloads:
    pool = pools.synthetic(root / "pool", [1] * len(shards))
    for shard, rows in enumerate(shards):
        write_log(pool, shard, rows)
    found = downloads(Session(Views(pool)))
    assert found is not None
    return found


def many(outcome: str, hosts: int, each: int = 1, status: int | None = None, first: int = 0) -> list[Row]:
    return [(f"h{first + i // each}.test", outcome, status) for i in range(hosts * each)]


def test_the_last_attempt_counts(tmp_path: Path) -> None:
    pool = pools.synthetic(tmp_path / "pool", [1, 1])
    write_log(pool, 0, [("a.test", "timeout", None), ("a.test", "dns", None), ("b.test", "ok", 200)])
    write_log(pool, 0, [("a.test", "ok", 200), ("a.test", "timeout", None), ("b.test", "ok", 200)], attempt=1)
    write_log(pool, 1, [("b.test", "http_4xx", 404), ("B.TEST", "http_4xx", 404)])
    found = downloads(Session(Views(pool)))
    assert found is not None
    assert found.outcomes == (("http_4xx", 2), ("ok", 2), ("timeout", 1))
    assert [(h.host, h.urls, h.ok, h.worst, h.worst_count) for h in found.hosts] == [
        ("b.test", 3, 1, "http_4xx", 2),
        ("a.test", 2, 1, "timeout", 1),
    ]
    assert found.hosts_in_all == 2


def test_what_was_tried_again_in_a_later_shard_counts_once(tmp_path: Path) -> None:
    pool = pools.synthetic(tmp_path / "pool", [1, 1, 1], claims=[2])
    claim = {"list": "retry-2", "hash": "0" * 12, "kind": "retry", "first": 2, "shards": 1, "rows": 2}
    pools.write(pool, f"{CLAIMS}/{shard_name(2)}.json", json.dumps(claim | {"source": {"of": "x@y"}}).encode())
    write_log(pool, 0, [("a.test", "timeout", None), ("a.test", "dns", None), ("b.test", "ok", 200)])
    write_log(pool, 1, [("c.test", "http_4xx", 404)])
    write_log(pool, 2, [("a.test", "ok", 200), ("a.test", "timeout", None)], attempt=1, uids_of=0)
    found = downloads(Session(Views(pool)))
    assert found is not None
    assert found.outcomes == (("ok", 2), ("http_4xx", 1), ("timeout", 1))
    assert [(h.host, h.urls, h.ok) for h in found.hosts] == [("a.test", 2, 1), ("c.test", 1, 0), ("b.test", 1, 1)]


def test_logs_of_older_versions_lack_a_column(tmp_path: Path) -> None:
    pool = pools.synthetic(tmp_path / "pool", [1, 1])
    write_log(pool, 0, [("a.test", "ok", 200)])
    write_log(pool, 1, [("a.test", "dns", None)])
    path = tmp_path / "pool" / fetch_log(0, 0)
    pq.write_table(pq.read_table(path).drop_columns(["retry_at"]), path)
    session = Session(Views(pool))
    assert session.ask("SELECT outcome, retry_at FROM fetches ORDER BY outcome").fetchall() == [
        ("dns", None),
        ("ok", None),
    ]
    path.rename(tmp_path / "pool" / fetch_log(1, 0))
    assert Session(Views(pool)).ask("SELECT outcome, retry_at FROM fetches").fetchall() == [("ok", None)]


def test_hosts_with_the_most_failures_come_first(tmp_path: Path) -> None:
    rows = [(f"h{n:02}.test", "timeout", None) for n in range(40) for _ in range(n + 1)]
    found = told(tmp_path, [*rows, *many("ok", 10, 5, first=100), ("h39.test", "dns", None), ("h39.test", "dns", None)])
    assert [h.host for h in found.hosts] == [f"h{n:02}.test" for n in range(39, 39 - HOSTS, -1)]
    assert (found.hosts[0].worst, found.hosts[0].worst_count, found.hosts[0].urls) == ("timeout", 40, 42)
    assert found.hosts_in_all == 50


def test_nothing_was_fetched(tmp_path: Path) -> None:
    assert downloads(Session(Views(pools.synthetic(tmp_path / "pool", [3])))) is None


def test_all_is_well(tmp_path: Path) -> None:
    found = told(tmp_path, [*many("ok", 100, 10), *many("http_4xx", 10, status=404), *many("dns", 5, first=500)])
    assert found.diagnosis == ("98.5 % of 1,015 URLs came: nothing unusual.",)


def test_local_files_have_no_hosts(tmp_path: Path) -> None:
    found = told(tmp_path, [("", "ok", None)] * 90 + [("", "decode_error", None)] * 10)
    assert found.hosts == ()
    assert found.diagnosis == ("10 of 100 files (10.0 %) are broken images.",)
    assert told(tmp_path / "fine", [("", "ok", None)] * 9).diagnosis == ("100.0 % of 9 files came: nothing unusual.",)


CASES: dict[str, tuple[list[Row], list[str]]] = {
    "a resolver that gives up": (
        [*many("ok", 20, 5), *many("dns", 20, 4)],
        ["80 of 180 URLs (44.4 %) on 20 of 20 hosts, all of which answered for other URLs: no address", "resolver"],
    ),
    "domains that are gone": (
        [*many("ok", 100, 5), *many("dns", 15, 2, first=200)],
        ["30 of 530 URLs (5.7 %) on 15 of 115 hosts have names that lead nowhere: sites that are gone."],
    ),
    "a rate limit": (
        [*many("ok", 100), *[("big.test", "http_429", 429)] * 60, *many("ok", 1, 7, first=500), *many("http_429", 3)],
        ["big.test answered 60 times that it is asked too often (429), of 60 URLs: a rate limit there", "host_rate: 1"],
    ),
    "a ban": (
        [*many("ok", 100), *[("big.test", "http_4xx", 403)] * 60],
        ["big.test refused 60 of 60 URLs (401, 403 or alike): you are banned there, or"],
    ),
    "a proxy": (
        [*many("connect", 90, 2), *many("ok", 10, first=200)],
        ["180 of 190 URLs (94.7 %) on 90 of 100 hosts: no connection.", "a firewall, a proxy"],
    ),
    "a network that is full": (
        [*many("ok", 50, 3), *many("timeout", 50, 1)],
        ["50 of 200 URLs (25.0 %) on 50 of 50 hosts, all of which answered for other URLs: too slow.", "y: 32"],
    ),
    "link rot": (
        [*many("ok", 100, 2), *many("http_4xx", 60, 2, status=404), *many("http_4xx", 10, 1, status=410)],
        ["130 of 330 URLs (39.4 %) on 60 of 100 hosts: gone (404, 410). This is link rot, and normal"],
    ),
    "a wrong clock": (
        [*many("tls", 40, 2), *many("ok", 10, first=100)],
        ["80 of 90 URLs", "a wrong clock, old certificates"],
    ),
    "a site that logs in": (
        [*many("ok", 30), *[("social.test", "not_image", 200)] * 20],
        ["social.test answered 20 of 20 URLs with something that is no image: most often a page that asks to log in"],
    ),
    "owners who refuse": (
        [*many("ok", 30), *many("refused_robots", 3, 4, first=60)],
        ["12 of 42 URLs (28.6 %) on 3 of 33 hosts are forbidden by robots.txt: their owners' decision, which is kept."],
    ),
    "refusals in headers": (
        [*many("ok", 30), *many("refused_header", 3, 4, first=60)],
        ["12 of 42 URLs (28.6 %) on 3 of 33 hosts are forbidden by headers of their answers"],
    ),
    "addresses inside": (
        [*many("ok", 90), *many("blocked_address", 4, 2, first=200)],
        ["8 of 98 URLs (8.2 %) on 4 of 94 hosts lead into private networks, and are not followed"],
    ),
    "one host is most of it": (
        [*many("ok", 40), *[("big.test", "timeout", None)] * 30, *[("big.test", "http_5xx", 503)] * 20],
        [
            "Mostly one host: big.test has 50 of the 50 failures (100.0 %), most often timeout; of its 50 URLs 0 came.",
            "big.test was too slow for 30 of 50 URLs",
            "big.test failed on 20 of 50 URLs (5xx)",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_failures_come_from(tmp_path: Path, case: str) -> None:
    rows, expected = CASES[case]
    said = told(tmp_path, rows).diagnosis
    for words in expected:
        assert any(words in sentence for sentence in said), said
    assert not any("nothing unusual" in sentence for sentence in said)


def test_the_most_important_comes_first_and_few_are_said(tmp_path: Path) -> None:
    rows = [(f"h{i % 97}.test", o, None) for n, o in enumerate(OUTCOMES) for i in range(10 + n)]
    said = told(tmp_path, rows).diagnosis
    assert len(said) == SENTENCES
    counts = [int(s.split()[0]) for s in said]
    assert counts == sorted(counts, reverse=True)


def test_failures_without_one_cause(tmp_path: Path) -> None:
    rows = [(f"h{i % 90}.test", o, None) for o in OUTCOMES if o != "ok" for i in range(10)]
    found = told(tmp_path, [*rows, *many("ok", 10, 35, first=300)])
    assert found.diagnosis == ("61.4 % of 570 URLs came; no kind of failure alone has 2.0 %.",)


def test_an_outcome_nobody_knows_and_a_hostile_host(tmp_path: Path) -> None:
    pool = pools.synthetic(tmp_path / "pool", [1])
    host = "<script>alert(1)</script>" + "x" * 500
    write_log(pool, 0, [(host.replace("/", ""), "strange", None)] * 3 + [("a.test", "ok", 200)])
    found = downloads(Session(Views(pool)))
    assert found is not None
    assert len(found.hosts[0].host) == 253
    assert found.diagnosis == ("3 of 4 URLs (75.0 %) on 1 of 2 hosts ended as strange.",)


def test_every_failure_has_words() -> None:
    kinds: set[Any] = {*OUTCOMES, "gone", "forbidden"} - {"ok"}
    assert set(PLAIN) == kinds
    assert set(ON_MANY) | set(AT_ONE_HOST) <= kinds
    for sentence in AT_ONE_HOST.values():
        assert sentence.format(n="1", of="2").count("{") == sentence.count("{{")
