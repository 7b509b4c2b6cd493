"""How a run is told: quiet, JSON lines, bars on a real terminal, Prometheus, the log in the pool."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from curate.errors import UserError
from curate.pool.storage import Storage
from curate.run import runlog, telling
from curate.run.engine import Engine, Pass, Rules
from curate.run.executors import InlineExecutor
from curate.run.processes import alive, process_started
from curate.run.progress import Progress, Telling

HOSTILE = "\x1b[2J\u202eevil"


def work(shared: Any, item: str) -> dict[str, Any]:
    if item == shared:
        raise RuntimeError(f"cannot fetch {HOSTILE} {item}")
    more = {"seconds": {"language": 0.25}, "parts_rows": {"language": 10}, "bytes_read": 7, "bytes_written": 5}
    return {"rows": 10, "outcomes": {"ok": 8, "timeout": 2}, **more}


def run(storage: Storage | None, out: io.StringIO, given: Telling, bad: str | None = None) -> Progress:
    with Progress(storage, "curate run x", out, telling=given) as progress:
        progress.say(f"list {HOSTILE}: 3 samples")
        one = Pass("ingest", work, bad, ["0", "1", "2"], folder="pixels")
        Engine([one], InlineExecutor(), progress, Rules(tries=2, allow_failed=1)).run()
    return progress


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "pool")


# ---------------------------------------------------------------- words


def test_quiet_is_silent_but_for_errors(storage: Storage) -> None:
    out = io.StringIO()
    run(storage, out, Telling(quiet=True))
    assert out.getvalue() == ""
    run(storage, out, Telling(quiet=True), bad="1")
    lines = out.getvalue().splitlines()
    assert len(lines) == 2, "two tries of one item"
    assert lines[1].startswith("ingest 1: RuntimeError: cannot fetch ")
    assert lines[1].endswith("(given up)")


def test_text_from_the_web_cannot_move_the_cursor(storage: Storage) -> None:
    out = io.StringIO()
    run(storage, out, Telling(), bad="1")
    assert not set(out.getvalue()) & {"\x1b", "\u202e"}
    assert "\\u001b[2J\\u202eevil" in out.getvalue()


def test_an_unknown_log_is_refused_before_anything() -> None:
    with pytest.raises(UserError, match="--log yaml: it is one of text, json"):
        Telling(log="yaml")


def test_json_lines_are_objects_with_known_keys(storage: Storage) -> None:
    out = io.StringIO()
    made = run(storage, out, Telling(log="json"), bad="1")
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [e["event"] for e in events] == ["begin", "say", "pass", "failed", "failed", "end"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e["time"]) for e in events)
    assert events[0]["command"] == "curate run x"
    assert events[2]["total"] == 3
    assert [e["final"] for e in events if e["event"] == "failed"] == [False, True]
    assert events[-1]["state"] == "finished"
    assert {e["run"] for e in events if "run" in e} == {made.run}
    assert out.getvalue().isascii(), "one line is one object, whatever stands in it"


def test_json_lines_tell_the_counters_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    now = 1_800_000_000.0
    monkeypatch.setattr(telling.time, "time", lambda: now)
    progress = Progress(None, "t", out, telling=Telling(log="json"))
    progress.begin([Pass("p", work, None, ["0", "1"])])
    progress.started("p", "0")
    progress.finished("p", "0", {"rows": 8}, 4.0)
    now += 11
    progress.tick()
    (told,) = [json.loads(x) for x in out.getvalue().splitlines() if '"progress"' in x]
    assert (told["pass"], told["done"], told["total"], told["rows"], told["median_s"]) == ("p", 1, 2, 8, 4.0)


# ---------------------------------------------------------------- the log in the pool


def log_of(storage: Storage) -> list[dict[str, Any]]:
    (name,) = storage.folders("runs")
    files = sorted(e.name for e in storage.list(f"runs/{name}") if e.name.endswith(".jsonl"))
    text = b"".join(storage.read(f"runs/{name}/{f}") for f in files).decode()
    return [json.loads(line) for line in text.splitlines()]


def test_the_log_has_every_item_and_the_whole_traceback(storage: Storage) -> None:
    run(storage, io.StringIO(), Telling(quiet=True), bad="1")
    events = log_of(storage)
    assert [e["event"] for e in events] == [
        "begin",
        "say",
        "pass",
        "finished",
        "failed",
        "finished",
        "failed",
        "end",
    ] or [e["event"] for e in events] == ["begin", "say", "pass", "finished", "failed", "failed", "finished", "end"]
    failed = [e for e in events if e["event"] == "failed"]
    assert "Traceback (most recent call last)" in failed[0]["error"]
    done = [e for e in events if e["event"] == "finished"]
    assert {e["item"] for e in done} == {"0", "2"}
    assert done[0]["rows"] == 10


def test_the_log_can_be_followed_while_the_run_goes_on(storage: Storage) -> None:
    with Progress(storage, "t", io.StringIO()) as progress:
        progress.say("now")
        assert [e["event"] for e in log_of(storage)] == ["begin", "say"]


def test_the_log_is_in_segments_on_an_object_store(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.at(s3_root)
    monkeypatch.setattr(runlog, "SEGMENT_EVERY_S", -1.0)
    made = run(storage, io.StringIO(), Telling(quiet=True))
    names = [e.name for e in storage.list(f"runs/{made.run}") if e.name.endswith(".jsonl")]
    assert names[:2] == ["log.0000.jsonl", "log.0001.jsonl"]
    assert [e["event"] for e in log_of(storage)] == ["begin", "say", "pass", "finished", "finished", "finished", "end"]


def test_a_long_log_keeps_what_matters(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "MOST_BYTES", 500)
    run(storage, io.StringIO(), Telling(quiet=True), bad="2")
    events = log_of(storage)
    assert sum("from here on no finished items" in str(e.get("message")) for e in events) == 1
    assert [e["event"] for e in events][-3:] == ["failed", "failed", "end"]
    assert sum(e["event"] == "finished" for e in events) < 2


def test_a_log_that_cannot_be_written_is_told_and_ends_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: runlog.RunLog, line: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runlog.RunLog, "_append", full)
    out = io.StringIO()
    made = run(storage, out, Telling(quiet=True))
    assert made.states["ingest"].done == 3
    assert out.getvalue().count("is not written any more: No space left on device") == 1


def test_the_status_has_what_a_plan_prices_by(storage: Storage) -> None:
    made = run(storage, io.StringIO(), Telling(quiet=True))
    found = json.loads(storage.read(f"runs/{made.run}/status.json"))
    ingest = found["passes"]["ingest"]
    assert ingest["parts_seconds"] == {"language": 0.75}
    assert ingest["parts_rows"] == {"language": 30}
    assert (ingest["bytes_read"], ingest["bytes_written"], ingest["folder"]) == (21, 15, "pixels")
    assert 0 <= ingest["wall_s"] < 60
    assert found["workers"] == 1
    assert found["log"].endswith(f"runs/{made.run}/log.jsonl")


# ---------------------------------------------------------------- Prometheus


def samples(path: Path) -> dict[tuple[str, ...], float]:
    found = {}
    for family in text_string_to_metric_families(path.read_text()):
        for s in family.samples:
            found[(s.name, *(s.labels[n] for n in sorted(s.labels)))] = s.value
    return found


def test_prometheus_can_read_the_counters(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "curate.prom"
    made = run(storage, io.StringIO(), Telling(quiet=True, prometheus=path), bad="1")
    found = samples(path)
    assert found["curate_pass_items", "ingest", "total"] == 3
    assert found["curate_pass_items", "ingest", "done"] == 2
    assert found["curate_pass_items", "ingest", "failed"] == 1
    assert found["curate_pass_rows", "ingest"] == 20
    assert found["curate_pass_outcomes", "timeout", "ingest"] == 4
    assert found["curate_pass_bytes", "ingest", "read"] == 14
    assert found["curate_run_state", "finished"] == 1
    assert found["curate_run_state", "running"] == 0
    assert found["curate_run_info", "curate run x", made.run] == 1
    assert abs(found["curate_run_updated_seconds",] - time.time()) < 60
    assert list(tmp_path.glob("curate.prom*")) == [path], "no temporary stays"


def test_a_place_that_cannot_be_written_is_found_out_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--prometheus .*nowhere/x.prom: No such file"):
        Progress(None, "t", io.StringIO(), telling=Telling(prometheus=tmp_path / "nowhere" / "x.prom"))


# ---------------------------------------------------------------- a real terminal

SCRIPT = """
import sys, time
from curate.run.engine import Engine, Pass, Rules
from curate.run.executors import InlineExecutor
from curate.run.progress import Progress
def work(shared, item):
    time.sleep(float(sys.argv[1]))
    return {"rows": 10, "outcomes": {"ok": 10}}
