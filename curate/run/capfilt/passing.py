"""A web's filters in a pool that has clean pairs as well: none of them is asked about a clean pair.

passing([{"image_size": {"min_side": 32}}], "starts_with(list, 'clean_pairs_0123abcd@')")
"""

from __future__ import annotations

from typing import Any

from curate.errors import UserError
from curate.recipe import Recipe
from curate.recipe_check import filter_key, step_ids
from curate.run.graph import needs_all_shards
from filters.base import Filter, RowFilter
from filters.combined import members_of
from stages.base import Column


def passing(items: list[Any], clean: str) -> list[dict[str, Any]]:
    """Entries of `filters:` that keep a sample for which `clean`, SQL, is true; each under the id that it had.

    A predicate says so itself; another filter is asked about the others only, and reasons are its own.
    """
    return [
        {**said, "where": _or(clean, said["where"])}
        if filter_key(item) == "where"
        else {"id": id, "unless": {"over": "survivors", "where": clean, "members": [_member(item)]}}
        for item, id in zip(items, step_ids(items), strict=True)
        for said in [{"id": id, **item}]
    ]


def _member(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "id"}


def _or(clean: str, said: Any) -> Any:
    return {**said, "sql": _or(clean, said["sql"])} if isinstance(said, dict) else f"{clean} or ({said})"


def refuse_whole(recipe: Recipe) -> None:
    """Refuse a web whose filters hold samples against one another: clean pairs would be among them.

    Raises:
        UserError: names the first such filter, and what to do.
    """
    for step, path in zip(recipe.steps, recipe.step_paths, strict=True):
        if _looks_at_others(recipe, step.filter):
            raise UserError(
                f"{recipe.places.at(path)}: filter {step.id} holds samples against one another, and clean pairs would "
                f"be among them: run {recipe.name} by itself first, and give the folder of its pack as WEB"
            )


def _looks_at_others(recipe: Recipe, chosen: Filter) -> bool:
    if any(not isinstance(member, RowFilter) for member in members_of(chosen)):
        return True
    read = [c if isinstance(c, Column) else recipe.known.get(c) for c in chosen.reads()]  # None: the input's own
    return any(c is not None and c.owner is not None and needs_all_shards(c.owner) for c in read)
