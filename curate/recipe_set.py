"""`--set a.b.c=value`: one key of a recipe, overridden from the command line.

A step of `filters` is addressed by its id (given or automatic: where, where-2) or its number, and its parameters
directly: filters.english.min_prob=0.5. A stage of `columns` likewise by name: columns.language.model=lid.176.bin.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from curate.catalog import nearest
from curate.errors import UserError
from curate.recipe_check import STEP_KEYS, filter_key, step_ids
from curate.recipe_models import RecipeFile
from curate.recipe_yaml import Path as Where
from curate.recipe_yaml import dotted, parse_value

STAGES: tuple[Where, ...] = (("columns",), ("captions", "make"))


def override(value: dict[str, Any], text: str) -> Where:
    """Apply ``a.b.c=value`` to a recipe's YAML in place; returns the path that was set.

    Raises:
        UserError: no key=value, no YAML, or a path that leads nowhere; names the nearest part.
    """
    key, equals, given = text.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"--set {text}: write it as key=value, as in --set filters.english.min_prob=0.5")
    try:
        given_value = parse_value(given)
    except UserError as e:
        raise UserError(f"--set {text}: {e}") from e
    parts = key.split(".")
    if parts[0] == "extends":
        raise UserError(f"--set {text}: what a recipe extends stands in its file")
    if parts[0] not in RecipeFile.model_fields:
        raise UserError(f"--set {text}: a recipe has no {parts[0]!r}{nearest(parts[0], RecipeFile.model_fields)}")
    path: Where = ()
    here: Any = value
    for part, following in pairwise(parts):
        step = _step(here, part, path, text, new=not path)
        here = _enter(here, step, path)
        path = (*path, step)
        key_of = _parameters(here, path, following, text)
        if key_of is not None:
            here, path = _enter(here, key_of, path), (*path, key_of)
    step = _step(here, parts[-1], path, text, new=True)
    here[step] = given_value
    return (*path, step)


def _enter(here: Any, step: str | int, path: Where) -> Any:
    """What lies below; a key without a value becomes a map, and so does the bare name of a stage."""
    if isinstance(here, dict) and here.get(str(step)) is None:
        here[step] = {}
    elif path in STAGES and isinstance(here[step], str):
        here[step] = {here[step]: None}
    return here[step]


def _step(here: Any, part: str, path: Where, text: str, *, new: bool) -> str | int:
    """The key or number that `part` means in `here`; one that is not there is an error unless it may be new."""
    if isinstance(here, dict):
        if part in here or new:
            return part
        raise UserError(f"--set {text}: {dotted(path)} has no {part!r}{nearest(part, list(here))}")
    if isinstance(here, list):
        names = _names(here, path)
        if part in names:
            return names.index(part)
        if part in map(str, range(len(here))):
            return int(part)
        there = ", ".join(n for n in names if n) or f"numbers below {len(here)}"
        raise UserError(f"--set {text}: {dotted(path)} has no {part!r}{nearest(part, names)} (there are {there})")
    raise UserError(f"--set {text}: {dotted(path)} is no map but {here!r}")


def _names(items: list[Any], path: Where) -> list[str]:
    """How the entries of a list may be addressed besides by number; "" where they cannot."""
    if path == ("filters",):
        return step_ids(items)
    if path in STAGES:
        return [next(iter(i)) if isinstance(i, dict) and i else str(i) for i in items]
    return [str(i.get("name") or "") if isinstance(i, dict) else "" for i in items]


def _parameters(entry: Any, path: Where, following: str, text: str) -> str | None:
    """The key of a filter's or a stage's parameters, where the override goes on without saying it."""
    if path[:-1] in STAGES:
        key = next(iter(entry), None) if isinstance(entry, dict) else None
    elif path[:-1] == ("filters",):
        key = filter_key(entry) if following not in STEP_KEYS else None
    else:
        return None
    if key is None or key == following:
        return None
    if not isinstance(entry[key], dict | None):
        raise UserError(f"--set {text}: the filter is `{key}: {entry[key]}`; set {dotted((*path, key))}")
    return key
