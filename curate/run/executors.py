"""Where work is done: in this process, or on Ray. Both run the same functions on the same small arguments.

    with executor("ray", workers=None) as where:
        ticket = where.submit(function, shared, item, Need())
        finished = where.wait(1.0)               # [(ticket, result or exception)]

Only paths and small statistics travel; no pixel enters Ray's object store.
"""

from __future__ import annotations

import abc
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from curate.errors import UserError
from stages.base import Need

Function = Callable[[Any, str], dict[str, Any]]
IDLE_S = 120.0  # an actor without work gives its weights up after that
Finished = tuple[int, dict[str, Any] | BaseException]


class LostWorker(RuntimeError):
    """The worker or its node died; the work itself may be without blame."""


class Executor(abc.ABC):
    """`submit` gives a ticket; `wait` gives back tickets with a result or the exception."""

    name: str

    @abc.abstractmethod
    def capacity(self, need: Need) -> int:
        """How many such pieces of work may be under way at once (at least 1).

        Raises:
            UserError: no machine here can ever satisfy the need.
        """

    @abc.abstractmethod
    def submit(self, function: Function, shared: Any, item: str, need: Need) -> int: ...

    @abc.abstractmethod
    def wait(self, timeout: float) -> list[Finished]: ...

    @abc.abstractmethod
    def cancel(self, ticket: int) -> None:
        """Stop the work, by killing its worker if need be; the ticket will not come back."""

    def forget(self, shared: Any) -> None:
        """`shared` will not be used any more."""

    def close(self) -> None: ...


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block after so many seconds (main thread only; C code is not cut short)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(*_: object) -> None:
        raise TimeoutError(f"not finished after its deadline of {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block as their handlers say, whatever a library makes of it (main thread only).

    DuckDB makes `RuntimeError: Query interrupted` of it, which would pass for an error of the shard.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: handler for n in numbers if callable(handler := signal.getsignal(n))}
    if threading.current_thread() is not threading.main_thread() or not before:
        yield
        return
    heard: BaseException | None = None

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        try:
            before[signal.Signals(number)](number, frame)
        except BaseException as e:
            heard = e
            raise

    for number in before:
        signal.signal(number, hear)
    try:
        yield
    except Exception as e:
        if heard is not None:
            raise heard from e
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard is not None:
        raise heard


class InlineExecutor(Executor):
    """The calling process, one piece of work at a time: the debugger."""

    name = "inline"

    def __init__(self) -> None:
        self._queue: deque[tuple[int, Function, Any, str, Need]] = deque()
        self._tickets = 0

    def capacity(self, need: Need) -> int:
        return 1

    def submit(self, function: Function, shared: Any, item: str, need: Need) -> int:
        self._tickets += 1
        self._queue.append((self._tickets, function, shared, item, need))
        return self._tickets

    def wait(self, timeout: float) -> list[Finished]:
        if not self._queue:
            return []
        ticket, function, shared, item, need = self._queue.popleft()
        with interruptible():
            try:
                with deadline(need.deadline_s):
                    result: dict[str, Any] | BaseException = function(shared, item)
            except Exception as e:  # noqa: BLE001 - the scheduler decides what an error of the work means
                result = e
        return [(ticket, result)]

    def cancel(self, ticket: int) -> None:
        self._queue = deque(w for w in self._queue if w[0] != ticket)


def import_paths() -> str:
    """PYTHONPATH for workers: ours first and the working directory last, so that nothing shadows our packages."""
    import curate

    home = os.path.dirname(os.path.dirname(os.path.abspath(curate.__file__)))
    here = os.getcwd()
    others = [p for p in map(os.path.abspath, filter(None, sys.path)) if p not in (home, here) and os.path.isdir(p)]
    return os.pathsep.join([home, *others, here])


