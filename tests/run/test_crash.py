"""Kill -9, Ctrl-C, lost workers, two drivers: nothing is lost, the rerun is the same. More: bench/engine_crash.py."""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from jobs import Job, count_files, damaged, differences, family, faults, make_job, noise, run, run_here, snapshot

from curate.errors import UserError
from curate.run.engine import Engine, Pass, Rules
from curate.run.executors import InlineExecutor, RayExecutor
from curate.run.progress import Progress
from stages.base import Need


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("crash")
    made = make_job(folder, noise(folder, 40), shard=20, pack=20, gpus=0)
    run_here(made.recipe, folder / "undisturbed", "inline")
    return made


@pytest.fixture(scope="module")
def expected(job: Job) -> dict[str, str]:
    return snapshot(job.folder / "undisturbed")


def wait_for(pool: Path, files: int, alive: Callable[[], bool]) -> None:
    while alive() and count_files(pool) < files:
        time.sleep(0.005)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_driver_loses_nothing(job: Job, expected: dict[str, str], seed: int) -> None:
    pool = job.folder / f"killed-{seed}"
    running = run(job, pool, "inline")
    wait_for(pool, random.Random(seed).randrange(10, len(expected) - 10), lambda: running.alive)
    assert running.alive, running.said()
    running.kill()
    assert damaged(expected, snapshot(pool)) == []
    run_here(job.recipe, pool, "inline")
    assert differences(expected, snapshot(pool)) == []
    assert not faults(pool)


def test_two_drivers_at_once_do_no_harm(job: Job, expected: dict[str, str]) -> None:
    pool = job.folder / "two"
    both = [run(job, pool, "inline"), run(job, pool, "inline")]
    assert [r.wait() for r in both] == [0, 0], [r.said() for r in both]
    assert differences(expected, snapshot(pool)) == []
    assert not faults(pool)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_say_how_to_go_on(
    job: Job, expected: dict[str, str], number: signal.Signals, status: int
) -> None:
    pool = job.folder / f"interrupted-{status}"
    running = run(job, pool, "inline")
    wait_for(pool, len(expected) // 3, lambda: running.alive)
    running.kill(number)
    assert running.wait(30) == status
    assert "what was finished is kept. Go on with: curate run" in running.said()
    assert "Traceback" not in running.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_where_a_library_makes_an_error_of_it(number: signal.Signals) -> None:
    """As DuckDB does, which answers with RuntimeError: the engine must not try the shard again."""
    tried: list[str] = []

    def work(_: Any, item: str) -> dict[str, Any]:
        tried.append(item)
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except KeyboardInterrupt:
            if item == "error":
                raise RuntimeError("Query interrupted") from None
        return {}

    before = signal.signal(number, signal.default_int_handler)
    try:
        for item in ("error", "swallowed"):
            with pytest.raises(KeyboardInterrupt):
                Engine([Pass("a", work, None, [item])], InlineExecutor(), Progress(None, "test"), Rules()).run()
        assert tried == ["error", "swallowed"]
        assert signal.getsignal(number) is signal.default_int_handler, "the handler of before is back"
    finally:
        signal.signal(number, before)


@pytest.mark.usefixtures("ray_session")
def test_a_killed_worker_is_made_up_for(job: Job, expected: dict[str, str]) -> None:
    pool = job.folder / "worker"
    killed: list[str] = []

    def kill_a_busy_worker() -> None:
        while not killed and threading.main_thread().is_alive() and not over.is_set():
            busy = [p for p in family(os.getpid()) if p.is_running() and p.name().startswith("ray::worker")]
            if busy and count_files(pool) > 8:
                killed.append(busy[0].name())
                busy[0].kill()
            time.sleep(0.02)

    over = threading.Event()
    killer = threading.Thread(target=kill_a_busy_worker)
    killer.start()
    try:
        run_here(job.recipe, pool, "ray")
    finally:
        over.set()
        killer.join()
    assert killed, "no worker was at work when it was looked for"
    assert differences(expected, snapshot(pool)) == []
    assert not faults(pool)


class FakeRay:
    """A cluster whose resources are set by the test."""

    def __init__(self, **resources: float) -> None:
        self.resources = resources

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, function: Any) -> Any:
        return function


