"""What work costs, as earlier runs over this pool measured it: worker-seconds and bytes a row, by method.

    rates = Rates.of_pool(storage, executor="ray")
    rates.method("language")             # Rate(seconds=0.0004, ...), or None where it was never measured

A rate is the sum of seconds over the sum of rows of the newest runs, as many as it takes to see ENOUGH rows: a median
of runs would let a run over ten rows count as much as one over a million. Runs driven from this machine and by the
same executor go before others; where there are none, others count, and `origin` says so.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from curate.pool.layout import RUNS
from curate.pool.storage import Storage
from curate.run.account import FILES, OPEN, WAIT

ENOUGH = 20_000  # rows: two shards of the usual size
NEWEST = 50  # runs that are looked at
FEW = 200  # rows: a rate of fewer is told as such


@dataclass(frozen=True)
class Rate:
    """Cost of one row. read, written: bytes, where a pass did nothing else; alike: measured with these parameters."""

    seconds: float
    rows: int
    origin: str
    read: float | None = None
    written: float | None = None
    alike: bool = True


@dataclass
class Sum:
    """What one run spent on one method."""

    seconds: float = 0.0
    rows: int = 0
    read: int | None = None
    written: int | None = None
    whole: bool = True  # did every part of the pass come through?


@dataclass
class Run:
    """One run as far as rates need it. `sums`: by method, phase ("keep_one decide") or "<pass> files"."""

    when: float
    host: str = ""
    executor: str = ""
    sums: dict[str, Sum] = field(default_factory=dict)
    passes: dict[str, Sum] = field(default_factory=dict)
    listed: int = 0  # rows that ingest saw
    images: int = 0


class Rates:
    """Rates of some runs, the newest first."""

    def __init__(self, runs: Sequence[Run], executor: str = "") -> None:
        """Args: executor: of which rates go before others; "" for any."""
        here = socket.gethostname()
        self.runs = sorted(runs, key=lambda r: -r.when)
        near = [r for r in self.runs if r.host in ("", here)]
        self._levels = [
            ("this pool", [r for r in near if not executor or r.executor in ("", executor)]),
            ("this pool with another executor", near),
            ("this pool on another machine", self.runs),
        ]

    def after(self, run: Run, where: str) -> Rates:
        """Rates of this run, and of the others for what it did not do."""
        found = Rates([run, *self.runs])
        found._levels = [(where, [run]), *self._levels]
        return found

    @classmethod
    def of_pool(cls, storage: Storage, executor: str) -> Rates:
        """Read runs/*/status.json, the newest NEWEST of them."""
        names = sorted(storage.folders(RUNS))[-NEWEST:]
        with ThreadPoolExecutor(16) as threads:
            found = list(threads.map(lambda n: _status(storage, n), names))
        return cls([run_of(s) for s in found if s is not None], executor)

    def method(self, name: str) -> Rate | None:
        """Rate of a stage, filter or other named work; else of the same method with other parameters."""
        exact = self._rate(lambda run: _found(run.sums.get(name)))
        if exact is not None:
            return exact
        bare = name.split("(")[0]
        other = self._rate(lambda run: (s for n, s in run.sums.items() if n.split("(")[0] == bare and " " not in n))
        return None if other is None else _unlike(other)

    def phase(self, owner: str, phase: str, last: str) -> Rate | None:
        """Rate of one phase, for each sample of the pool: those are the rows of the owner's last phase."""

        def sums(run: Run) -> Iterator[Sum]:
            here, end = run.sums.get(f"{owner} {phase}"), run.sums.get(f"{owner} {last}")
            if here and end and here.whole and end.whole:
                yield Sum(here.seconds, end.rows, here.read, here.written)

        return self._rate(sums)

    def work(self, name: str) -> Rate | None:
        """Rate of a whole pass by its name, from runs that told no methods: queueing and start are in it."""
        return self._rate(lambda run: _found(run.passes.get(name)))

    def images_a_row(self) -> float | None:
        """Share of listed rows that gave an image."""
        listed, images = sum(r.listed for r in self.runs), sum(r.images for r in self.runs)
        return images / listed if listed else None

    def _rate(self, sums: Any) -> Rate | None:
        for where, runs in self._levels:
            used: list[tuple[Run, Sum]] = []
            for run in runs:
                used += [(run, s) for s in sums(run) if s.rows]
                if sum(s.rows for _, s in used) >= ENOUGH:
                    break
            if used:
                return _made([s for _, s in used], used[0][0].when, where)
        return None


def _made(used: Sequence[Sum], newest: float, where: str) -> Rate:
    rows = sum(s.rows for s in used)
    day = time.strftime("%Y-%m-%d", time.localtime(newest))
    few = f", {rows:,} rows only" if rows < FEW else ""
    read, written = _mean([s.read for s in used], rows), _mean([s.written for s in used], rows)
    return Rate(sum(s.seconds for s in used) / rows, rows, f"{where}, {day}{few}", read, written)


def _found(one: Sum | None) -> list[Sum]:
    return [] if one is None else [one]


def _unlike(rate: Rate) -> Rate:
    return Rate(rate.seconds, rate.rows, f"{rate.origin}, with other parameters", rate.read, rate.written, False)


def _mean(values: Sequence[int | None], rows: int) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / rows if len(known) == len(values) else None


def _status(storage: Storage, run: str) -> Mapping[str, Any] | None:
    """The run's status; None where it has none yet, or what is there is none (it is rewritten while a run goes on)."""
    try:
        value = json.loads(storage.read(f"{RUNS}/{run}/status.json"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("passes"), dict) else None


def run_of(status: Mapping[str, Any]) -> Run:
    """Sums of one status file."""
    executor = status.get("executor") or ""
    run = Run(float(status.get("updated", 0)), status.get("host", ""), executor if isinstance(executor, str) else "")
    for name, state in status["passes"].items():
        if state["done"]:
            add_pass(run, name, state)
    return run


def add_pass(run: Run, name: str, state: Mapping[str, Any]) -> None:
    """Add the counters of one pass. Weights are loaded once a worker, whatever the rows: no rate has that."""
    family = family_of(name)
    whole = state["done"] == state["total"]
    parts = {n: s for n, s in (state.get("parts_seconds") or {}).items() if n != OPEN}
    if not parts:
        _add(run.passes, family, Sum(state["worker_seconds"], state["rows"], whole=whole))
    rows = state.get("parts_rows") or {}
    alone = len([n for n in parts if n not in (FILES, WAIT)]) == 1
    for method, seconds in parts.items():
        one = Sum(seconds, rows.get(method, state["rows"]), whole=whole)
        if alone and method not in (FILES, WAIT):
            one.read, one.written = state.get("bytes_read"), state.get("bytes_written")
        _add(run.sums, f"{family} {method}" if method in (FILES, WAIT) else method, one)
    if family == "ingest":
        run.listed += state["rows"]
        run.images += int(state["outcomes"].get("ok", 0))


def family_of(name: str) -> str:
    """Name of a pass without what is of one recipe: numbers, and the ids of filters."""
    plain = re.sub(r" #\d+$", "", name)
    return "filter" if plain.startswith("filter ") else re.sub(r"^describe-\d+$", "describe", plain)


def _add(sums: dict[str, Sum], name: str, one: Sum) -> None:
    if name not in sums:
        sums[name] = one
        return
    had = sums[name]
    had.seconds, had.rows, had.whole = had.seconds + one.seconds, had.rows + one.rows, had.whole and one.whole
    had.read = None if had.read is None or one.read is None else had.read + one.read
    had.written = None if had.written is None or one.written is None else had.written + one.written
