"""`curate status`: what is in a pool, and what its last run is doing or died of."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tiny import add_shard, sample, tiny_pool

from curate.ask.status import STALE_S, living, pool_status, print_status
from curate.errors import UserError
from curate.pool.columns import write_parquet
from curate.pool.facts import FETCHES, UID
from curate.pool.layout import fetch_log
from curate.pool.pool import Pool
from curate.run.engine import Engine, Pass, Rules
from curate.run.executors import InlineExecutor
from curate.run.progress import Progress


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return tiny_pool(str(tmp_path / "p"), shards=2, rows=3)


def work(shared: Any, item: str) -> dict[str, Any]:
    time.sleep(0.01)
    if item == shared:
        raise RuntimeError(f"cannot do {item}\nthe disk sings")
    return {"rows": 10, "outcomes": {"ok": 9, "http_4xx": 1}}


def run(pool: Pool, items: list[str], bad: str = "", title: str = "curate run x") -> None:
    with Progress(pool.storage, title, io.StringIO()) as progress:
        rules = Rules(tries=1, allow_failed=1)
        Engine([Pass("ingest", work, bad, items, folder="pixels")], InlineExecutor(), progress, rules).run()


def change(pool: Pool, **more: Any) -> None:
    """Rewrite the newest run's status, as another process would have left it."""
    newest = pool.storage.folders("runs")[-1]
    rel = f"runs/{newest}/status.json"
    pool.storage.put(rel, json.dumps(json.loads(pool.storage.read(rel)) | more).encode())


def printed(pool: Pool, capsys: pytest.CaptureFixture[str]) -> str:
    print_status(pool.storage.url, as_json=False)
    return capsys.readouterr().out


