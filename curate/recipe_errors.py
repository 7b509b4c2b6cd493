"""Errors of a recipe in words and with their places, collected and raised together.

recipe.yaml:12:7: filters.0.image_size.min_sid: unknown key; did you mean 'min_side'?
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from curate.catalog import nearest
from curate.errors import UserError
from curate.recipe_yaml import Document, dotted
from curate.recipe_yaml import Path as Where

FEW = 16  # keys that one can take in at a glance
KINDS = {
    "string": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a map",
    "model": "a map",
}
"""First part of pydantic's error type -> what was expected, in words of YAML."""
CONSEQUENCES = ("too_short", "literal_error", "_type")
"""Ends of types of error that a list has, too, when an entry of it is wrong: the entry's error says all."""


@dataclass(frozen=True)
class Places:
    """Where a path of the merged recipe stands: in the file, in its base, or in an override (path, text)."""

    document: Document
    base: Document | None = None
    overridden: tuple[tuple[Where, str], ...] = ()

    def at(self, path: Where) -> str:
        """``file:line:column``, or ``--set key=value``."""
        document = self._document(path)
        for where, text in reversed(self.overridden):
            made = path and where[: len(path)] == path and not document.has(path)  # a section begun by an override
            if made or path[: len(where)] == where:
                return f"--set {text}"
        return document.at(path)

    def order(self, path: Where) -> tuple[bool, int, int]:
        """Sorts errors as a reader meets them: overrides, the file from top to bottom, then its base."""
        if self.at(path).startswith("--set "):
            return (False, 0, 0)
        document = self._document(path)
        return (document is self.base, *document.place(path))

    def _document(self, path: Where) -> Document:
        return self.document if self.base is None or self._own(path, self.base) else self.base

    def _own(self, path: Where, base: Document) -> bool:
        """Is this path the file's own? It is its base's where, going down the maps, only the base has the key."""
        here, below = self.document.value, base.value
        for part in path:
            if not isinstance(here, dict) or not isinstance(below, dict):
                return True
            if part not in here:
                return part not in below
            here, below = here[part], below.get(part)
        return True


class Errors:
    """Collects errors with their places, and raises them together."""

    def __init__(self, places: Places, found: Sequence[str] = ()) -> None:
        self.places = places
        self._found = [((False, 0, 0), text) for text in found]

    def add(self, path: Where, message: str) -> None:
        text = f"{self.places.at(path)}: {dotted(path) + ': ' if path else ''}{message}"
        self._found.append((self.places.order(path), text))

    def attempt(self, path: Where, action: Callable[[], Any]) -> Any:
        """The action's result; None, and an error at this path, where it raises ValueError or UserError."""
        try:
            return action()
        except (ValueError, UserError) as e:
            self.add(path, str(e))
            return None

    def add_all(
        self,
        error: ValidationError,
        model: type[BaseModel],
        value: Any,
        prefix: Where = (),
        beside: Mapping[str, Where] | None = None,
    ) -> None:
        """All of pydantic's errors, one line a place.

        Args:
            value: the YAML at `prefix` that the model was given.
            beside: field -> its path, of those that do not stand below `prefix`.
        """
        grouped: dict[Where, list[Any]] = {}
        for e in error.errors():
            path = (beside or {}).get(str(e["loc"][0])) if e["loc"] else None
            grouped.setdefault(path or (*prefix, *_path_in_yaml(e, value)), []).append(e)
        for path, some in grouped.items():
            below = any(p[: len(path)] == path and p != path for p in grouped)
            if not (below and some[0]["type"].endswith(CONSEQUENCES)):
                self.add(path, _words(some, model))

    def throw(self) -> None:
        """Raise what was collected, in the order of the file; nothing if there is nothing."""
        if self._found:
            found = sorted(self._found, key=lambda f: f[0])
            raise UserError("\n".join(dict.fromkeys(text for _, text in found)))


def _path_in_yaml(error: Any, value: Any) -> Where:
    """The error's location without what pydantic adds to it: members of unions, and the number of a lone source."""
    path: Where = ()
    for part in error["loc"]:
        if (isinstance(value, dict) and part in value) or (
            isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        ):
            path, value = (*path, part), value[part]
    return (*path, error["loc"][-1]) if error["type"] == "missing" else path


def _words(errors: Sequence[Any], model: type[BaseModel]) -> str:
    """What is wrong at one place: the errors of a union's members as one."""
    first = errors[0]
    if first["type"] == "extra_forbidden":
        return unknown_key(str(first["loc"][-1]), keys_of(_model_at(model, first["loc"][:-1])))
    if first["type"] == "missing":
        choices = get_args(_model_at(model, first["loc"][:-1]).model_fields[first["loc"][-1]].annotation)
        words = [repr(c) for c in choices if isinstance(c, str)]
        return "is missing" + (f": say {' or '.join(words)}" if words else "")
    expected = [_expected(e) for e in errors]
    if all(expected):
        names = [n for e in expected for n in re.findall(r"'([^']*)'", e or "")]
        near = nearest(first["input"], names) if isinstance(first["input"], str) else ""
        either = " or ".join(dict.fromkeys(e for e in expected if e))
        return f"expected {either}, found {shown(first['input'])}{near}"
    said = [e["msg"].removeprefix("Value error, ") for e, words in zip(errors, expected, strict=True) if not words]
    found = first["input"]
    return "; ".join(dict.fromkeys(said)) + ("" if isinstance(found, dict | BaseModel) else f"; found {shown(found)}")


def _expected(error: Any) -> str | None:
    """What one error expected; None where its own message says it."""
    kind = error["type"].split("_")[0]
    if error["type"].endswith(("_type", "_parsing", "_from_float")) and kind in KINDS:
        return KINDS[kind]
    if error["type"].startswith(("greater_", "less_")):
        return str(error["msg"]).replace("Input should be", "a number")
    if error["type"] in ("too_short", "string_too_short"):
        return "at least one entry" if error["ctx"].get("min_length") == 1 else str(error["msg"])
    start = "Input should be "
    return str(error["msg"]).removeprefix(start) if error["msg"].startswith(start) else None


def shown(value: Any) -> str:
    """A value as it is shown in an error, cut to 80 characters."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def unknown_key(key: str, known: Sequence[str]) -> str:
    """The words for a key that is not among the known ones; lists those where they are few, or none is near."""
    near = nearest(key, list(known))
    return f"unknown key{near}" + (f" (known: {', '.join(known)})" if len(known) <= FEW or not near else "")


def keys_of(model: type[BaseModel]) -> list[str]:
    """Keys of a model, those that all filters share at the end."""
    return sorted(model.model_fields, key=lambda k: k == "on_missing")


def _model_at(model: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel]:
    """The model that an error's location lies in."""
    for part in location:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        for inner in models_in(field.annotation) if field else []:
            model = inner
    return model


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in get_args(annotation) for m in models_in(a)]
