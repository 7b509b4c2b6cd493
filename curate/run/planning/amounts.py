"""What a step, and a whole plan, comes to: rows, bytes, worker-seconds, CPU- and GPU-hours, hours on a machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from curate.run.planned import Planned
from curate.run.planning.machine import Machine

HOUR = 3600.0


@dataclass(frozen=True)
class Amount:
    """Rows, worker-seconds, bytes read and written; None where nothing is known of it.

    unmeasured: methods of which no rate is known: the seconds leave them out.
    """

    rows: int = 0
    seconds: float | None = None
    read: float | None = None
    written: float | None = None
    unmeasured: tuple[str, ...] = ()

    def scaled(self, factor: float) -> Amount:
        seconds, read, written = (None if v is None else v * factor for v in (self.seconds, self.read, self.written))
        return Amount(round(self.rows * factor), seconds, read, written, self.unmeasured)


@dataclass(frozen=True)
class Priced:
    """A step with its price.

    todo: of what is missing; all: as if nothing were there. why: of each folder that the step fills, "" where nothing
    is missing in it. guessed: the bytes are by types, not by files. at_most: fewer rows may come, since it is not known
    what filters or downloads leave over.
    """

    step: Planned
    why: tuple[str, ...]
    todo: Amount
    all: Amount
    guessed: bool = False
    at_most: bool = False

    @property
    def open(self) -> bool:
        """Is something to be done, or may be?"""
        return self.step.missing != 0

    def scaled(self, factor: float) -> Priced:
        """The step as if nothing of it were there, for so many times the rows and parts."""
        parts = None if self.step.total is None else max(1, math.ceil(self.step.total * factor))
        amount = self.all.scaled(factor)
        return replace(self, step=replace(self.step, total=parts, missing=parts), todo=amount, all=amount)


@dataclass(frozen=True)
class Totals:
    """Sums over steps. at_least: some step is not measured, so that seconds and hours leave it out."""

    read: float
    written: float
    cpu_hours: float
    gpu_hours: float
    unmeasured: tuple[str, ...]
    unknown_read: tuple[str, ...]
    unknown_written: tuple[str, ...]

    @property
    def at_least(self) -> bool:
        return bool(self.unmeasured)


def totals(steps: Sequence[Priced]) -> Totals:
    """Sums of what is to do."""
    busy = [p for p in steps if p.open]
    return Totals(
        sum(p.todo.read or 0 for p in busy),
        sum(p.todo.written or 0 for p in busy),
        sum((p.todo.seconds or 0) * p.step.need.cpus for p in busy) / HOUR,
        sum((p.todo.seconds or 0) * p.step.need.gpus for p in busy) / HOUR,
        tuple(dict.fromkeys(m for p in busy for m in p.todo.unmeasured)),
        tuple(p.step.name for p in busy if p.todo.read is None),
        tuple(p.step.name for p in busy if p.todo.written is None),
    )


def wall_seconds(steps: Sequence[Priced], machine: Machine, workers: int | None = None) -> float | None:
    """Seconds by the clock; None where a step does not fit on the machine, or its size is not known.

    Passes between two computations over all shards flow side by side: CPU and GPU work overlap, and the longer counts.

    Args:
        workers: so many for each kind of work, whatever the machine.
    """
    whole = 0.0
    flow = [0.0, 0.0]
    for priced in steps:
        if not priced.open:
            continue
        need, seconds = priced.step.need, priced.todo.seconds or 0.0
        slots = workers or machine.slots(need)
        if not slots:
            return None
        spent = seconds / max(1, min(slots, priced.step.missing or slots))
        if priced.step.kind in ("all shards", "pack"):
            whole, flow = whole + max(flow) + spent, [0.0, 0.0]
        else:
            flow[need.gpus > 0] += spent
    return whole + max(flow)
