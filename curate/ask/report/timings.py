"""How long the passes took that made a pool's data, from the status files of its runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from curate.ask.report.found import Timing
from curate.errors import UserError
from curate.pool.layout import RUNS
from curate.pool.pool import Pool


@dataclass
class _Sum:
    runs: int = 0
    parts: int = 0
    rows: int = 0
    worker_s: float = 0.0
    failed: int = 0
    wall: list[float | None] = field(default_factory=list)


def timings(pool: Pool) -> list[Timing]:
    """One entry a pass, in the order in which they were first run. Passes that did nothing are left out.

    The passes of several barriers or filters of one kind ("hash_groups keys #2") are one. Wall time is there where
    every run recorded it.
    """
    sums: dict[str, _Sum] = {}
    for run in sorted(pool.storage.folders(RUNS)):
        rel = f"{RUNS}/{run}/status.json"
        if pool.storage.exists(rel):
            seen = set()
            for name, p in _passes(pool, rel).items():
                if p["done"] or p["failed"]:
                    base = name.split(" #")[0]
                    _add(sums.setdefault(base, _Sum()), p, first=base not in seen)
                    seen.add(base)
    return [
        Timing(name, s.runs, s.parts, s.rows, round(s.worker_s, 3), _whole(s.wall), s.failed)
        for name, s in sums.items()
    ]


def _passes(pool: Pool, rel: str) -> dict[str, dict[str, Any]]:
    try:
        found: dict[str, dict[str, Any]] = json.loads(pool.storage.read(rel))["passes"]
    except (ValueError, KeyError) as e:
        raise UserError(f"{pool.storage}/{rel}: is no status of a run ({e}); delete the file and ask again") from e
    return found


def _add(total: _Sum, p: dict[str, Any], *, first: bool) -> None:
    total.runs += first
    total.parts += p["done"]
    total.rows += p["rows"]
    total.worker_s += p["worker_seconds"]
    total.failed += p["failed"]
    total.wall.append(p.get("wall_s"))


def _whole(seconds: list[float | None]) -> float | None:
    known = [s for s in seconds if s is not None]
    return round(sum(known), 3) if len(known) == len(seconds) else None