def test_a_lost_node_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeRay(CPU=4, GPU=2, memory=8e9)
    monkeypatch.setattr("curate.run.executors._start_ray", lambda _: cluster)
    executor = RayExecutor()
    need = Need(cpus=1, gpus=1, memory_gb=1)
    assert executor.capacity(need) == 2
    cluster.resources = {"CPU": 2, "memory": 4e9}  # the node with the GPUs is gone
    assert executor.capacity(need) == 1, "one waits in Ray's queue until the node is back"
    assert executor.capacity(Need(cpus=1, memory_gb=1)) == 2
    with pytest.raises(UserError, match=r"one worker asks for 1, 3 and 1 GB: add a node that has them"):
        executor.capacity(Need(cpus=1, gpus=3, memory_gb=1))


class FakeHandle:
    """Stands for a function, its options, an actor and its methods."""

    def options(self, **_: Any) -> FakeHandle:
        return self

    def remote(self, *_: Any) -> FakeHandle:
        return FakeHandle()

    @property
    def run(self) -> FakeHandle:
        return self


class BusyRay(FakeRay):
    """Work is done when the test says so."""

    def __init__(self, **resources: float) -> None:
        super().__init__(**resources)
        self.ready: list[Any] = []
        self.killed: list[Any] = []

    def remote(self, function: Any) -> Any:
        return FakeHandle()

    def put(self, value: Any) -> Any:
        return value

    def wait(self, refs: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return [r for r in refs if r in self.ready], []

    def get(self, ref: Any) -> dict[str, Any]:
        return {}

    def kill(self, handle: Any) -> None:
        self.killed.append(handle)


@pytest.mark.parametrize(
    ("cluster", "other", "goes"),
    [
        ({"CPU": 1, "GPU": 1}, Need(cpus=1, memory_gb=0), True),  # its half CPU is one that the task lacks
        ({"CPU": 2, "GPU": 1}, Need(cpus=1, memory_gb=0), False),
        ({"CPU": 4, "GPU": 1}, Need(cpus=1, gpus=1, memory_gb=1), True),  # another kind of actor lacks the GPU
        ({"CPU": 4, "GPU": 2}, Need(cpus=1, gpus=1, memory_gb=1), False),
    ],
)
def test_an_idle_actor_gives_way(
    monkeypatch: pytest.MonkeyPatch, cluster: dict[str, float], other: Need, goes: bool
) -> None:
    ray = BusyRay(memory=8e9, **cluster)
    monkeypatch.setattr("curate.run.executors._start_ray", lambda _: ray)
    executor = RayExecutor()
    executor.submit(len, None, "1", Need(cpus=0.5, gpus=1, memory_gb=0.2))
    assert executor.wait(0) == []
    ray.ready = list(executor._refs)
    assert [ticket for ticket, _ in executor.wait(0)] == [1]
    assert ray.killed == [], "nobody else wants anything: the weights stay"
    executor.submit(len, None, "2", other)
    executor.wait(0)
    assert len(ray.killed) == goes


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_the_run_at_once(number: int) -> None:
    """Neither tried again nor counted against the item: no room is made by that."""
    tried: list[str] = []

    def work(_: Any, item: str) -> dict[str, Any]:
        tried.append(item)
        raise OSError(number, os.strerror(number))

    failed: list[str] = []
    todo = Pass("a", work, None, ["1", "2"], on_failure=lambda item, _: failed.append(item))
    with pytest.raises(OSError) as e:
        Engine([todo], InlineExecutor(), Progress(None, "test"), Rules(tries=3)).run()
    assert (e.value.errno, tried, failed) == (number, ["1"], [])
