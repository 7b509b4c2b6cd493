"""Run passes over items, in any executor: windows, retries, deadlines, stragglers, failures.

A pass is one function over many items (shards, or parts of a phase). An item enters a pass when the same
item has left the passes named in `after`; so shards flow through several passes at once, and each kind of
machine has a window of its own. The engine knows names and counters only: nothing of images or recipes.
"""

from __future__ import annotations

import errno
import statistics
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from curate.errors import PartialFailure, Refusal, UserError
from curate.run.executors import Executor, Function, LostWorker
from stages.base import Need, StopRun

LOST_TRIES = 10  # a node that dies is not the work's fault, but a shard that kills every worker is
STRAGGLER_FACTOR, STRAGGLER_S = 4.0, 30.0
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # no fault of the item's, and trying again makes no room
LOOK_AGAIN_S = 10.0  # nodes come and go while a run goes on


@dataclass
class Pass:
    """One function over items. `pure` work may be issued twice when it straggles; ingest may not.

    folder: where the items' files go, for who looks for what is missing.
    prepare: given the executor's name, gives `shared` where that depends on it.
    """

    name: str
    function: Function
    shared: Any
    items: Sequence[str]
    need: Need = field(default_factory=Need)
    after: tuple[str, ...] = ()
    pure: bool = True
    on_failure: Callable[[str, str], None] | None = None
    folder: str = ""
    prepare: Callable[[str], Any] | None = None


class Watcher(Protocol):
    """What the engine tells while it runs; see curate.run.progress."""

    def begin(self, passes: Sequence[Pass]) -> None: ...

    def started(self, name: str, item: str) -> None: ...

    def finished(self, name: str, item: str, result: dict[str, Any], seconds: float) -> None: ...

    def failed(self, name: str, item: str, error: str, final: bool) -> None: ...

    def tick(self) -> None: ...


@dataclass
class Rules:
    """How much goes wrong before the run gives up."""

    tries: int = 3
    allow_failed: float = 0.0  # share of a pass's items that may fail for good


@dataclass
class _Flight:
    item: str
    of: Pass
    since: float
    twin: bool = False


