"""From a recipe's filters to what must be computed: the columns they read, and the owners behind those.

Recipes say what to keep, not what to compute; this module derives stages and barriers, in an order in which
each finds what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from curate.errors import UserError
from curate.run.sparse import Owner, is_sparse, over_survivors
from curate.run.verdict import column_names
from filters.base import Filter, GlobalFilter
from stages.base import IMAGE, Barrier, Column, Need, Stage

__all__ = ["Asked", "Owner", "asked", "is_sparse", "machines", "needs_all_shards", "owners", "reads_images"]


@dataclass(frozen=True)
class Asked:
    """One step of the recipe with its columns found: `reads` in the order of the filter's own `reads()`."""

    id: str
    filter: Filter
    reads: tuple[Column, ...]

    @property
    def barriers(self) -> tuple[Barrier, ...]:
        return self.filter.barriers() if isinstance(self.filter, GlobalFilter) else ()


def asked(id: str, chosen: Filter, resolve: Callable[[str], Column]) -> Asked:
    """Look up the plain names that a filter reads.

    Raises:
        UserError: a filter over the whole pool reads what is known of survivors only.
    """
    reads = tuple(resolve(c) if isinstance(c, str) else c for c in chosen.reads())
    column_names(reads)
    if isinstance(chosen, GlobalFilter) and chosen.over == "pool":
        for column in reads:
            if column.owner is not None and is_sparse(column.owner):
                raise UserError(
                    f"filter {id}: {column.field!r} is computed for survivors only, so what the pool has of it depends "
                    "on earlier recipes; write `over: survivors`"
                )
    return Asked(id, chosen, reads)


def owners(columns: Iterable[Column]) -> list[Owner]:
    """Owners of the columns and of all that those read, each after what it reads.

    Raises:
        UserError: an owner reads its own output, directly or round about; or a computation over all samples reads
            what is for survivors only, so that its answer would depend on which samples were asked about so far.
    """
    order: list[Owner] = []
    path: list[Owner] = []

    def visit(owner: Owner) -> None:
        if owner in order:
            return
        if owner in path:
            raise UserError("columns read each other in a circle: " + " -> ".join(o.method() for o in [*path, owner]))
        path.append(owner)
        for column in owner.reads():
            if column.owner is not None:
                visit(column.owner)
        path.pop()
        _refuse_holes(owner)
        order.append(owner)

    for column in columns:
        if column.owner is not None:
            visit(column.owner)
    return order


def _refuse_holes(owner: Owner) -> None:
    """A stage that reads what survivors have is for survivors itself; a barrier looks at all samples, or says so."""
    if isinstance(owner, Stage) or over_survivors(owner):
        return
    for read in owner.reads():
        if read.owner is not None and is_sparse(read.owner):
            raise UserError(
                f"{owner.method()} looks at all samples and cannot read {read.field!r}, which {read.owner.method()} "
                "writes for survivors only"
            )


def needs_all_shards(owner: Owner) -> bool:
    """Does the owner's output depend on shards other than its own?"""
    return any(isinstance(o, Barrier) for o in owners([Column(owner, "")]))


def machines(stages: Sequence[Stage]) -> list[tuple[Need, list[Stage]]]:
    """Stages grouped into passes: those on the same kind of machine share a pass over the shard, and its
    decoded images, unless one reads what a pass on another kind writes."""
    groups: list[tuple[Need, list[Stage]]] = []
    for stage in stages:
        home = _home(stage, groups)
        if home is None:
            groups.append((stage.need(), [stage]))
        else:
            need, members = groups[home]
            groups[home] = (_joint(need, stage.need()), [*members, stage])
    return groups


def _home(stage: Stage, groups: list[tuple[Need, list[Stage]]]) -> int | None:
    """The first group of the stage's kind that is not before a group whose output it reads."""
    read = {c.owner for c in stage.reads()}
    earliest = max((i for i, (_, members) in enumerate(groups) if read & set(members)), default=0)
    for i, (need, _) in enumerate(groups):
        if i >= earliest and need.gpus == stage.need().gpus:
            return i
    return None


def _joint(a: Need, b: Need) -> Need:
    return Need(
        max(a.cpus, b.cpus), a.gpus, a.memory_gb + b.memory_gb if a.gpus else max(a.memory_gb, b.memory_gb),
        a.deadline_s + b.deadline_s,
    )  # fmt: skip


def reads_images(stages: Iterable[Stage]) -> bool:
    return any(IMAGE in s.reads() for s in stages)
