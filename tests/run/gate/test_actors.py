"""Gates as actors on Ray: limits hold over worker processes, also when a gate is lost in mid-run."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from yarl import URL

from curate.run.fetch.gate.actors import gates_for, ray_gates
from curate.run.fetch.gate.doorman import Answered, Doorman, GateHandle
from curate.run.fetch.gate.gate import Ask, Want
from curate.run.fetch.spec import IngestSpec

pytestmark = pytest.mark.usefixtures("ray_session")

SPEC = IngestSpec(host_rate=None, per_host=2, concurrency=8)


def work(gates: list[GateHandle], visits: int, lasts: float) -> tuple[list[tuple[float, float]], int]:
    """(begin and end of each visit to one host on the machine's clock, times that robots.txt was asked for)."""
    took: list[tuple[float, float]] = []
    robots = 0

    async def text(url: str) -> Answered:
        nonlocal robots
        robots += url.endswith("robots.txt")
        return Answered(404, b"", None)

    async def one(doorman: Doorman) -> None:
        slot = doorman.slot()
        with await doorman.visit(URL("http://a.test/x"), slot):
            begun = time.monotonic()
            await asyncio.sleep(lasts)
            took.append((begun, time.monotonic()))
        slot.free()

    async def main() -> None:
        async with Doorman(gates, SPEC, text) as doorman:
            await asyncio.gather(*(one(doorman) for _ in range(visits)))

    asyncio.run(asyncio.wait_for(main(), 60))
    return took, robots


def most_at_once(took: list[tuple[float, float]]) -> int:
    return max(sum(b <= begun < e for b, e in took) for begun, _ in took)


def workers(gates: list[GateHandle], visits: int, lasts: float) -> list[Any]:
    import ray

    task = ray.remote(num_cpus=0.5)(work)
    return [task.remote(gates, visits, lasts) for _ in range(3)]


def test_limits_hold_over_worker_processes_and_robots_is_asked_once() -> None:
    import ray

    found = ray.get(workers(ray_gates(SPEC, 2), 10, 0.05))
    took = [t for one, _ in found for t in one]
    assert len(took) == 30
    assert most_at_once(took) <= 2
    assert sum(robots for _, robots in found) == 1


def test_a_gate_whose_process_dies_begins_anew_and_nothing_is_lost() -> None:
    import ray

    gates = ray_gates(SPEC, 1)
    before = ray.get(gates[0].exchange(Ask("us", {"b.test": Want(0, 1)})))
    running = workers(gates, 6, 0.3)
    time.sleep(1.5)
    ray.kill(gates[0]._actor, no_restart=False)  # type: ignore[attr-defined]
    found = ray.get(running)
    took = [t for one, _ in found for t in one]
    after = ray.get(gates[0].exchange(Ask("us", {"b.test": Want(0, 1)})))
    assert len(took) == 18
    assert most_at_once(took) <= 2
    assert before.epoch != after.epoch, "it was this gate that died"


def test_the_executor_decides_where_gates_are() -> None:
    [here] = gates_for("inline", SPEC)
    [far] = gates_for("ray", SPEC)
    assert type(here).__name__ == "InlineGate"
    assert type(far).__name__ == "RayGate"