def worker_entry(function: Function, shared: Any, item: str, need: Need) -> dict[str, Any]:
    """What a Ray worker calls: the working directory goes to the end of the path before anything is imported."""
    here = os.getcwd()
    sys.path[:] = [p for p in sys.path if p not in ("", here)] + [here]
    import curate  # noqa: F401 - refuses shadowed packages

    with deadline(need.deadline_s):
        return function(shared, item)


class RayExecutor(Executor):
    """Ray tasks for CPU work, one actor a slot for work that holds GPUs."""

    name = "ray"

    def __init__(self, workers: int | None = None) -> None:
        self._ray = _start_ray(workers)
        self._workers = workers
        self._tickets = 0
        self._refs: dict[Any, int] = {}
        self._task = self._ray.remote(worker_entry)
        self._shared: dict[int, tuple[Any, Any]] = {}
        self._actors: dict[Need, list[_Actor]] = {}
        self._busy: dict[int, _Actor] = {}
        self._tasks: dict[int, Need] = {}
        self._most: dict[str, float] = {}
        self._resources()

    def _resources(self) -> dict[str, float]:
        """What the cluster has now; `_most` remembers what it had at its best."""
        have: dict[str, float] = self._ray.cluster_resources()
        self._most = {k: max(have.get(k, 0.0), self._most.get(k, 0.0)) for k in have.keys() | self._most.keys()}
        return have

    def capacity(self, need: Need) -> int:
        have = self._resources()
        # A node that was lost may come back: until then one piece of work waits for it in Ray's queue.
        count = max(_slots(have, need), min(_slots(self._most, need), 1))
        if count < 1:
            raise UserError(
                f"the cluster has {have.get('CPU', 0):g} CPUs, {have.get('GPU', 0):g} GPUs and "
                f"{have.get('memory', 0) / 1e9:.1f} GB; one worker asks for {need.cpus:g}, {need.gpus:g} and "
                f"{need.memory_gb:g} GB: add a node that has them, or lower the stage's need"
            )
        return min(count, self._workers or count)

    def submit(self, function: Function, shared: Any, item: str, need: Need) -> int:
        self._tickets += 1
        payload = self._put(shared)
        if need.gpus:
            actor = self._actor(need)
            ref = actor.handle.run.remote(function, payload, item, need)
            self._busy[self._tickets] = actor
        else:
            # Retries are ours: Ray's would hide them from the count of tries.
            options = {"num_cpus": need.cpus, "memory": int(need.memory_gb * 1e9), "max_retries": 0}
            ref = self._task.options(**options).remote(function, payload, item, need)
            self._tasks[self._tickets] = need
        self._refs[ref] = self._tickets
        return self._tickets

    def _put(self, shared: Any) -> Any:
        if id(shared) not in self._shared:
            self._shared[id(shared)] = (shared, self._ray.put(shared))
        return self._shared[id(shared)][1]

    def _actor(self, need: Need) -> _Actor:
        pool = self._actors.setdefault(need, [])
        free = [a for a in self._idle() if a in pool]
        if free:
            return free[0]
        options = {"num_cpus": need.cpus, "num_gpus": need.gpus, "memory": int(need.memory_gb * 1e9)}
        pool.append(_Actor(self._ray.remote(_Holder).options(**options, max_restarts=0).remote(), need))
        return pool[-1]

    def _idle(self) -> list[_Actor]:
        return [a for pool in self._actors.values() for a in pool if a not in self._busy.values()]

    def _release(self) -> None:
        """End actors that wait for their next shard while what is under way waits for what they hold."""
        for actor in sorted(self._idle(), key=lambda a: a.since):
            # Sums over all nodes do not see every shortage on one of them: hence the time.
            if time.monotonic() - actor.since > IDLE_S or self._in_the_way():
                self._ray.kill(actor.handle)
                self._drop(actor)

    def _in_the_way(self) -> bool:
        """Do actors hold so much that some task, or one of them, finds no place in the whole cluster?"""
        left = dict(self._resources())
        for actor in (a for pool in self._actors.values() for a in pool):
            for name, amount in _wanted(actor.need).items():
                left[name] = left.get(name, 0.0) - amount
        short = any(amount < 0 for amount in left.values())
        return short or any(_slots(left, need) < 1 for need in set(self._tasks.values()))

    def wait(self, timeout: float) -> list[Finished]:
        if not self._refs:
            return []
        self._release()
        ready, _ = self._ray.wait(list(self._refs), num_returns=1, timeout=timeout)
        return [self._collect(ref) for ref in ready]

    def _collect(self, ref: Any) -> Finished:
        from ray.exceptions import RayActorError, RayError, RayTaskError

        ticket = self._refs.pop(ref)
        self._tasks.pop(ticket, None)
        actor = self._busy.pop(ticket, None)
        if actor is not None:
            actor.since = time.monotonic()
        try:
            return ticket, self._ray.get(ref)
        except RayTaskError as e:
            return ticket, e.cause if isinstance(e.cause, BaseException) else e
        except RayError as e:
            if actor is not None and isinstance(e, RayActorError):
                self._drop(actor)
            return ticket, LostWorker(f"{type(e).__name__}: {str(e).splitlines()[0]}")

    def _drop(self, actor: _Actor) -> None:
        for pool in self._actors.values():
            if actor in pool:
                pool.remove(actor)

    def cancel(self, ticket: int) -> None:
        self._tasks.pop(ticket, None)
        actor = self._busy.pop(ticket, None)
        for ref in [r for r, t in self._refs.items() if t == ticket]:
            del self._refs[ref]
            if actor is not None:
                self._ray.kill(actor.handle)
                self._drop(actor)
            else:
                self._ray.cancel(ref, force=True)

    def forget(self, shared: Any) -> None:
        self._shared.pop(id(shared), None)

    def close(self) -> None:
        for pool in self._actors.values():
            for actor in pool:
                self._ray.kill(actor.handle)
        self._actors.clear()


