"""A recipe against its pool: claim the lists, walk the recipe, leave a pick.

    outcome = Job(load_recipe("recipe.yaml")).run()
    outcome.pick, outcome.kept

`plan()` says what a run would do, without doing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from curate.errors import UserError
from curate.run.graph import Asked, is_sparse, needs_all_shards, owners
from curate.run.walk import Walk
from filters.base import RowFilter
from stages.base import Barrier, Column, Stage


@dataclass
class Outcome:
    """What a run left: the pick's folder, its counts, and the items that failed for good, by pass."""

    pick: str
    kept: int
    times: int
    rows: int
    dropped: dict[str, int]
    failed: dict[str, list[str]] = field(default_factory=dict)


def walk_recipe(walk: Walk, steps: Sequence[Asked], columns: Sequence[Column]) -> None:
    """All that a recipe says about keeping, from top to bottom; `columns` are computed besides.

    Raises:
        UserError: a sparse stage is read by a barrier.
    """
    wanted = [c for s in steps for c in s.reads] + list(columns)
    wanted += [Column(b, "") for s in steps for b in s.barriers]
    walk.describe([o for o in owners(wanted) if _plain(o)])  # type: ignore[misc]
    for step in steps:
        _ensure(walk, [*step.reads, *(Column(b, "") for b in step.barriers)])
        if isinstance(step.filter, RowFilter):
            walk.row_filter(step)
        else:
            walk.global_filter(step)
    _ensure(walk, columns)
    walk.flush()


def _plain(owner: Stage | Barrier) -> bool:
    return isinstance(owner, Stage) and not needs_all_shards(owner) and not is_sparse(owner)


def _ensure(walk: Walk, columns: Sequence[Column]) -> None:
    """Queue or run the owners of these columns that have no place yet."""
    for owner in owners(columns):
        if owner in walk.places:
            continue
        if isinstance(owner, Barrier):
            if any(is_sparse(c.owner) for c in owner.reads() if c.owner is not None):
                raise UserError(f"{owner.method()} looks at all samples and cannot read a column of survivors only")
            walk.barrier(owner)
        elif owner.sparse:
            walk.sparse(owner)
        else:
            walk.describe([owner])
