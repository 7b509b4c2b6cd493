"""Failures that may have passed are tried again, in new shards: only these, when due, each in one shard at a time."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

import curate
from curate.ask.report.downloads import downloads
from curate.ask.sql import Session
from curate.ask.status import pool_status, status_lines
from curate.ask.views import Views
from curate.cli import app
from curate.errors import UserError
from curate.pool.columns import read_table, uid_digest, write_parquet
from curate.pool.facts import FACTS, FETCHES, OUTCOMES, TRANSIENT
from curate.pool.layout import fetch_log, marker
from curate.pool.lists import Claim, claims, commit_claim, listed, register
from curate.pool.pool import Pool
from curate.pool.upkeep import leftovers
from curate.recipe import load_recipe
from curate.run.fetch.spec import IngestSpec
from curate.run.job import Job
from curate.run.planning.make import make_plan
from curate.run.progress import Progress
from curate.run.retry import Retry, say, say_again, transient
from curate.run.sources import open_source
from curate.run.sources.spec import SourceSpec
from curate.run.tries import wait_s
from tests.web import Request, Route, Web, ok, status

NOW = 1_800_000_000.0
SPEC = IngestSpec(allow_loopback=True, retry_backoff_s=600, attempts=3)
ALL = transient("transient")


def pool_of(folder: Path, rows: int, shard_size: int = 10) -> Pool:
    """A pool with one list of URLs, of which nothing was fetched."""
    pool = Pool.create(str(folder / "pool"), SPEC.pixels(), shard_size)
    more(folder, pool, rows, "urls")
    return pool


def more(folder: Path, pool: Pool, rows: int, name: str) -> Claim:
    lines = ["url,text,score", *(f"http://h{i % 3}.test/{name}/{i}.jpg,caption {i},{i}" for i in range(rows))]
    (folder / f"{name}.csv").write_text("\n".join(lines))
    return register(
        pool.storage, open_source(SourceSpec(path=str(folder / f"{name}.csv"))), pool.settings["shard_size"]
    )


def fetched(pool: Pool, shard: int, outcomes: Sequence[str], attempt: int = 0, **more: Any) -> None:
    """Write the log of a shard, and its facts if it has none."""
    claim = next(c for c in claims(pool.storage) if shard in c.numbers)
    rows = listed(pool.storage, claim, shard)
    assert len(outcomes) == len(rows)
    entries = [
        {"uid": u, "url": w, "outcome": o, "attempt": attempt, "time": stamp(NOW)} | more
        for u, w, o in zip(rows["uid"].to_pylist(), rows["url"].to_pylist(), outcomes, strict=True)
    ]
    pool.storage.commit(fetch_log(shard, attempt), write_parquet(pa.Table.from_pylist(entries, FETCHES), {"rows": 1}))
    have = [{"uid": e["uid"], "url": e["url"]} for e in entries if e["outcome"] == "ok"]
    facts = pa.Table.from_pylist([{n: r.get(n) for n in FACTS.names} for r in have], FACTS)
    footer = {"rows": len(have), "uid_digest": uid_digest(facts["uid"]), "tar": "", "listed": len(entries)}
    pool.storage.commit(marker(shard), write_parquet(facts, footer | {"outcomes": dict(Counter(outcomes))}))


def stamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def rows_of(pool: Pool, claim: Claim) -> list[list[str]]:
    """The captions of each shard."""
    return [listed(pool.storage, claim, s)["text"].to_pylist() for s in claim.numbers]


def captions(*numbers: int) -> list[str]:
    return [f"caption {n}" for n in numbers]


# ---------------------------------------------------------------- what may be asked


def test_transient_is_every_outcome_that_may_pass() -> None:
    assert set(ALL) == TRANSIENT
    assert "gave_up" in ALL
    assert transient("timeout, dns,timeout") == ("timeout", "dns")


@pytest.mark.parametrize("outcome", ["refused_robots", "refused_header", "refused_list", "blocked_address"])
def test_a_refusal_is_never_tried_again(outcome: str) -> None:
    with pytest.raises(UserError, match=f"--retry {outcome}: a refusal is never tried again"):
        transient(outcome)


@pytest.mark.parametrize(("word", "why"), [("http_4xx", "would not change it"), ("tiemout", "no such outcome")])
def test_other_words_are_refused(word: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        transient(f"timeout,{word}")


# ---------------------------------------------------------------- what is tried


def test_of_every_outcome_only_transient_ones(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, len(OUTCOMES), shard_size=100)
    fetched(pool, 0, OUTCOMES)
    found = Retry(pool, SPEC, ALL).claim(NOW + 700)
    (claim,) = found.claims
    assert rows_of(pool, claim) == [captions(*(i for i, o in enumerate(OUTCOMES) if o in TRANSIENT))]
    assert found.rows == dict.fromkeys(sorted(TRANSIENT), 1)


def test_rows_keep_their_further_columns_and_order_over_shards(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 25)
    fetched(pool, 0, ["timeout", *["ok"] * 8, "dns"])
    fetched(pool, 1, ["ok"] * 9 + ["http_5xx"])
    fetched(pool, 2, ["timeout"] * 5)
    (claim,) = Retry(pool, SPEC, ("timeout", "dns")).claim(NOW + 700).claims
    assert (claim.kind, claim.first, claim.shards, claim.rows, claim.attempt) == ("retry", 3, 1, 7, 1)
    assert rows_of(pool, claim) == [captions(0, 9, 20, 21, 22, 23, 24)]
    table = listed(pool.storage, claim, 3)
    assert table["score"].to_pylist() == [0, 9, 20, 21, 22, 23, 24]
    assert table.schema.equals(listed(pool.storage, claims(pool.storage)[0], 0).schema)
    assert claim.origin == f"urls@{claims(pool.storage)[0].hash}"


def test_many_rows_are_cut_into_shards_of_the_pools_size(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 45)
    for shard in range(4):
        fetched(pool, shard, ["dns"] * 6 + ["ok"] * 4)
    (claim,) = Retry(pool, SPEC, ALL).claim(NOW + 700).claims
    assert [len(r) for r in rows_of(pool, claim)] == [10, 10, 4]
    assert claim.first == 5, "shard 4 is the list's, though nothing of it was fetched"
    footers = [read_table(pool.storage, claim.file(s))[1] for s in claim.numbers]
    assert [f["rows"] for f in footers] == [10, 10, 4]


def test_each_list_and_attempt_is_a_claim_of_its_own(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 10)
    other = more(tmp_path, pool, 10, "other")
    fetched(pool, 0, ["dns"] * 10)
    fetched(pool, 1, ["dns"] * 10)
    fetched(pool, 1, ["timeout"] * 10, attempt=1)  # a worker that died had written the first
    found = Retry(pool, SPEC, ALL).claim(NOW + 10_000)
    assert [(c.origin.split("@")[0], c.attempt, c.rows) for c in found.claims] == [("urls", 1, 10), ("other", 2, 10)]
    assert found.claims[1].origin == f"other@{other.hash}"


def test_what_waits_in_a_shard_is_not_taken_twice(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 10)
    fetched(pool, 0, ["dns"] * 10)
    assert Retry(pool, SPEC, ALL).claim(NOW + 700).claims
    again = Retry(pool, SPEC, ALL).claim(NOW + 700)
    assert again.claims == ()
    assert not again.waiting
    assert say(again, SPEC, NOW) == ["retry: nothing failed in a way that may have passed"]


def test_the_last_outcome_counts_and_an_image_ends_it(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 10)
    fetched(pool, 0, ["dns"] * 10)
    Retry(pool, SPEC, ALL).claim(NOW + 700)
    fetched(pool, 1, ["ok"] * 3 + ["http_4xx"] * 3 + ["timeout"] * 4, attempt=1)
    (claim,) = Retry(pool, SPEC, ALL).claim(NOW + 10_000).claims
    assert rows_of(pool, claim) == [captions(6, 7, 8, 9)]
    assert (claim.attempt, claim.origin.split("@")[0]) == (2, "urls")


def test_an_ok_without_an_image_hides_no_failure(tmp_path: Path) -> None:
    """Two workers wrote logs, and the marker is that of the one whose log is the first."""
    pool = pool_of(tmp_path, 10)
    fetched(pool, 0, ["ok"] * 5 + ["dns"] * 5)
    fetched(pool, 0, ["timeout"] * 5 + ["ok"] * 5, attempt=1)
    (claim,) = Retry(pool, SPEC, ALL).claim(NOW + 10_000).claims
    assert rows_of(pool, claim) == [captions(5, 6, 7, 8, 9)]


def test_removed_uids_stay_out(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 10)
    fetched(pool, 0, ["dns"] * 10)
    pool.remove(listed(pool.storage, claims(pool.storage)[0], 0)["uid"].slice(0, 9), "asked")
    (claim,) = Retry(pool, SPEC, ALL).claim(NOW + 700).claims
    assert rows_of(pool, claim) == [captions(9)]


# ---------------------------------------------------------------- when


def test_the_wait_grows_by_four() -> None:
    assert [wait_s(SPEC, made) for made in (1, 2, 3)] == [600, 2400, 9600]
    assert wait_s(SPEC, 100) == 90 * 86400


def test_nothing_is_tried_before_its_time(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 10)
    fetched(pool, 0, ["dns"] * 10)
    early = Retry(pool, SPEC, ALL).claim(NOW + 599)
    assert (early.claims, early.waiting, early.first, early.last) == ((), 10, NOW + 600, NOW + 600)
    assert say(early, SPEC, NOW + 540) == ["retry: 10 URLs not due yet: in 1m 0s"]
    assert Retry(pool, SPEC, ALL).claim(NOW + 600).claims


def test_what_a_host_asked_for_is_waited_for(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 10)
    fetched(pool, 0, ["http_429"] * 10, retry_at=stamp(NOW + 5000))
    assert Retry(pool, SPEC, ALL).claim(NOW + 4999).waiting == 10
    assert Retry(pool, SPEC, ALL).claim(NOW + 5000).claims


def test_attempts_end(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 10)
    fetched(pool, 0, ["dns"] * 10)
    for attempt in (1, 2):
        (claim,) = Retry(pool, SPEC, ALL).claim(NOW + 1e6).claims
        fetched(pool, claim.first, ["dns"] * 10, attempt=attempt)
    found = Retry(pool, SPEC, ALL).claim(NOW + 1e7)
    assert (found.claims, found.spent) == ((), 10)
    assert say(found, SPEC, NOW)[0].startswith("retry: 10 URLs failed 3 times and are left alone")


# ---------------------------------------------------------------- two at once, and death


def test_who_loses_the_number_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(tmp_path, 20)
    fetched(pool, 0, ["dns"] * 10)
    fetched(pool, 1, ["timeout"] * 10)
    lost: list[Claim] = []

    def late(storage: Any, claim: Claim) -> bool:
        if not lost:  # another driver comes first, and takes half of the rows
            lost.append(claim)
            monkeypatch.setattr("curate.run.retry.commit_claim", commit_claim)
            assert Retry(pool, SPEC, ("dns",)).claim(NOW + 700).claims
        return commit_claim(storage, claim)

    monkeypatch.setattr("curate.run.retry.commit_claim", late)
    found = Retry(pool, SPEC, ALL).claim(NOW + 700)
    assert [rows_of(pool, c) for c in found.claims] == [[captions(*range(10, 20))]]
    assert found.rows == {"timeout": 10}
    assert lost[0].rows == 20
    assert not pool.storage.list(lost[0].folder), "its shards were let go"
    assert [c.first for c in claims(pool.storage)] == [0, 2, 3]


def test_killed_before_the_claim_leaves_what_gc_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(tmp_path, 10)
    fetched(pool, 0, ["dns"] * 10)

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("curate.run.retry.commit_claim", killed)
        with pytest.raises(KeyboardInterrupt):
            Retry(pool, SPEC, ALL).claim(NOW + 700)
    (folder,) = (n for n in pool.storage.folders("lists") if n.startswith("retry"))
    assert len(claims(pool.storage)) == 1, "no shard was claimed"
    monkeypatch.setattr(time, "time", lambda: NOW + 1e6)
    assert [i.rel for i in leftovers(pool)] == [f"lists/{folder}/00000001.parquet"]
    assert Retry(pool, SPEC, ALL).claim(NOW + 700).claims[0].folder == f"lists/{folder}", "and the next one takes it"
    assert leftovers(pool) == []


# ---------------------------------------------------------------- a whole run


def jpeg(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 255 - shade, 90)).save(out, "JPEG")
    return out.getvalue()


def after(failures: int, then: Route) -> Route:
    left = [failures]

    def route(request: Request) -> None:
        left[0] -= 1
        (status(503) if left[0] >= 0 else then)(request)

    return route


def recipe_of(folder: Path, urls: Sequence[str], more: str = "") -> Path:
    """A recipe that fetches these URLs, due again at once; `more`: further lines of it."""
    (folder / "urls.csv").write_text("\n".join(["url,text", *(f"{u},caption" for u in urls)]))
    recipe = folder / "r.yaml"
    recipe.write_text(
        f"recipe: mine\npool: {folder / 'pool'}\nsource: {{path: {folder / 'urls.csv'}}}\n{more}"
        "ingest: {allow_loopback: true, retry_backoff_s: 0.001, ignore: [host_limits, robots, tdm]}\n"
        "filters:\n  - image_size: {min_side: 1}\n"
    )
    return recipe


def test_a_run_ends_with_every_image_once(tmp_path: Path) -> None:
    routes = {f"/{i}.jpg": after(i % 3, ok(jpeg(10 * i))) for i in range(12)} | {"/gone.jpg": status(404)}
    with Web(routes) as web:
        urls = [*(f"/{i}.jpg" for i in range(12)), "/gone.jpg"]
        recipe = recipe_of(tmp_path, [web.url(u) for u in urls])
        words = ["run", str(recipe), "--no-report", "--executor", "inline"]
        first = CliRunner().invoke(app, words)
        assert first.exit_code == 0, first.output
        assert "8 URLs may be had later (http_5xx 8)" in first.output
        for _ in range(2):
            time.sleep(0.02)
            done = CliRunner().invoke(app, [*words, "--retry", "transient"])
            assert done.exit_code == 0, done.output
        assert "again, in 1 shard (http_5xx 4)" in done.output
        assert Counter(path for path in web.asked)["/gone.jpg"] == 1
    pool = Pool.open(str(tmp_path / "pool"))
    assert pool_status(pool.storage.url)["samples"] == 12
    sql = curate.open(pool.storage.url).sql
    assert sql("SELECT count(*), count(DISTINCT uid), count(DISTINCT list) FROM samples").fetchall() == [(12, 12, 1)]
    rows = sql("SELECT attempt, outcome, count(*) FROM fetches GROUP BY ALL ORDER BY ALL").fetchall()
    assert rows == [
        (0, "http_4xx", 1), (0, "http_5xx", 8), (0, "ok", 4), (1, "http_5xx", 4), (1, "ok", 4), (2, "ok", 4)
    ]  # fmt: skip
    found = downloads(Session(Views(pool)))
    assert found is not None
    assert dict(found.outcomes) == {"ok": 12, "http_4xx": 1}
    plan = make_plan(load_recipe(str(recipe)))
    assert (plan.listed, plan.samples, plan.shards, plan.claimed) == (13, 12, 3, 3)
    said = "\n".join(status_lines(pool_status(pool.storage.url)))
    assert "attempt 2 at 8 URLs, in 1 shard" in said
    assert "downloads: ok 12, http_4xx 1" in said
    known = CliRunner().invoke(app, [*words])
    assert "may be had later" not in known.output


def test_a_killed_retry_goes_on_without_being_asked(tmp_path: Path) -> None:
    """The claim was committed, nothing fetched: any run of the pool does it."""
    with Web({"/a.jpg": after(1, ok(jpeg(3)))}) as web:
        recipe = recipe_of(tmp_path, [web.url("/a.jpg")])
        loaded = load_recipe(str(recipe))
        with Progress(None, "a test", io.StringIO()) as progress:
            assert Job(loaded, "inline").run(progress).rows == 0
        time.sleep(0.02)
        assert Retry(Pool.open(loaded.pool), loaded.ingest, ALL).claim(time.time()).claims
        with Progress(None, "a test", io.StringIO()) as progress:
            assert Job(loaded, "inline").run(progress).rows == 1


def test_two_drivers_at_once_try_each_url_once(tmp_path: Path) -> None:
    routes = {f"/{i}.jpg": after(1, ok(jpeg(5 * i))) for i in range(40)}
    with Web(routes) as web:
        recipe = recipe_of(tmp_path, [web.url(u) for u in routes], "shard_size: 10\n")
        words = [sys.executable, "-m", "curate.cli", "run", str(recipe), "--no-report", "--executor", "inline"]
        subprocess.run(words, check=True, capture_output=True, timeout=120)
        both = [
            subprocess.Popen(
                [*words, "--retry", "transient"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for _ in range(2)
        ]
        said = [p.communicate(timeout=120)[0] for p in both]
        assert [p.returncode for p in both] == [0, 0], said
    pool = Pool.open(str(tmp_path / "pool"))
    again = [c for c in claims(pool.storage) if c.kind == "retry"]
    assert sum(c.rows for c in again) == 40, "no row was taken twice"
    query = "SELECT count(*), count(DISTINCT uid) FROM samples"
    assert curate.open(pool.storage.url).sql(query).fetchall() == [(40, 40)]
    folders = {n for n in pool.storage.folders("lists") if n.startswith("retry")}
    assert folders == {c.folder.removeprefix("lists/") for c in again}, "the loser has removed its shards"


def test_refusals_by_name_end_before_anything_is_done(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "demo", "--pool", str(tmp_path / "pool"), "--retry", "refused_robots"])
    assert isinstance(done.exception, UserError)
    assert "a refusal is never tried again" in str(done.exception)
    assert not (tmp_path / "pool").exists()


def test_the_end_of_a_run_says_how(tmp_path: Path) -> None:
    said = say_again({"ok": 5, "timeout": 2, "dns": 1, "http_4xx": 9}, SPEC, "curate run r.yaml")
    assert said == [
        "3 URLs may be had later (timeout 2, dns 1); from 10m 0s on, while attempts are left: "
        "curate run r.yaml --retry transient"
    ]
    assert say_again({"ok": 5, "http_4xx": 9}, SPEC, "curate run r.yaml") == []
    assert say_again({"dns": 5}, IngestSpec(attempts=1), "curate run r.yaml") == []
    assert say_again({"dns": 1}, SPEC, "curate run r --retry dns")[0].endswith("curate run r --retry dns")
