"""What a run says while it goes on: lines off a terminal, bars on one, and a status file for other terminals."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from curate.pool.storage import Storage
from curate.run import telling as progress_module
from curate.run.engine import Engine, Pass, Rules
from curate.run.executors import InlineExecutor
from curate.run.progress import PassState, Progress, describe_state, duration


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress_module.time, "time", made)
    return made


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "pool")


def work(shared: Any, item: str) -> dict[str, Any]:
    if item == shared:
        raise RuntimeError(f"cannot do {item}\nat all")
    return {"rows": 10, "outcomes": {"ok": 8, "timeout": 2}}


def one(name: str, items: list[str], shared: Any = None) -> Pass:
    return Pass(name, work, shared, items)


def status_of(storage: Storage) -> dict[str, Any]:
    (run,) = storage.folders("runs")
    return json.loads(storage.read(f"runs/{run}/status.json"))


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (45.4, "45 s"), (59.4, "59 s"), (60, "1m 0s"), (200, "3m 20s"), (3599, "59m 59s"), (3600, "1h 0m"),
        (18_600, "5h 10m"), (360_000, "100h 0m"),
    ],
)  # fmt: skip
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_line_says_rate_outcomes_failures_and_time_left() -> None:
    state = PassState(100, done=12, failed=1, rows=1200, began=1000.0)
    state.outcomes.update({"ok": 11_532, "http_4xx": 210, "timeout": 20, "dns": 5, "tls": 1})
    assert describe_state("ingest", state, 1006.0) == (
        "ingest: 12 of 100, 200 rows/s, ok 11,532, http_4xx 210, timeout 20, dns 5, 1 failed, 44 s left"
    )
    assert describe_state("merge", PassState(3, began=5.0), 9.0) == "merge: 0 of 3", "nothing is known yet"


def test_time_left_is_at_the_rate_so_far() -> None:
    state = PassState(10, began=100.0)
    assert state.left_s(150.0) is None
    state.done = 2
    assert state.left_s(150.0) == 200.0
    state.done = 10
    assert state.left_s(150.0) == 0.0


# ---------------------------------------------------------------- the status file


def test_the_status_file_of_a_whole_run(storage: Storage) -> None:
    out = io.StringIO()
    with Progress(storage, "curate run x", out) as progress:
        passes = [one("ingest", ["0", "1", "2"]), one("describe", ["0"])]
        Engine(passes, InlineExecutor(), progress, Rules(tries=1)).run()
        assert status_of(storage)["state"] == "running"
    status = status_of(storage)
    assert (status["state"], status["title"]) == ("finished", "curate run x")
    assert (status["host"], status["pid"]) == (socket.gethostname(), os.getpid())
    ingest, describe = status["passes"]["ingest"], status["passes"]["describe"]
    assert (ingest["total"], ingest["done"], ingest["failed"], ingest["rows"]) == (3, 3, 0, 30)
    assert ingest["outcomes"] == {"ok": 24, "timeout": 6}
    assert ingest["left_s"] == 0
    assert describe["done"] == 1
    assert status["longest"] == []
    assert status["errors"] == {}
    assert status["updated"] >= status["began"]


def test_failures_are_in_the_file_and_told_once_a_try(storage: Storage) -> None:
    out = io.StringIO()
    with Progress(storage, "t", out) as progress:
        Engine([one("p", ["0", "1"], "1")], InlineExecutor(), progress, Rules(tries=2, allow_failed=0.5)).run()
    said = [line for line in out.getvalue().splitlines() if "p 1:" in line]
    assert said == ["p 1: at all (will be tried again)", "p 1: at all (given up)"]
    status = status_of(storage)
    assert status["passes"]["p"]["failed"] == 1
    assert "RuntimeError: cannot do 1\nat all" in status["errors"]["p 1"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_a_run_that_is_stopped_says_by_what(storage: Storage, error: type[BaseException]) -> None:
    def stopped() -> None:
        with Progress(storage, "t", io.StringIO()):
            raise error

    with pytest.raises(error):
        stopped()
    assert status_of(storage)["state"] == f"stopped: {error.__name__}"


def test_nothing_to_do_leaves_no_file(storage: Storage) -> None:
    with Progress(storage, "t", io.StringIO()):
        pass
    assert storage.folders("runs") == []


def test_a_plan_has_no_pool_to_write_to() -> None:
    with Progress(None, "plan", io.StringIO()) as progress:
        Engine([one("p", ["0"])], InlineExecutor(), progress, Rules()).run()


def test_the_file_is_rewritten_now_and_then_not_at_every_tick(storage: Storage, clock: Clock) -> None:
    progress = Progress(storage, "t", io.StringIO())
    progress.begin([one("p", ["0", "1", "2"])])
    first = status_of(storage)["updated"]
    progress.started("p", "0")
    progress.finished("p", "0", {"rows": 1}, 0.5)
    clock.now += 1.0
    progress.tick()
    assert status_of(storage)["updated"] == first
    clock.now += 1.5
    progress.tick()
    status = status_of(storage)
    assert status["updated"] == clock.now
    assert status["passes"]["p"]["done"] == 1
    assert status["passes"]["p"]["worker_seconds"] == 0.5


def test_the_file_names_what_takes_longest(storage: Storage, clock: Clock) -> None:
    progress = Progress(storage, "t", io.StringIO())
    progress.begin([one("p", [str(i) for i in range(8)])])
    for i in range(8):
        progress.started("p", str(i))
        clock.now += 10
    progress.finished("p", "0", {}, 80.0)
    longest = progress.status("running")["longest"]
    assert [(f["item"], f["seconds"]) for f in longest] == [("1", 70), ("2", 60), ("3", 50), ("4", 40), ("5", 30)]


def test_a_pass_that_waits_begins_with_its_first_item(storage: Storage, clock: Clock) -> None:
    progress = Progress(storage, "t", io.StringIO())
    progress.begin([one("late", ["0", "1"])])
    clock.now += 1000  # waiting for another pass
    progress.started("late", "0")
    clock.now += 10
    progress.finished("late", "0", {"rows": 50}, 10)
    assert progress.states["late"].left_s(clock.now) == 10
    assert describe_state("late", progress.states["late"], clock.now) == "late: 1 of 2, 5 rows/s, 10 s left"


def test_two_runs_of_one_second_have_two_files(storage: Storage, clock: Clock) -> None:
    for _ in range(2):
        Progress(storage, "t", io.StringIO()).begin([one("p", ["0"])])
    assert len(storage.folders("runs")) == 2


def test_on_an_object_store_the_file_is_rewritten_less_often(s3_root: str, clock: Clock) -> None:
    storage = Storage.at(s3_root)
    progress = Progress(storage, "t", io.StringIO())
    progress.begin([one("p", ["0"])])
    first = status_of(storage)["updated"]
    clock.now += 10
    progress.tick()
    assert status_of(storage)["updated"] == first
    clock.now += 11
    progress.tick()
    assert status_of(storage)["updated"] == clock.now


# ---------------------------------------------------------------- lines and bars


def test_off_a_terminal_there_is_a_line_every_ten_seconds(clock: Clock) -> None:
    out = io.StringIO()
    progress = Progress(None, "t", out)
    progress.begin([one("p", ["0", "1", "2"]), one("idle", ["0"])])
    assert out.getvalue() == "", "nothing has happened yet"
    progress.started("p", "0")
    clock.now += 4
    progress.finished("p", "0", {"rows": 8}, 4)
    progress.tick()
    assert out.getvalue() == ""
    clock.now += 7
    progress.tick()
    assert out.getvalue().splitlines() == ["p: 1 of 3, 1 rows/s, 22 s left", "idle: 0 of 1"]
    progress.tick()
    assert len(out.getvalue().splitlines()) == 2
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_are_bars_and_lines_stand_above_them() -> None:
    out = Terminal()
    with Progress(None, "t", out) as progress:
        Engine([one("ingest", ["0", "1"])], InlineExecutor(), progress, Rules()).run()
        progress.say("a [bold]list[/bold] of 3 samples")
    text = out.getvalue()
    assert "ingest" in text
    assert "ingest: 2 of 2" in text, "a finished pass is a line"
    assert "ok 16" in text
    assert "a [bold]list[/bold] of 3 samples" in text, "what comes from the input is text, not markup"
