"""A plan for a person: what there is, a line a step with the reasons below it, the sums; at most 110 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from curate.run.planning.amounts import Totals, totals, wall_seconds
from curate.run.planning.groups import Group, grouped
from curate.run.planning.plan import Plan
from curate.run.planning.units import clock, machine_time, size
from curate.text import visible

WIDTH = 108
NAME = 41  # columns of a step's name
LEGEND = "(* waits for all shards)"
FLEETS = (1, 100, 1000)  # workers for which times are told


def as_lines(plan: Plan, rows: float | None) -> list[str]:
    """The plan; with `rows`, also the price of the recipe for so many rows of input."""
    lines = [*_head(plan), "", _row(LEGEND, "to do", "rows", "read", "written", "worker time")]
    for group in grouped(plan.steps):
        lines += _line(group)
    lines += ["", *_sums(plan)]
    if rows is not None:
        lines += ["", *_for_rows(plan, rows)]
    return [visible(line).rstrip() for line in lines]


def _head(plan: Plan) -> Iterator[str]:
    yield f"plan of recipe {plan.recipe.name}, pool {plan.recipe.pool}"
    if plan.exists:
        yield f"{plan.shards:,} of {plan.claimed:,} shards have images, {plan.samples:,} samples"
    else:
        yield "there is no pool yet: a run makes it"
    for u in plan.ahead:
        rows = f"{'' if u.exact else 'about '}{u.claim.rows:,} rows"
        shards = f"{u.claim.shards:,} shard{'s' * (u.claim.shards != 1)}"
        yield from _wrapped(f"list {u.claim.list}: not read yet; {rows} in {shards}, fewer if some recur or are known")
    for name, hidden in plan.shadowed:
        yield from _wrapped(
            f"input column {name!r} hides {hidden}; to use that, leave it out of `keep:` under `source:`"
        )


# ---------------------------------------------------------------- a line a step


def _line(group: Group) -> Iterator[str]:
    if not group.busy:
        yield _row(group.title, "there")
    else:
        amount = group.todo
        rows = f"{'<' if any(p.at_most for p in group.busy) else ''}{amount.rows:,}"
        written = _bytes(amount.written, "~" if any(p.guessed for p in group.busy) else "")
        yield _row(group.title, group.parts, rows, _bytes(amount.read), written, _work(group))
    for reason in group.reasons:
        yield from _wrapped(reason, "      ")
    if group.kind == "ingest" and group.busy:
        yield "      what follows comes after ingest, and is estimated from the lists"


def _work(group: Group) -> str:
    seconds = group.todo.seconds
    if seconds is None:
        return "?"
    return clock(seconds) + ("+" if any(p.todo.unmeasured for p in group.busy) else "")


def _row(name: str, todo: str, rows: str = "", read: str = "", written: str = "", work: str = "") -> str:
    shown = name if len(name) <= NAME else name[: NAME - 3] + "..."
    return f"  {shown:<{NAME}} {todo:>15} {rows:>14} {read:>9} {written:>9} {work:>11}"


def _bytes(value: float | None, about: str = "") -> str:
    return "?" if value is None else about + size(value)


def _wrapped(text: str, indent: str = "", further: str | None = None) -> list[str]:
    """Lines of at most WIDTH columns, those after the first set in."""
    rest = indent + "  " if further is None else further
    return textwrap.wrap(visible(text), WIDTH, initial_indent=indent, subsequent_indent=rest, break_on_hyphens=False)


# ---------------------------------------------------------------- sums


def _sums(plan: Plan) -> Iterator[str]:
    if any(p.open for p in plan.steps):
        yield from _totals(plan.totals)
        yield _entry("time", _time(plan))
        yield from _unmeasured(plan.totals, "or --sample 3 " if plan.shards or _has_images(plan) else "")
        yield from _origins(plan)
        yield from _signs(plan)
    elif not plan.listed:
        yield "nothing to do: the pool has no list, and the recipe names none (`source:`)"
    else:
        yield "nothing to do: all of it is there"
    yield _entry("pick", plan.pick or "has its name once all shards are there")


def _entry(name: str, text: str) -> str:
    return f"{name:<10} {text}"


def _totals(found: Totals) -> Iterator[str]:
    least = "at least " if found.unmeasured else ""
    read = ("at least " if found.unknown_read else "") + size(found.read)
    written = ("at least " if found.unknown_written else "") + size(found.written)
    yield _entry("bytes", f"{read} read, {written} written")
    gpu = f", {least}{machine_time(found.gpu_hours, 'GPU')}" if found.gpu_hours else ""
    known = f"{least}{machine_time(found.cpu_hours, 'CPU')}{gpu}"
    yield _entry("work", known if _any_measured(found) else "not measured")


def _any_measured(found: Totals) -> bool:
    return bool(found.cpu_hours) or not found.unmeasured


def _has_images(plan: Plan) -> bool:
    return any(u.has_images for u in plan.ahead)


def _signs(plan: Plan) -> Iterator[str]:
    """What the marks in the table mean, as far as there are any."""
    busy = [p for p in plan.steps if p.open]
    signs = {
        "< at most": any(p.at_most for p in busy),
        "~ guessed by types": any(p.guessed for p in busy),
        "+ without what is unmeasured": any(p.todo.unmeasured and p.todo.seconds is not None for p in busy),
        "? not known": any(None in (p.todo.seconds, p.todo.read, p.todo.written) for p in busy),
    }
    if any(signs.values()):
        yield _entry("signs", ", ".join(s for s, used in signs.items() if used))


def _time(plan: Plan) -> str:
    """By the clock, on what the run would use."""
    least = "at least " if plan.totals.unmeasured else ""
    if not _any_measured(plan.totals):
        return f"not measured, on {plan.machine}"
    wall = wall_seconds(plan.steps, plan.machine)
    if wall is not None:
        return f"{least}{clock(wall)} on {plan.machine}"
    if plan.machine.cluster:
        one = wall_seconds(plan.steps, plan.machine, 1)
        return f"{least}{clock(one or 0)} of one worker on {plan.machine}"
    return "not here: a step needs a GPU, or more memory, than this machine has"


def _unmeasured(found: Totals, also: str) -> list[str]:
    if not found.unmeasured:
        return []
    remedy = f"a run of a small list {also}measures"
    text = f"{', '.join(found.unmeasured)}: left out of work and time; {remedy} them"
    if not _any_measured(found):
        text = f"all of it; {remedy} it"
    return _wrapped(_entry("unmeasured", text), "", " " * 11)


def _origins(plan: Plan) -> Iterator[str]:
    """Where the rates come from."""
    if plan.sampled:
        yield _entry("sample", plan.sampled)
    by_origin: dict[str, list[str]] = {}
    for name, rate in plan.rates.items():
        by_origin.setdefault(rate.origin, []).append(name)
    for origin, names in by_origin.items():
        yield from _wrapped(_entry("rates", f"{origin}: {', '.join(names)}"), "", " " * 11)


def _for_rows(plan: Plan, rows: float) -> Iterator[str]:
    """The price of the whole recipe for so many rows of input."""
    steps = plan.for_rows(rows)
    if not steps:
        yield f"for {rows:,.0f} rows: no list has a row, so that there is nothing to go by"
        return
    yield f"for {rows:,.0f} rows of input, with nothing there, all in proportion (* may grow faster):"
    yield _row(LEGEND, "shards", "rows", "read", "written", "worker time")
    for group in grouped(steps):
        amount = group.todo
        shards = "" if group.kind in ("all shards", "pack") else f"{group.steps[0].step.total:,}"
        yield _row(group.title, shards, f"{amount.rows:,}", _bytes(amount.read), _bytes(amount.written), _work(group))
    found = totals(steps)
    yield from _totals(found)
    least = "at least " if found.unmeasured else ""
    times = ((n, wall_seconds(steps, plan.machine, n) or 0.0) for n in FLEETS)
    yield _entry("time", least + ", ".join(f"{clock(t)} with {n:,} worker{'s' * (n > 1)}" for n, t in times))
    yield from _unmeasured(found, "or --sample 3 " if plan.shards or _has_images(plan) else "")