with Progress(None, "t") as progress:
    progress.say("ready")
    passes = [Pass(n, work, None, [str(i) for i in range(8)]) for n in ("ingest", "filter " + "long_name+" * 9)]
    Engine(passes, InlineExecutor(), progress, Rules()).run()
"""


@contextmanager
def terminal(columns: int, item_s: float = 0.1) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process whose standard error is a terminal of so many columns; gives the other end."""
    ours, theirs = pty.openpty()
    resize(theirs, columns)
    env = os.environ | {"TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)}
    env.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(item_s)], stdout=theirs, stderr=theirs, stdin=theirs, env=env
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def resize(fd: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def read_until(fd: int, wanted: str, seconds: float = 30) -> bytes:
    os.set_blocking(fd, False)
    said, end = b"", time.monotonic() + seconds
    while not re.search(wanted.encode(), said) and time.monotonic() < end:
        try:
            said += os.read(fd, 65536)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            break  # the other end is closed: the process is over
    return said


def widths(said: bytes) -> list[int]:
    """Columns of the printed lines, without the codes that move and colour."""
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", said).decode()
    return [len(line) for line in re.split(r"[\r\n]+", plain)]


@pytest.mark.parametrize("columns", [40, 100])
def test_bars_fit_the_terminal_and_end_as_lines(columns: int) -> None:
    with terminal(columns) as (process, fd):
        said = read_until(fd, "nothing says this")
        assert process.wait(10) == 0
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", said).decode()
    assert "ingest: 8 of 8" in plain
    bars = [w for w, line in zip(widths(said), re.split(r"[\r\n]+", plain), strict=True) if "━" in line]
    assert bars, "there were bars"
    assert max(bars) <= columns
    assert said.count(b"\x1b[?25l") == said.count(b"\x1b[?25h") == 1, "the cursor is hidden and shown again"


def test_bars_follow_a_terminal_that_shrinks() -> None:
    with terminal(120, 0.4) as (process, fd):
        before = read_until(fd, "[1-3]/8")
        resize(fd, 44)
        process.send_signal(signal.SIGWINCH)
        time.sleep(0.6)  # what was being drawn is drawn
        read_until(fd, "[0-8]/8")
        later = read_until(fd, "[1-8]/8")
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", later).decode()
    assert max(widths(before)) > 60
    drawn = [len(line) for line in re.split(r"[\r\n]+", plain)[1:-1] if "/8" in line]  # whole lines only
    assert drawn
    assert max(drawn) <= 44


def test_an_interrupted_bar_gives_the_cursor_back() -> None:
    with terminal(80, 0.4) as (process, fd):
        said = read_until(fd, "[1-3]/8")
        process.send_signal(signal.SIGINT)
        said += read_until(fd, "KeyboardInterrupt")
        process.wait(10)
    assert said.count(b"\x1b[?25h") == 1
    assert said.rindex(b"\x1b[?25h") < said.index(b"Traceback"), "first the terminal is put right"


# ---------------------------------------------------------------- processes


def test_a_process_is_known_by_its_start() -> None:
    mine = process_started(os.getpid())
    assert mine == process_started(os.getpid())
    assert alive(os.getpid(), mine)
    assert not alive(os.getpid(), "some other boot:1")
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = process_started(child.pid)
    child.wait()
    assert not alive(child.pid, started)
