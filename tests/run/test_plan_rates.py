"""Rates of earlier runs, sums over steps, machines, and numbers for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run.plan_parts import Planner, planner

from curate.errors import UserError
from curate.pool.storage import Storage
from curate.run.planned import Planned
from curate.run.planning.amounts import Amount, Priced, totals, wall_seconds
from curate.run.planning.machine import Machine, machine
from curate.run.planning.rates import Rates, Run, run_of
from curate.run.planning.units import clock, machine_time, size
from stages.base import Need


@pytest.fixture
def person(tmp_path: Path) -> Planner:
    return planner(tmp_path)


def status(**passes: dict[str, Any]) -> dict[str, Any]:
    zero = {"done": 1, "total": 1, "failed": 0, "worker_seconds": 1.0, "outcomes": {}}
    return {"updated": 1.0, "host": "h", "executor": "ray", "passes": {n: zero | p for n, p in passes.items()}}


def test_rates_come_from_what_workers_told(person: Planner) -> None:
    assert person.plan().totals.unmeasured, "nothing was ever run here"
    person.run()
    person.add_shard(3)
    plan = person.plan()
    assert plan.totals.unmeasured == ()
    assert plan.totals.cpu_hours > 0
    assert set(plan.rates) >= {"weighed(weights=w.txt)", "least", "where", "keep_one", "pick", "pack fill"}
    assert all(r.origin.startswith("this pool, 20") for r in plan.rates.values())
    assert all(r.alike for r in plan.rates.values())


def test_the_newest_runs_count_until_enough_rows_are_seen() -> None:
    runs = [
        Run(float(when), sums=run_of(status(x={"rows": rows, "parts_seconds": {"m": seconds}})).sums)
        for when, rows, seconds in ((3, 15_000, 15.0), (2, 10_000, 30.0), (1, 10_000, 10_000.0))
    ]
    rate = Rates(runs).method("m")
    assert rate is not None
    assert (rate.rows, rate.seconds) == (25_000, 45 / 25_000)


def test_this_machine_and_executor_go_before_others() -> None:
    def run(seconds: float, when: float, host: str, executor: str) -> Run:
        return Run(when, host, executor, run_of(status(x={"rows": 1000, "parts_seconds": {"m": seconds}})).sums)

    away, other, mine = run(1, 9, "elsewhere", "ray"), run(2, 5, "", "inline"), run(3, 1, "", "ray")
    for runs, seconds, words in (
        ([away, other, mine], 3, "this pool, "),
        ([away, other], 2, "this pool with another executor, "),
        ([away], 1, "this pool on another machine, "),
    ):
        rate = Rates(runs, "ray").method("m")
        assert rate is not None
        assert rate.seconds == seconds / 1000
        assert rate.origin.startswith(words)


def test_other_parameters_are_better_than_no_rate_and_say_so() -> None:
    rates = Rates([run_of(status(describe={"rows": 100, "parts_seconds": {"clip(model=B)": 5.0, "files": 1.0}}))])
    exact, other = rates.method("clip(model=B)"), rates.method("clip(model=L)")
    assert exact is not None
    assert other is not None
    assert (exact.alike, other.alike) == (True, False)
    assert other.origin.endswith("with other parameters")
    assert rates.method("phash") is None


def test_rows_are_those_of_the_method_not_of_the_pass() -> None:
    parts = {"rows": 100, "parts_seconds": {"a": 10.0, "b": 10.0}, "parts_rows": {"a": 100, "b": 20}}
    rates = Rates([run_of(status(describe=parts))])
    assert [rates.method(m).seconds for m in "ab"] == [0.1, 0.5]  # type: ignore[union-attr]


def test_weights_that_are_loaded_once_are_in_no_rate() -> None:
    rates = Rates([run_of(status(describe={"rows": 100, "parts_seconds": {"clip": 10.0, "open": 500.0}}))])
    assert rates.method("open") is None
    assert rates.method("clip").seconds == 0.1  # type: ignore[union-attr]


def test_phases_are_told_for_each_sample_and_only_of_whole_ones() -> None:
    read = {"bytes_read": 50, "bytes_written": 1}

    def phases(done: int) -> dict[str, Any]:
        return status(
            **{
                "near pairs": {"rows": 7, "parts_seconds": {"keep_one pairs": 4.0}} | read,
                "near verdict": {"rows": 1000, "parts_seconds": {"keep_one verdict": 1.0}, "done": done, "total": 3},
            }
        )

    rate = Rates([run_of(phases(3))]).phase("keep_one", "pairs", "verdict")
    assert rate is not None
    assert (rate.seconds, rate.read, rate.written) == (4 / 1000, 50 / 1000, 1 / 1000)
    assert Rates([run_of(phases(2))]).phase("keep_one", "pairs", "verdict") is None


def test_runs_of_an_older_curate_count_by_pass() -> None:
    rates = Rates([run_of(status(**{"filter a+b": {"rows": 10}, "describe-2": {"rows": 20}}))])
    assert rates.method("where") is None
    assert [rates.work(n).seconds for n in ("filter", "describe")] == [0.1, 0.05]  # type: ignore[union-attr]


def test_a_status_that_is_no_json_is_passed_over(person: Planner) -> None:
    person.run()
    for name, text in (("20990101-000000-ffffff", "{"), ("20990102-000000-ffffff", "[]")):
        (person.pool / "runs" / name).mkdir()
        (person.pool / "runs" / name / "status.json").write_text(text)
    assert Rates.of_pool(Storage.at(str(person.pool)), "").method("pick") is not None


# ---------------------------------------------------------------- sums, machines, scale


def priced(seconds: float, need: Need, *, kind: str = "columns", parts: int = 100) -> Priced:
    return Priced(Planned("x", kind, "f", parts, parts, need=need), (), Amount(1, seconds, 2.0, 3.0), Amount())


def test_cpu_and_gpu_hours_are_worker_time_times_need() -> None:
    found = totals([priced(3600, Need(cpus=4)), priced(7200, Need(cpus=2, gpus=0.5))])
    assert (found.cpu_hours, found.gpu_hours, found.read, found.written) == (8, 1, 4, 6)


def test_the_clock_runs_side_by_side_within_a_flow_and_waits_at_barriers() -> None:
    here = Machine("ray", None, cpus=4, gpus=1, memory_gb=100)
    flow = [priced(400, Need()), priced(50, Need(gpus=1))]
    assert wall_seconds(flow, here) == 100, "400 s on 4 CPUs, beside 50 s on the GPU"
    assert wall_seconds([*flow, priced(40, Need(), kind="all shards", parts=1), priced(4, Need())], here) == 141
    assert wall_seconds(flow, Machine("ray", None, 4, 0, 100)) is None, "there is no GPU"
    assert wall_seconds(flow, here, 1000) == 4, "no more workers than shards are of use"


def test_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert machine("inline", 8, 1e9).slots(Need(gpus=1)) == 1
    assert machine("auto", None, 1).name == "inline"
    assert machine("auto", 4, 1e9).name == "ray"
    assert machine("ray", 3, 0).slots(Need(memory_gb=0.001)) == 3
    assert machine("ray", 3, 0).slots(Need(memory_gb=1e6)) == 0
    with pytest.raises(UserError, match="--executor spark: it is one of auto, inline, ray"):
        machine("spark", None, 0)
    monkeypatch.setenv("RAY_ADDRESS", "ray://somewhere")
    assert machine("ray", None, 0).slots(Need()) is None
    assert machine("auto", 50, 0).slots(Need(gpus=1)) == 50


def test_gpu_work_is_named_and_counted_apart(person: Planner) -> None:
    person.columns = "  - run.plan_parts:OnGpu\n"
    step = next(p for p in person.plan().steps if p.step.need.gpus)
    assert (step.step.name, step.step.note) == ("describe-2", "on_gpu")
    assert step.todo.written == pytest.approx(60 * 512 * 2, rel=0.2), "by the width of its type"
    assert step.guessed
    (person.pool / "runs" / "20990101-000000-ffffff").mkdir(parents=True)
    told = status(**{"describe-2": {"rows": 10, "parts_seconds": {"on_gpu": 600.0}}})
    (person.pool / "runs" / "20990101-000000-ffffff" / "status.json").write_text(json.dumps(told))
    assert person.plan().totals.gpu_hours == 1.0


@given(st.floats(0, 1e18))
def test_numbers_are_short(value: float) -> None:
    for text in (size(value), clock(value), machine_time(value / 1000, "CPU")):
        assert len(text) < 40
    assert len(size(value)) <= 9


def test_numbers_as_people_say_them() -> None:
    assert [size(v) for v in (0, 999, 1000, 1_550_000, 2e13, 999_999)] == [
        "0 B",
        "999 B",
        "1.0 KB",
        "1.6 MB",
        "20 TB",
        "1.0 MB",
    ]
    assert [clock(v) for v in (0, 0.2, 90, 150, 3 * 3600, 5 * 86400)] == [
        "0 s",
        "< 1 s",
        "90 s",
        "2 min",
        "3.0 h",
        "5.0 days",
    ]
    assert [machine_time(v, "GPU") for v in (0.01, 1.0, 46_000)] == ["36 s of GPU", "60 min of GPU", "46,000 GPU-hours"]
