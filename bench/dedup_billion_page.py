"""Writes docs/dedup-billion.md from what was weighed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from common import ROOT

MACHINES = (1, 8, 64)
CORES, MEMORY_GB = 16, 64  # of one machine
BASE_MB = 140  # of a process that did a part of hardly any rows (`groups` of hashes)

HEAD = """\
# A billion images, by parts

Made by `python bench/dedup_billion.py`, on a machine of {cores} cores{load}. Nobody ran a billion here. What ran is
one part of each phase, with inputs of the size that a pool of {samples:,} samples in shards of 10,000 gives it: read
from local files, worked on by one process with one thread, committed. Everything else is multiplication:

- *core-hours*: parts times the CPU seconds of the one that was measured, and the time that it takes to find one table
  in a file of many, measured apart. *Hours*: in rounds of as many parts at a time as there are cores and memory, on 1,
  8 or 64 machines of {each} cores and {memory} GB: a phase of one part takes as long on all of them.
- *peak*: memory of the process that did the part, Python and libraries included. Phases ask for 2 GB
  unless the table says more.
- *written*: bytes of the part's output, times parts; what a phase writes the next ones read.
- ~ marks a part that was made smaller than it would be, so that it fits here, and extrapolated in proportion, memory
  too.

Inputs are drawn, not crawled: 5 % of the samples are equal to another, 45 % lie in groups of three that hang together
by two pairs, and every second vector visits one other cluster. More near pairs cost more in `forest`, `edges` and
`decide`, in proportion. Not in it: making hashes and vectors, reading from a remote store, waiting, and training of
k-means, 256 vectors for each of 50,000 centroids five times, which are 6 % of the products of `assign` (computed).
"""


@dataclass(frozen=True)
class Weighed:
    """One part: seconds of its process's CPU, its peak memory, bytes read and written.

    scale: how much smaller than at full size its inputs were. opening_s: for finding tables in files of many.
    need_gb: memory that the phase asks for.
    """

    step: str
    phase: str
    parts: int
    cpu_s: float
    peak_mb: float
    read_mb: float
    written_mb: float
    scale: float = 1.0
    opening_s: float = 0.0
    need_gb: float = 1.0

    @property
    def seconds(self) -> float:
        """CPU seconds of one part of the full size."""
        return self.cpu_s * self.scale + self.opening_s

    @property
    def full_mb(self) -> float:
        """Peak memory of a part of the full size: what a process has before it reads does not grow."""
        return BASE_MB + (self.peak_mb - BASE_MB) * self.scale if self.scale > 1 else self.peak_mb

    @property
    def core_hours(self) -> float:
        return self.parts * self.seconds / 3600


def write(found: Sequence[Weighed], samples: int) -> None:
    load = os.getloadavg()[0]
    busy = f", load average {load:.1f} at the end" if load > 2 else ""
    head = HEAD.format(cores=os.cpu_count(), load=busy, samples=samples, each=CORES, memory=MEMORY_GB)
    steps = list(dict.fromkeys(w.step for w in found))
    whole = "\n".join(["## In all", "", *summary(found, steps), ""])
    each = "\n".join("\n".join([f"## {step[0].upper()}{step[1:]}", "", *phases(found, step), ""]) for step in steps)
    (ROOT / "docs" / "dedup-billion.md").write_text("\n".join([head, whole, each]).rstrip() + "\n", encoding="utf-8")


def summary(found: Sequence[Weighed], steps: Sequence[str]) -> list[str]:
    """A line a step: core-hours, hours by machines, terabytes, the largest peak."""
    names = " | ".join(f"hours on {m}" for m in MACHINES)
    lines = [f"| step | core-hours | {names} | written, TB | largest peak, MB |", "| --- |" + " ---: |" * 6]
    for step in steps:
        mine = [w for w in found if w.step == step]
        hours = " | ".join(amount(sum(hours_on(w, m) for w in mine)) for m in MACHINES)
        written = sum(w.parts * w.written_mb * w.scale for w in mine) / 1e6
        most = max(mine, key=lambda w: w.full_mb)
        cells = [amount(sum(w.core_hours for w in mine)), hours, f"{written:.3g}", f"{peak(most)} ({most.phase})"]
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return lines


def phases(found: Sequence[Weighed], step: str) -> list[str]:
    lines = [
        "| phase | parts | seconds a part | core-hours | peak, MB | asks for, GB | written, GB |",
        "| --- |" + " ---: |" * 6,
    ]
    for w in found:
        if w.step == step:
            about = "~" if w.scale > 1 else ""
            written = f"{about}{w.parts * w.written_mb * w.scale / 1000:.3g}"
            cells = [
                f"{about}{amount(w.seconds)}",
                f"{about}{amount(w.core_hours)}",
                peak(w),
                f"{w.need_gb:g}",
                written,
            ]
            lines.append(f"| `{w.phase}` | {w.parts:,} | {' | '.join(cells)} |")
    return lines


def hours_on(w: Weighed, machines: int) -> float:
    """Rounds of parts, as many at a time as there are cores, or memory for them."""
    together = max(1, int(min(CORES, MEMORY_GB * 1000 // w.full_mb))) * machines
    return math.ceil(w.parts / together) * w.seconds / 3600


def peak(w: Weighed) -> str:
    return f"~{w.full_mb:,.0f}" if w.scale > 1 else f"{w.peak_mb:,.0f}"


def amount(value: float) -> str:
    """Three digits are more than such numbers are good for."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
