"""`--set a.b.c=value`: one key of a recipe, overridden from the command line."""

from __future__ import annotations

from typing import Any

from curate.catalog import nearest
from curate.errors import UserError
from curate.recipe_check import STEP_KEYS
from curate.recipe_yaml import parse_value


def override(value: Any, text: str) -> None:
    """Apply ``a.b.c=value``; a step of `filters` is addressed by id, filter name or number."""
    path, equals, given = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: write it as key=value, as in --set filters.english.min_prob=0.5")
    *parents, last = path.split(".")
    here: Any = value
    for i, part in enumerate(parents):
        here = _enter(here, part, text, create=i == 0)
        if i == 1 and parents[0] == "filters" and last not in STEP_KEYS:
            here = _parameters(here)
    if isinstance(here, list):
        here[_position(here, last, text)] = parse_value(given)
    elif isinstance(here, dict):
        here[last] = parse_value(given)
    else:
        raise UserError(f"--set {text}: {'.'.join(parents)} is not a map")


def _parameters(step: dict[str, Any]) -> Any:
    key = next(k for k in step if k not in STEP_KEYS)
    if not isinstance(step[key], dict):
        return step
    return step[key]


def _enter(here: Any, part: str, text: str, *, create: bool) -> Any:
    if isinstance(here, list):
        return here[_position(here, part, text)]
    if isinstance(here, dict) and (part in here or create):
        return here.setdefault(part, {})
    there = list(here) if isinstance(here, dict) else []
    raise UserError(f"--set {text}: there is no {part!r}{nearest(part, there)}")


def _position(items: list[Any], part: str, text: str) -> int:
    if part.isdigit() and int(part) < len(items):
        return int(part)
    ids = [_step_id(i) for i in items]
    if part in ids:
        return ids.index(part)
    raise UserError(f"--set {text}: there is no {part!r}{nearest(part, ids)} (there are {', '.join(ids)})")


def _step_id(item: Any) -> str:
    if isinstance(item, dict):
        return str(item.get("id") or next((k for k in item if k not in STEP_KEYS), ""))
    return str(item)
