"""What is compared: two picks of one pool, or a pick and a file that names uids.

    pool, a, b = two_sides("strict.yaml", "subset.npy", pool=None, overrides=[])

Nothing is run: a recipe whose pick is not there is an error that names the command to make it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.ask.funnel import find_pick, pick_folders
from curate.errors import UserError
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.pick import NO_TEXT, REMOVED
from curate.subset import open_named

if TYPE_CHECKING:
    from curate.recipe import Recipe

FILES = (".npy", ".txt")
NOT_NAMED = "not_named"  # what stands for the filter that drops what a file of uids does not name


@dataclass(frozen=True)
class Side:
    """One of the two. `pick` is its folder; None for a file, whose uids are `named` (PAIR, sorted).

    label: how a person tells it from the other one. fates: who may have dropped a row: filters in their order, then
    reasons of the pick itself.
    """

    letter: str
    label: str
    slug: str  # for file names
    shards: tuple[int, ...]
    pick: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    named: np.ndarray | None = None

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The filters of the pick: id, filter, folder, over."""
        return list(self.about.get("steps", []))

    @property
    def reasons(self) -> list[str]:
        return [NOT_NAMED] if self.pick is None else [REMOVED, NO_TEXT]

    @property
    def fates(self) -> list[str]:
        return [*(s["id"] for s in self.steps), *self.reasons]

    def step(self, fate: int | None) -> dict[str, Any] | None:
        """The filter behind the number of a fate, if it is one."""
        return self.steps[fate] if fate is not None and fate < len(self.steps) else None

    def reason(self, name: str) -> int | None:
        """The number among the fates of a reason of the pick itself, if it has that."""
        return len(self.steps) + self.reasons.index(name) if name in self.reasons else None


@dataclass(frozen=True)
class _Asked:
    """What a person wrote for one side; `recipe` where it names one."""

    letter: str
    text: str
    overrides: Sequence[str] = ()
    recipe: Recipe | None = None

    @property
    def is_file(self) -> bool:
        return Path(self.text).suffix in FILES


def two_sides(a: str, b: str, *, pool: str | None, overrides: Sequence[str]) -> tuple[Pool, Side, Side]:
    """The pool and what is compared.

    Args:
        a, b: a recipe's file or name, a pick (``demo@0123456789ab``), a .npy subset or a .txt of uids.
        pool: instead of the recipes' own. overrides: of B, which must be a recipe then.

    Raises:
        UserError: no pool or two of them; a recipe that has not been run; no such pick or file.
    """
    asked = [_asked("A", a, pool, []), _asked("B", b, pool, overrides)]
    opened = Pool.open(pool or _pool_of(asked))
    first, second = (_side(opened, one) for one in asked)
    if first.label == second.label:
        first, second = (
            replace(s, label=s.pick.removeprefix("picks/") if s.pick else s.label) for s in (first, second)
        )
    if first.slug == second.slug:
        first, second = (
            replace(s, slug=_slug(s.pick.removeprefix("picks/")) if s.pick else s.slug) for s in (first, second)
        )
    return opened, first, second


def _asked(letter: str, text: str, pool: str | None, overrides: Sequence[str]) -> _Asked:
    asked = _Asked(letter, text, overrides)
    if not asked.is_file and _names_recipe(text):
        from curate.recipe import load_recipe

        settings = [*overrides, *([f"pool={json.dumps(pool)}"] if pool else [])]
        return replace(asked, recipe=load_recipe(text, settings))
    if overrides:
        raise UserError(f"--set changes a recipe, and {text} is {'a file of uids' if asked.is_file else 'a pick'}")
    return asked


def _names_recipe(text: str) -> bool:
    from curate.recipe_files import builtin_names

    is_file = text.endswith((".yaml", ".yml")) or Path(text).is_file()
    return is_file or text in builtin_names()


def _pool_of(asked: Sequence[_Asked]) -> str:
    named = {Storage.at(one.recipe.pool).url: one for one in asked if one.recipe is not None}
    if len(named) > 1:
        places = ", ".join(f"{one.text} reads {url}" for url, one in named.items())
        raise UserError(f"a diff is of one pool, and {places}; say which by --pool POOL")
    if not named:
        raise UserError(f"{asked[0].text} and {asked[1].text} name no pool; say which by --pool POOL")
    return next(one.recipe.pool for one in named.values() if one.recipe is not None)


def _side(pool: Pool, asked: _Asked) -> Side:
    if asked.is_file:
        name = Path(asked.text).name
        return Side(asked.letter, name, _slug(name), tuple(pool.shards()), named=open_named(asked.text))
    folder = find_pick(pool, asked.text) if asked.recipe is None else _pick_of(pool, asked, asked.recipe)
    about = pool.about(folder)
    if not about:
        raise UserError(f"{pool.storage}/{folder}: no about.json; is this a finished pick?")
    label = ", ".join([about["recipe"], *asked.overrides])
    return Side(asked.letter, label, _slug(about["recipe"]), tuple(about["shards"]), folder, about)


def _pick_of(pool: Pool, asked: _Asked, recipe: Recipe) -> str:
    """The pick of a recipe as it stands now, on the pool as it is now."""
    from curate.run.job import Job

    try:
        _, planned, folder = Job(recipe, "inline").plan()
    except UserError as e:
        raise UserError(f"{asked.letter}, {asked.text}: {e}") from e
    if not any(p.missing for p in planned):
        return folder
    sets = [word for text in asked.overrides for word in ("--set", text)]
    command = shlex.join(["curate", "run", asked.text, *sets, "--pool", recipe.pool])
    earlier = [f[6:] for f in pick_folders(pool) if f[6:].rsplit("@", 1)[0] == recipe.name]
    hint = f"\nearlier picks of {recipe.name}, which may be named in full: {', '.join(earlier)}" if earlier else ""
    raise UserError(
        f"{asked.letter}, {asked.text}, has not been run on {pool.storage} as it is; first: {command}{hint}"
    )


def _slug(name: str) -> str:
    return re.sub(r"[^\w.@+-]+", "_", name)
