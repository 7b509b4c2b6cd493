"""Gates on a Ray cluster: one actor each, so that a host's limits hold over all workers.

gates = ray_gates(spec, 2)          # in the driver; workers get the list with their work
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any

from curate.run.fetch.gate.gate import Ask, Gate, GateRules, Reply
from curate.run.fetch.gate.post import GateHandle, inline_gates
from curate.run.fetch.spec import IngestSpec

QUIET_S = 6.0  # after a gate was lost: by then every worker has said what it holds (doorman.SIGN_S)
WORKERS_EACH = 32  # per gate; one gate answers some thousand messages a second


class _GateActor:
    """Runs in the actor's process; begun anew on another node, it is quiet until the workers have spoken."""

    def __init__(self, rules: GateRules) -> None:
        import ray

        again = ray.get_runtime_context().was_current_actor_reconstructed
        self._gate = Gate(rules, time.monotonic() + QUIET_S if again else float("-inf"))

    def exchange(self, ask: Ask) -> Reply:
        return self._gate.exchange(ask, time.monotonic())


class RayGate:
    """A handle that travels to workers."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def exchange(self, ask: Ask) -> Awaitable[Reply]:
        answer: Awaitable[Reply] = self._actor.exchange.remote(ask)
        return answer


def ray_gates(spec: IngestSpec, count: int) -> list[GateHandle]:
    """So many gates on the cluster that Ray is connected to; they end with the driver."""
    import ray

    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    actor = ray.remote(_GateActor).options(**options)
    return [RayGate(actor.remote(GateRules.of(spec))) for _ in range(count)]


def gates_for(executor: str, spec: IngestSpec) -> list[GateHandle]:
    """The gates of one run, for its executor ("inline" or "ray")."""
    if executor != "ray":
        return inline_gates(spec)
    import ray

    return ray_gates(spec, 1 + int(ray.cluster_resources().get("CPU", 1)) // WORKERS_EACH)
