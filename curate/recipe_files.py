"""Where recipes come from: files and built-in ones, and the one level of `extends`."""

from __future__ import annotations

import copy
from importlib import resources
from pathlib import Path
from typing import Any

from curate.catalog import nearest
from curate.errors import UserError
from curate.recipe_yaml import Document


def builtin_names() -> list[str]:
    """Names of the recipes that come with curate, in order; none of them is read."""
    return sorted(e.name.removesuffix(".yaml") for e in resources.files("recipes").iterdir() if e.name[-5:] == ".yaml")


def find(name: str) -> tuple[str, str]:
    """(name for messages, text) of a path or built-in name."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            return str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(f"{name}: cannot read this recipe: {e}") from e
    known = builtin_names()
    if name not in known:
        raise UserError(
            f"{name}: no such file, and no built-in recipe{nearest(name, known)} (there are {', '.join(known)})"
        )
    return f"{name}.yaml (built in)", (resources.files("recipes") / f"{name}.yaml").read_text(encoding="utf-8")


def mapping(document: Document) -> dict[str, Any]:
    if not isinstance(document.value, dict):
        raise UserError(f"{document.name}:1:1: a recipe is a map of keys (recipe:, source:, filters:, ...)")
    return document.value


def base_of(document: Document, raw: dict[str, Any]) -> Document | None:
    """The recipe that this one extends: a path beside it, or a built-in name."""
    if raw.get("extends") is None:
        return None
    name, where = str(raw["extends"]), document.at(("extends",))
    beside = Path(document.name).parent / name
    try:
        base = Document(*find(str(beside) if beside.is_file() else name))
        extends = mapping(base).get("extends")
    except UserError as e:
        raise UserError(f"{where}: extends: {e}") from e
    if extends is not None:
        raise UserError(f"{where}: extends: {base.name} itself extends {extends}; one level only")
    return base


def merge(base: Any, top: Any) -> Any:
    """Maps key by key; anything else, lists too, is replaced."""
    if not (isinstance(base, dict) and isinstance(top, dict)):
        return copy.deepcopy(top)
    merged = {k: merge(v, top[k]) if k in top else copy.deepcopy(v) for k, v in base.items()}
    return merged | {k: copy.deepcopy(v) for k, v in top.items() if k not in base}