def _wanted(need: Need) -> dict[str, float]:
    """A need in Ray's names and units."""
    return {"CPU": need.cpus, "GPU": need.gpus, "memory": need.memory_gb * 1e9}


def _slots(have: dict[str, float], need: Need) -> int:
    """How many such pieces of work fit into these resources."""
    return int(min((have.get(name, 0) / amount for name, amount in _wanted(need).items() if amount), default=1 << 20))


class _Actor:
    """One actor of a kind of need, idle since `since`; equality is identity."""

    def __init__(self, handle: Any, need: Need) -> None:
        self.handle, self.need, self.since = handle, need, time.monotonic()


class _Holder:
    """A process that keeps weights between shards: `opened` stages live in a cache of the module."""

    def run(self, function: Function, shared: Any, item: str, need: Need) -> dict[str, Any]:
        return worker_entry(function, shared, item, need)


def _start_ray(workers: int | None) -> Any:
    """Connect to the cluster of RAY_ADDRESS, else start Ray on this machine, without dashboard.

    Raises:
        UserError: Ray did not come up in three tries.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import logging

    import ray

    if ray.is_initialized():
        return ray
    handed_on = {name: os.environ[name] for name in ("CURATE_CACHE", "CURATE_CACHE_GB") if name in os.environ}
    env = {"env_vars": {"PYTHONPATH": import_paths(), **handed_on}}
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"runtime_env": env, "log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        options["address"] = address
    else:
        options |= {"address": "local", "include_dashboard": False, "num_cpus": workers or os.cpu_count()}
    for attempt in range(3):
        try:
            ray.init(**options)
            return ray
        except Exception as e:  # Ray raises bare exceptions of many kinds when a start times out under load
            ray.shutdown()
            if attempt == 2:
                raise UserError(
                    f"Ray did not start: {e}; try again when the machine is quieter, or use --executor inline"
                ) from e
            time.sleep(2 + 3 * attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")