class Engine:
    """One run of connected passes. `run()` returns, per pass, the items that failed for good."""

    def __init__(self, passes: Sequence[Pass], executor: Executor, watcher: Watcher, rules: Rules) -> None:
        self.passes = {p.name: p for p in passes}
        self.executor, self.watcher, self.rules = executor, watcher, rules
        self.ready: dict[str, deque[str]] = {p.name: deque() for p in passes}
        self.flying: dict[int, _Flight] = {}
        self.waiting: dict[str, set[str]] = {}
        self.done: dict[str, set[str]] = {p.name: set() for p in passes}
        self.bad: dict[str, dict[str, str]] = {p.name: {} for p in passes}
        self.tries: Counter[tuple[str, str]] = Counter()
        self.lost: Counter[tuple[str, str]] = Counter()
        self.times: dict[str, list[float]] = {p.name: [] for p in passes}
        self.capacity: dict[Need, tuple[int, float]] = {}
        self.scheduled: dict[str, set[str]] = {p.name: set(p.items) for p in passes}
        self._queue_items()

    def _queue_items(self) -> None:
        for p in self.passes.values():
            for item in p.items:
                # A pass that need not touch this item (its file exists) does not hold it back.
                if any(item in self.scheduled[before] for before in p.after if before in self.scheduled):
                    self.waiting.setdefault(p.name, set()).add(item)
                else:
                    self.ready[p.name].append(item)

    def run(self) -> dict[str, dict[str, str]]:
        """Work until nothing is left.

        Raises:
            PartialFailure: more than the allowed share of a pass's items failed for good.
            UserError: what no other try mends (a `Refusal` of the work itself, a stage's `StopRun`), at once.
        """
        self.watcher.begin(list(self.passes.values()))
        try:
            while self._fill() or self.flying:
                self._reap(self.executor.wait(0.5))
                self._chase()
                self.watcher.tick()
        finally:
            for ticket in list(self.flying):
                self.executor.cancel(ticket)
            for p in self.passes.values():
                self.executor.forget(p.shared)
        self._judge()
        return self.bad

    def _fill(self) -> bool:
        """Issue ready work up to each kind's window; later passes first, so that shards leave the pipe."""
        issued = False
        for p in reversed(list(self.passes.values())):
            while self.ready[p.name] and self._room(p.need):
                self._issue(p, self.ready[p.name].popleft())
                issued = True
        return issued

    def _room(self, need: Need) -> bool:
        now = time.monotonic()
        count, seen = self.capacity.get(need, (0, 0.0))
        if need not in self.capacity or not self.flying or now - seen > LOOK_AGAIN_S:
            count = self.executor.capacity(need)
            self.capacity[need] = count, now
        return sum(f.of.need == need for f in self.flying.values()) < count

    def _issue(self, p: Pass, item: str, *, twin: bool = False) -> None:
        self.watcher.started(p.name, item)
        ticket = self.executor.submit(p.function, p.shared, item, p.need)
        self.flying[ticket] = _Flight(item, p, time.monotonic(), twin)

    def _reap(self, finished: list[tuple[int, dict[str, Any] | BaseException]]) -> None:
        for ticket, result in finished:
            flight = self.flying.pop(ticket, None)
            if flight is None or flight.item in self.done[flight.of.name]:
                continue
            if isinstance(result, BaseException):
                self._mishap(flight, result)
            else:
                self._success(flight, result)

    def _success(self, flight: _Flight, result: dict[str, Any]) -> None:
        name, seconds = flight.of.name, time.monotonic() - flight.since
        self.done[name].add(flight.item)
        self.times[name].append(seconds)
        for ticket in self._others(flight):
            self.executor.cancel(ticket)
            del self.flying[ticket]
        self.watcher.finished(name, flight.item, result, seconds)
        self._release(flight.item, name)

    def _others(self, flight: _Flight) -> list[int]:
        same = (flight.of.name, flight.item)
        return [t for t, f in self.flying.items() if (f.of.name, f.item) == same]

    def _release(self, item: str, left: str) -> None:
        """The item has left a pass: let it into the passes that wait for nothing else."""
        for name, items in self.waiting.items():
            p = self.passes[name]
            if item in items and left in p.after and all(self._passed(b, item) for b in p.after):
                items.discard(item)
                self.ready[name].append(item)

    def _passed(self, name: str, item: str) -> bool:
        return name not in self.passes or item in self.done[name] or item not in self.scheduled[name]

    def _mishap(self, flight: _Flight, error: BaseException) -> None:
        if isinstance(error, StopRun):
            error = Refusal(str(error), "".join(traceback.format_exception(error)))
        if isinstance(error, Refusal):
            self._refused(flight, error)
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in FULL_DISK):
            raise error
        name, item = flight.of.name, flight.item
        key = (name, item)
        lost = isinstance(error, LostWorker)
        (self.lost if lost else self.tries)[key] += 1
        if self._others(flight):
            return  # its twin is still under way
        text = "".join(traceback.format_exception(error))
        final = self.tries[key] >= self.rules.tries or self.lost[key] >= LOST_TRIES
        self.watcher.failed(name, item, text, final)
        if final:
            self._give_up(flight.of, item, text)
        else:
            self.ready[name].append(item)

    def _refused(self, flight: _Flight, error: Refusal) -> None:
        """Leave what is behind it where errors are looked for."""
        text = error.trace or str(error)
        self.watcher.failed(flight.of.name, flight.item, text, final=True)
        if flight.of.on_failure is not None:
            flight.of.on_failure(flight.item, text)

    def _give_up(self, p: Pass, item: str, text: str) -> None:
        self.bad[p.name][item] = text
        if p.on_failure is not None:
            p.on_failure(item, text)
        # What comes after cannot be done for this item: it fails there too, without being tried.
        for name, items in self.waiting.items():
            if item in items and p.name in self.passes[name].after:
                items.discard(item)
                self._give_up(self.passes[name], item, f"not tried: {p.name} failed for {item}")

    def _chase(self) -> None:
        """Kill what is far over its deadline; issue pure stragglers a second time when slots are idle."""
        now = time.monotonic()
        for ticket, f in list(self.flying.items()):
            # The worker stops itself at the deadline; the driver steps in where it could not.
            if now - f.since > 1.5 * f.of.need.deadline_s + 60:
                self.executor.cancel(ticket)
                del self.flying[ticket]
                self._mishap(f, TimeoutError(f"killed: over its deadline of {f.of.need.deadline_s:g} s"))
            elif self._straggles(f, now) and not any(self.ready.values()) and self._room(f.of.need):
                self._issue(f.of, f.item, twin=True)

    def _straggles(self, f: _Flight, now: float) -> bool:
        times = self.times[f.of.name]
        if not f.of.pure or f.twin or len(times) < 3 or len(self._others(f)) > 1:
            return False
        return now - f.since > max(STRAGGLER_S, STRAGGLER_FACTOR * statistics.median(times))

    def _judge(self) -> None:
        for name, failures in self.bad.items():
            total = len(self.passes[name].items)
            if failures and len(failures) > self.rules.allow_failed * total:
                item, text = next(iter(failures.items()))
                last = text.strip().splitlines()[-1]
                raise PartialFailure(
                    f"{name}: {len(failures)} of {total} failed for good, the first is {item}: {last}\n"
                    "what was finished is kept; the same command tries again only what failed "
                    "(`curate status` lists them; `run: {allow_failed: 0.01}` goes on without up to 1 %)"
                )
