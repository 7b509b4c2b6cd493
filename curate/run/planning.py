"""`curate plan`: passes and barriers, what is there already, and about how long the rest takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from curate.pool.layout import POOL, RUNS
from curate.pool.lists import claims
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.job import Job
from curate.run.planned import Planned
from curate.run.progress import duration

if TYPE_CHECKING:
    from curate.recipe import Recipe
    from curate.run.sources.spec import SourceSpec


def print_plan(
    recipe: Recipe,
    *,
    as_json: bool,
    executor: str | None = None,
    workers: int | None = None,
    rows: float | None = None,
    sample: int = 0,
) -> None:
    """Print what a run would do. Nothing is run, nothing is written."""
    waiting = unread(recipe)
    pool, lines, pick = Job(recipe).plan()
    rates = measured_rates(pool) if pool is not None else {}
    facts = {} if pool is None else pool_facts(pool)
    if as_json:
        steps = [plain(p) | {"seconds": seconds(p, rates)} for p in lines]
        about = {"recipe": recipe.name, "pool": recipe.pool, **facts, "unread": [spec.list_name for spec in waiting]}
        print(json.dumps(about | {"pick": pick, "steps": steps}, indent=1))
        return
    print(f"recipe {recipe.name}, pool {recipe.pool}")
    if pool is None:
        print("there is no pool yet: a run reads the lists, cuts them into shards, and then everything is to be done:")
        for spec in waiting:
            print(f"  list {spec.list_name}: {', '.join(spec.paths)}")
        for step in recipe.steps:
            print(f"  filter {step.id}: {step.filter.method()}")
        return
    print(f"{facts['shards']:,} of {facts['claimed']:,} shards have images, {facts['samples']:,} samples")
    for spec in waiting:
        print(f"list {spec.list_name}: not read yet; a run cuts it into shards, which come on top of what follows")
    print(f"{'step':<44} {'parts':>9} {'there':>9} {'to do':>9}  about")
    for p in lines:
        print(plan_line(p, seconds(p, rates)))
    print(f"pick: {pick}")


def unread(recipe: Recipe) -> list[SourceSpec]:
    """Sources of which the pool has no list of that name; their files are looked for, and not read.

    Raises:
        UserError: nothing lies where a source says.
    """
    from curate.run.sources import open_source

    for spec in recipe.sources:
        open_source(spec)
    storage = Storage.at(recipe.pool)
    there = {c.list for c in claims(storage)} if storage.exists(POOL) else set()
    return [spec for spec in recipe.sources if spec.list_name not in there]


def plan_line(p: Planned, about: float | None) -> str:
    total, todo = ("?" if p.total is None else f"{p.total:,}"), ("?" if p.missing is None else f"{p.missing:,}")
    there = "?" if p.total is None or p.missing is None else f"{p.total - p.missing:,}"
    time = "" if not p.missing else duration(about) if about is not None else "not measured yet"
    return f"{p.name[:44]:<44} {total:>9} {there:>9} {todo:>9}  {time}{'  ' + p.note if p.note else ''}"


def pool_facts(pool: Pool) -> dict[str, int]:
    claimed = pool.claimed()
    shape, _ = pool.shape(pool.shards(claimed))
    return {"claimed": len(claimed), "shards": len(shape.shards), "samples": shape.total}


def plain(p: Planned) -> dict[str, Any]:
    return {k: getattr(p, k) for k in ("name", "kind", "folder", "total", "missing", "note")}


def measured_rates(pool: Pool) -> dict[str, float]:
    """Worker-seconds a part, by the name of the pass, from the runs that this pool has seen."""
    spent: dict[str, list[float]] = {}
    for run in pool.storage.folders(RUNS):
        if not pool.storage.exists(f"{RUNS}/{run}/status.json"):
            continue
        status: Mapping[str, Any] = json.loads(pool.storage.read(f"{RUNS}/{run}/status.json"))
        for name, state in status["passes"].items():
            if state["done"]:
                total = spent.setdefault(name.split(" #")[0], [0.0, 0.0])
                total[0] += state["worker_seconds"]
                total[1] += state["done"]
    return {name: s / n for name, (s, n) in spent.items()}


def seconds(p: Planned, rates: Mapping[str, float]) -> float | None:
    """Worker-seconds for what is missing; None where nothing like it was ever measured here."""
    rate = rates.get(p.name.split(" #")[0])
    return None if rate is None or p.missing is None else rate * p.missing