def test_a_pool_before_its_first_run(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    claim = {"list": "more", "hash": "0123", "first": 2, "shards": 5, "rows": 100}
    pool.storage.commit("lists/claims/00000002.json", json.dumps(claim).encode())
    status = pool_status(pool.storage.url)
    assert (status["claimed"], status["shards"], status["samples"], status["removed"]) == (7, 2, 6, 0)
    assert [(found["list"], found["shards"], found["rows"]) for found in status["lists"]] == [
        ("tiny", 1, 3), ("tiny", 1, 3), ("more", 5, 100),
    ]  # fmt: skip
    assert status["run"] is None
    text = printed(pool, capsys)
    assert "2 of 7 shards, 6 samples with images" in text
    assert "list more@0123: 100 samples in 5 shards" in text
    assert "no run yet" in text


def test_no_pool_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no pool here"):
        pool_status(str(tmp_path / "nothing"))


def test_removed_uids_are_counted(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    pool.remove(pa.array([sample(1)["uid"], sample(2)["uid"]], UID), "owner")
    assert pool_status(pool.storage.url)["removed"] == 2
    assert "2 uids are taken out" in printed(pool, capsys)


def test_a_finished_run(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    run(pool, ["00000000", "00000001"])
    text = printed(pool, capsys)
    assert "(curate run x)" in text
    assert ": finished, 0 s ago" in text
    assert re.search(r"ingest +━{20} 2 of 2, [\d,]+ rows/s, [\d,]+ rows a worker-second\n", text)
    assert "ok 18, http_4xx 2" in text
    assert "left" not in text


def test_the_last_error_of_a_failed_item_is_shown(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    run(pool, ["00000000", "00000009"], bad="00000009")
    text = printed(pool, capsys)
    assert re.search(r"ingest +━{10}─{10} 1 of 2, 1 failed", text)
    assert "failed: ingest 00000009: the disk sings" in text
    assert "to go on, the same command again: curate run x" in text
    assert "Traceback" in pool_status(pool.storage.url)["run"]["errors"]["ingest 00000009"]


def test_what_failed_earlier_is_told_until_it_is_there(pool: Pool) -> None:
    run(pool, ["00000009"], bad="00000009", title="first")
    run(pool, ["00000000"], title="second")
    (failed,) = pool_status(pool.storage.url)["failed"]
    assert (failed["pass"], failed["item"], failed["folder"]) == ("ingest", "00000009", "pixels")
    pool.storage.commit("pixels/00000009.parquet", pool.storage.read("pixels/00000000.parquet"))
    assert pool_status(pool.storage.url)["failed"] == []


def test_a_stopped_run_tells_its_message_harmlessly(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> None:
        with Progress(pool.storage, "curate run x", io.StringIO()) as progress:
            progress.say("begins")
            raise UserError("no column 'a\x1b[31m'\nthe nearest is 'b'")

    with pytest.raises(UserError):
        stopped()
    text = printed(pool, capsys)
    assert "stopped: UserError, 0 s ago" in text
    assert "the nearest is 'b'" in text
    assert "\x1b" not in text


def test_all_living_runs_are_shown(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    run(pool, ["00000000"], title="one")
    change(pool, state="running")
    note = json.loads(pool.storage.read(f"runs/{pool.storage.folders('runs')[-1]}/status.json"))
    for number, title in ((1, "two"), (2, "three")):
        there = note | {"title": title, "run": title, "state": "running" if number == 2 else "finished"}
        pool.storage.put(f"runs/2999010{number}-000000-aaaaaa/status.json", json.dumps(there).encode())
    text = printed(pool, capsys)
    assert "(three)" in text
    assert "(two)" not in text, "over, and not the newest"
    assert "(one)" in text


def test_another_process_of_the_same_number_is_not_the_run(pool: Pool) -> None:
    run(pool, ["00000000"])
    change(pool, state="running")
    assert pool_status(pool.storage.url)["run"]["state"] == "running", "this very process"
    change(pool, state="running", pid_started="another boot:17")
    assert pool_status(pool.storage.url)["run"]["state"].startswith("dead: ")


def test_a_straggler_is_set_beside_the_median(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    run(pool, ["00000000"])
    change(pool, state="running", longest=[{"pass": "ingest", "item": "7", "seconds": 90, "median_s": 4.5}])
    assert "longest: ingest 7 for 1m 30s, 20.0 times the median of 4.5 s" in printed(pool, capsys)


def test_watching_ends_with_the_run(
    pool: Pool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pool, ["00000000"])
    change(pool, state="running")
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            change(pool, state="finished")

    monkeypatch.setattr("curate.ask.status.time.sleep", sleep)
    print_status(pool.storage.url, as_json=False, watch=True)
    assert capsys.readouterr().out.count("(curate run x)") == 3
    with pytest.raises(UserError, match="--watch is for a person"):
        print_status(pool.storage.url, as_json=True, watch=True)


def test_a_living_run_shows_what_takes_long(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    run(pool, ["00000000"])
    change(pool, state="running", longest=[{"pass": "ingest", "item": "00000007", "seconds": 90}])
    text = printed(pool, capsys)
    assert ": running, " in text
    assert "longest: ingest 00000007 for 1m 30s" in text


def test_a_run_whose_process_is_gone_is_dead(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    run(pool, ["00000000"])
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    change(pool, state="running", pid=child.pid)
    assert "dead: it stopped without saying why" in printed(pool, capsys)
    change(pool, state="stopped: KeyboardInterrupt", pid=child.pid)
    assert "stopped: KeyboardInterrupt" in printed(pool, capsys), "what it said itself stays"


def test_a_run_that_is_killed_is_dead_for_the_next_who_asks(pool: Pool) -> None:
    """A real process, killed while its pass goes on."""
    script = (
        "import sys, io\n"
        "from curate.pool.storage import Storage\n"
        "from curate.run.engine import Pass\n"
        "from curate.run.progress import Progress\n"
        "p = Progress(Storage.at(sys.argv[1]), 't', io.StringIO())\n"
        "p.begin([Pass('ingest', print, None, ['0', '1'])])\n"
        "p.started('ingest', '0')\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, pool.storage.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    assert pool_status(pool.storage.url)["run"]["state"] == "running"
    child.kill()
    child.communicate()
    assert pool_status(pool.storage.url)["run"]["state"].startswith("dead: ")


def test_whether_a_run_elsewhere_lives_is_told_by_the_age_of_its_status() -> None:
    now = time.time()
    assert living({"host": "elsewhere", "pid": os.getpid(), "updated": now - STALE_S / 2})
    assert not living({"host": "elsewhere", "pid": os.getpid(), "updated": now - STALE_S * 2})
    assert living({"host": socket.gethostname(), "pid": os.getpid(), "updated": now - STALE_S * 2})


def test_the_newest_run_is_shown(pool: Pool) -> None:
    run(pool, ["00000000"], title="first")
    newest = pool.storage.folders("runs")[-1]
    note = json.loads(pool.storage.read(f"runs/{newest}/status.json")) | {"title": "second"}
    pool.storage.put("runs/29990101-000000-aaaaaa/status.json", json.dumps(note).encode())
    assert pool_status(pool.storage.url)["run"]["title"] == "second"


def test_json_is_the_whole_status(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    run(pool, ["00000000"])
    print_status(pool.storage.url, as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(pool_status(pool.storage.url)))


def test_on_an_object_store(s3_root: str) -> None:
    pool = tiny_pool(s3_root, shards=1, rows=2)
    add_shard(pool, 1, [sample(50)])
    run(pool, ["00000000"])
    status = pool_status(s3_root)
    assert (status["shards"], status["samples"], status["run"]["state"]) == (2, 3, "finished")


def test_a_low_success_rate_is_explained(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("ok", 200)] * 40 + [("http_4xx", 404)] * 50 + [("timeout", None)] * 10
    made = [
        {"uid": i.to_bytes(16, "big"), "url": f"http://h{i % 20}.test/{i}.jpg", "outcome": o, "status": s, "attempt": 0}
        for i, (o, s) in enumerate(rows)
    ]
    pool.storage.commit(fetch_log(0, 0), write_parquet(pa.Table.from_pylist(made, FETCHES), {"rows": len(rows)}))
    said = " ".join(printed(pool, capsys).split())
    assert "downloads: http_4xx 50, ok 40, timeout 10" in said
    assert "50 of 100 URLs (50.0 %) on 20 of 20 hosts: gone (404, 410). This is link rot" in said
    assert "10 may be had later: the recipe's `curate run`, with --retry transient" in said
    assert pool_status(pool.storage.url)["downloads"]["outcomes"] == {"http_4xx": 50, "ok": 40, "timeout": 10}


def test_where_all_came_nothing_is_said_of_downloads(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"uid": bytes(16), "url": "http://h.test/1.jpg", "outcome": "ok", "status": 200, "attempt": 0}
    pool.storage.commit(fetch_log(0, 0), write_parquet(pa.Table.from_pylist([row], FETCHES), {"rows": 1}))
    assert "downloads" not in printed(pool, capsys)
