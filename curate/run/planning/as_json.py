"""A plan as a JSON object, for programs: fields stay as they are, or SCHEMA rises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from curate.run.planning.amounts import HOUR, Amount, Priced, Totals, totals, wall_seconds
from curate.run.planning.groups import owner_name
from curate.run.planning.lists import Unread
from curate.run.planning.plan import Plan

SCHEMA = 1


def as_object(plan: Plan, rows: float | None) -> dict[str, Any]:
    """Numbers are null where nothing is known; seconds are of workers, bytes and rows plain counts."""
    scaled = None if rows is None else plan.for_rows(rows)
    return {
        "schema": SCHEMA,
        "recipe": plan.recipe.name,
        "pool": plan.recipe.pool,
        "exists": plan.exists,
        "claimed": plan.claimed,
        "shards": plan.shards,
        "samples": plan.samples,
        "listed": plan.listed,
        "unread": [u.claim.list for u in plan.ahead],
        "lists": [_list(u) for u in plan.ahead],
        "shadowed": [{"column": name, "hides": hidden} for name, hidden in plan.shadowed],
        "pick": plan.pick,
        "pack": plan.pack,
        "executor": {"name": plan.machine.name, "workers": plan.machine.workers, "cluster": plan.machine.cluster},
        "steps": [_step(p) for p in plan.steps],
        "totals": _totals(plan, plan.totals, plan.steps),
        "rates": {name: asdict(rate) for name, rate in plan.rates.items()},
        "sample": plan.sampled or None,
        "for_rows": None if scaled is None else _scaled(plan, rows or 0.0, scaled),
    }


def _list(found: Unread) -> dict[str, Any]:
    return {
        "list": found.claim.list,
        "rows": found.claim.rows,
        "exact": found.exact,
        "shards": found.claim.shards,
        "columns": dict(found.claim.columns),
    }


def _step(priced: Priced) -> dict[str, Any]:
    step = priced.step
    return {
        "name": step.name,
        "kind": step.kind,
        "folder": step.folder,
        "total": step.total,
        "missing": step.missing,
        "note": step.note,
        "why": next((w for w in priced.why if w), None),
        **_amount(priced.todo),
        "all": _amount(priced.all),
        "bytes_guessed": priced.guessed,
        "at_most": priced.at_most,
        "need": {"cpus": step.need.cpus, "gpus": step.need.gpus, "memory_gb": step.need.memory_gb},
        "makes": [
            {"name": owner_name(made), "folder": made.folder, "missing": len(made.todo), "why": why or None}
            for made, why in zip(step.makes, priced.why, strict=True)
        ],
    }


def _amount(amount: Amount) -> dict[str, Any]:
    return {
        "rows": amount.rows,
        "seconds": amount.seconds,
        "bytes_read": amount.read,
        "bytes_written": amount.written,
        "unmeasured": list(amount.unmeasured),
    }


def _totals(plan: Plan, found: Totals, steps: Sequence[Priced]) -> dict[str, Any]:
    wall = wall_seconds(steps, plan.machine)
    return {
        "bytes_read": found.read,
        "bytes_written": found.written,
        "cpu_hours": found.cpu_hours,
        "gpu_hours": found.gpu_hours,
        "hours": None if wall is None else wall / HOUR,
        "unmeasured": list(found.unmeasured),
        "bytes_read_unknown": list(found.unknown_read),
        "bytes_written_unknown": list(found.unknown_written),
    }


def _scaled(plan: Plan, rows: float, steps: Sequence[Priced]) -> dict[str, Any]:
    return {
        "rows": rows,
        "steps": [{"name": p.step.name, **_amount(p.all)} for p in steps],
        "totals": _totals(plan, totals(steps), steps),
    }
