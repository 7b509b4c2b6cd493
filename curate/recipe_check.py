"""Errors of a recipe with their places, all at once; filters and stages made from their YAML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from curate.catalog import FILTERS, STAGES, load, nearest
from curate.errors import UserError
from curate.recipe_yaml import Document
from curate.recipe_yaml import Path as Where
from filters.base import Filter
from stages.base import Barrier, Parameters, Stage

STEP_KEYS = ("id", "on_missing")


@dataclass(frozen=True)
class Step:
    """One filter of the recipe, with an id of its own."""

    id: str
    filter: Filter


class Lines:
    """Where a path of the merged recipe stands: in the file, in its base, or in an override."""

    def __init__(self, document: Document, base: Document | None, raw: dict[str, Any]) -> None:
        self.document, self.base, self.raw = document, base, raw
        self.overridden: list[str] = []

    def at(self, path: Where) -> str:
        for text in reversed(self.overridden):
            if [str(p) for p in path][: text.split("=")[0].count(".") + 1] == text.split("=")[0].split("."):
                return f"--set {text}"
        in_file = path[:1] == () or path[0] in self.raw or self.base is None
        document = self.document if in_file or self.base is None else self.base
        return f"{document.name}:{document.line(path)}"


class Errors:
    """Collects errors with their places, and raises them together."""

    def __init__(self, lines: Lines) -> None:
        self.lines, self.found = lines, list[str]()

    def add(self, path: Where, message: str) -> None:
        key = ".".join(str(p) for p in path)
        self.found.append(f"{self.lines.at(path)}: {key + ': ' if key else ''}{message}")

    def add_all(self, error: ValidationError, model: type[BaseModel], prefix: Where = ()) -> None:
        for e in error.errors():
            path = (*prefix, *(p for p in e["loc"]))
            self.add(path, _words(e, model))

    def throw(self) -> None:
        if self.found:
            raise UserError("\n".join(self.found))


def _words(error: Any, model: type[BaseModel]) -> str:
    """One pydantic error in words: what was expected, what was found, the nearest key."""
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        keys = list(_model_at(model, error["loc"][:-1]).model_fields)
        return f"unknown key{nearest(key, keys)} (known: {', '.join(keys)})"
    if error["type"] == "missing":
        return "is missing"
    found = json.dumps(error["input"], default=str)
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = f"expected {message}" if error["msg"].startswith("Input should be") else message
    return f"{expected}; found {found[:80]}"


def _model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    """The model that an error's location lies in."""
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        for inner in _models_in(field.annotation) if field else []:
            model = inner
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models_in(a)]


def read_steps(items: Any, errors: Errors) -> list[Step]:
    steps: list[Step] = []
    for i, item in enumerate(items if isinstance(items, list) else []):
        path: Where = ("filters", i)
        keys = [k for k in item if k not in STEP_KEYS] if isinstance(item, dict) else []
        if len(keys) != 1:
            errors.add(
                path,
                "expected one filter, as `- image_size: {min_side: 200}`; found " + json.dumps(item, default=str)[:80],
            )
            continue
        given = item[keys[0]]
        more = {"on_missing": item["on_missing"]} if "on_missing" in item else {}
        chosen = _construct(keys[0], given, FILTERS, (*path, keys[0]), errors, more)
        id = str(item.get("id") or _free(keys[0].split(":")[-1], steps))
        if any(s.id == id for s in steps):
            errors.add((*path, "id"), f"{id!r} is the id of two filters")
        if isinstance(chosen, Filter):
            steps.append(Step(id, chosen))
        elif chosen is not None:
            errors.add(path, f"{keys[0]} is no filter; stages stand under columns:")
    return steps


def _free(name: str, steps: list[Step]) -> str:
    taken = {s.id for s in steps}
    names = [name, *(f"{name}-{i}" for i in range(2, len(steps) + 2))]
    return next(n for n in names if n not in taken)


def read_stages(items: Any, section: str, errors: Errors) -> list[Stage | Barrier]:
    found: list[Stage | Barrier] = []
    for i, item in enumerate(items if isinstance(items, list) else []):
        path: Where = (*section.split("."), i)
        name, given = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, {})
        if not isinstance(name, str):
            errors.add(path, "expected a stage, as `- image_facts` or `- my_package.my_module:MyStage: {size: 3}`")
            continue
        stage = _construct(name, given, STAGES, path, errors, {})
        if isinstance(stage, Stage | Barrier):
            found.append(stage)
        elif stage is not None:
            errors.add(path, f"{name} is no stage; filters stand under filters:")
    return found


def _construct(
    name: str, given: Any, table: dict[str, str], path: Where, errors: Errors, more: dict[str, Any]
) -> Parameters | None:
    """The object of a name and its YAML parameters; errors are collected."""
    try:
        kind = load(name, table)
    except ValueError as e:
        errors.add(path, str(e))
        return None
    from_scalar = getattr(kind, "from_scalar", None)
    try:
        if given is None or isinstance(given, dict):
            return kind.model_validate(_tuples({**(given or {}), **more}))
        if from_scalar is None:
            errors.add(
                path, f"expected a map of {', '.join(kind.model_fields)}; found {json.dumps(given, default=str)[:80]}"
            )
            return None
        found: Parameters = from_scalar(given)
        return kind.model_validate({**found.model_dump(), **more}) if more else found
    except ValidationError as e:
        errors.add_all(e, kind, path)
        return None


def _tuples(value: Any) -> Any:
    """YAML's lists as tuples, since parameters are hashable."""
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return value
