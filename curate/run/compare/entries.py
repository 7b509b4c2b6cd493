"""What is trained: each recipe, and the controls without which its gain could be anything.

- no_filter: the whole pool, with the web's texts.
- random subset: of the pool, as many samples as a recipe keeps; tells what a filter chose from how much it left, and
  so how often each sample is seen. Recipes of nearly equal size share one. It is one draw for all replicates.
- no_filter again: the same pack with other seeds. What differs there is noise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from curate.errors import UserError
from curate.recipe_models import Captions
from curate.run.compare.found import Kind
from curate.run.job import Job
from curate.run.progress import Progress

if TYPE_CHECKING:
    from curate.recipe import Recipe
    from curate.run.choice import ExecutorChoice
    from curate.run.compare.request import Request

NO_FILTER, AGAIN = "no_filter", "no_filter again"
DRAW = 20_251_121  # seed of random subsets: not that of a recipe's own
NEAR = 0.02  # sizes that differ by less share a random subset
OTHER_SEEDS = 1_000_000  # added to a replicate's seed by the A/A control


@dataclass(frozen=True)
class Packed:
    """An entry whose pack lies in the pool. kept: different samples in it; samples: with copies."""

    name: str
    kind: Kind
    of: tuple[str, ...]
    recipe: Recipe
    pick: str
    pack: str
    kept: int
    samples: int

    def seed(self, replicate: int) -> int:
        return replicate + (OTHER_SEEDS if self.kind == "a_a" else 0)


def pack_entries(request: Request, choice: ExecutorChoice, progress: Progress) -> list[Packed]:
    """Run and pack recipes and controls; what is there already costs nothing.

    Raises:
        UserError: there is no pool and no source, or a recipe keeps nothing.
    """
    pack = _packer(choice, progress)
    # All lists first: every entry has to see one pool, which a recipe with a source may have to make for the others.
    for job in map(Job, sorted(request.recipes, key=lambda r: not r.sources)):
        job.claim_lists(job.create_pool(), progress)
    first = next((r for r in request.recipes if _keeps_all(r)), None)
    entries = [pack(r.name, "no_filter" if r is first else "recipe", (), r) for r in request.recipes]
    whole = next((e for e in entries if e.kind == "no_filter"), None)
    if whole is None and ("no_filter" in request.controls or "a_a" in request.controls):
        whole = pack(NO_FILTER, "no_filter", (), control(request.recipes[0], NO_FILTER, []))
        entries.insert(0, whole)
    if "random" in request.controls:
        groups = sizes([e for e in entries if e.kind == "recipe"])
        for names, kept in groups:
            if whole is not None and kept >= whole.kept:
                progress.say(
                    f"{', '.join(names)}: as many samples as the whole pool, so no random subset of equal size"
                )
                continue
            drawn = [{"random_subset": {"samples": kept, "over": "pool", "seed": DRAW}}]
            name = "random subset" if len(groups) == 1 else f"random, as {names[0]}"
            entries.append(pack(name, "random", names, control(request.recipes[0], f"random-{kept}", drawn)))
    if "a_a" in request.controls and whole is not None:
        entries.append(replace(whole, name=AGAIN, kind="a_a"))
    return entries


def _packer(choice: ExecutorChoice, progress: Progress) -> Callable[[str, Kind, tuple[str, ...], Recipe], Packed]:
    def pack(name: str, kind: Kind, of: tuple[str, ...], recipe: Recipe) -> Packed:
        job = Job(recipe)
        job.choice = choice
        outcome = job.run(progress)
        if not outcome.times:
            raise UserError(f"{name} keeps nothing: nothing to train on (`curate report` says what took it all)")
        manifest = job.pack(progress, outcome.pick)
        samples = manifest["counts"]["samples"]
        return Packed(name, kind, of, recipe, outcome.pick, manifest["folder"], outcome.kept, samples)

    return pack


def _keeps_all(recipe: Recipe) -> bool:
    """Is this the control itself, given as a recipe?"""
    return not recipe.steps and recipe.captions == Captions()


def sizes(entries: Sequence[Packed]) -> list[tuple[tuple[str, ...], int]]:
    """Names of recipes of nearly one size, with the size of the first."""
    found: list[tuple[list[str], int]] = []
    for entry in sorted((e for e in entries if e.kind == "recipe"), key=lambda e: e.kept):
        if found and entry.kept - found[-1][1] <= NEAR * found[-1][1]:
            found[-1][0].append(entry.name)
        else:
            found.append(([entry.name], entry.kept))
    return [(tuple(names), kept) for names, kept in found]


def control(recipe: Recipe, name: str, filters: list[dict[str, Any]]) -> Recipe:
    """A recipe over the same pool with these filters and the web's texts. Nothing else of the given one is in it but
    what the pool was made with, so that controls are the same whichever recipe comes first."""
    from curate.recipe import recipe_from

    raw: dict[str, Any] = {
        key: copy.deepcopy(recipe.raw[key]) for key in ("ingest", "shard_size", "run") if key in recipe.raw
    }
    return recipe_from({**raw, "recipe": name, "pool": recipe.pool, "filters": filters})
