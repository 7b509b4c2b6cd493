"""Which executor: the one named, or for `auto` the cheapest that is worth its start; started when there is work."""

from __future__ import annotations

import os
from collections.abc import Sequence

from curate.errors import UserError
from curate.run.engine import Pass
from curate.run.executors import Executor, InlineExecutor, RayExecutor

RAY_WORTH_S = 60.0  # worker-seconds: Ray takes 7 s and half a gigabyte to start
EXECUTORS = ("auto", "inline", "ray")


class ExecutorChoice:
    """The executor, started only when there is something to do and kept for the whole run."""

    def __init__(self, name: str = "auto", workers: int | None = None) -> None:
        self.name, self.workers = name, workers
        self.started: Executor | None = None

    def __call__(self, passes: Sequence[Pass], seconds: float) -> Executor:
        """Args: seconds: estimated worker-seconds of the passes, for `auto`."""
        if self.started is None or (self.name == "auto" and self.started.name == "inline"):
            self.started = start(self.name, self.workers, passes, seconds)
        return self.started

    def close(self) -> None:
        if self.started is not None:
            self.started.close()


def start(name: str, workers: int | None, passes: Sequence[Pass], seconds: float) -> Executor:
    """Start an executor for passes that take about `seconds` of one worker.

    Raises:
        UserError: no executor of that name, or Ray does not come up.
    """
    if name == "inline":
        return InlineExecutor()
    if name == "ray":
        return RayExecutor(workers)
    if name != "auto":
        raise UserError(f"executor {name!r}: there are {', '.join(EXECUTORS)}")
    gpus = any(p.need.gpus for p in passes)
    cluster = bool(os.environ.get("RAY_ADDRESS"))
    many = (workers or os.cpu_count() or 1) > 1
    small = seconds < RAY_WORTH_S or max((len(p.items) for p in passes), default=0) < 2
    return InlineExecutor() if (small and not gpus and not cluster) or not many else RayExecutor(workers)
