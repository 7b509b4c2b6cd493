"""Values that were taken for another type: "3" for 3, true for 1. A recipe says what it means, as editors see it too.

list(mistaken({"seed": "3"}, file))          # [(("seed",), 'expected a whole number, found "3"')]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from curate.recipe_errors import KINDS, shown
from curate.recipe_yaml import Path as Where

WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "t", "f", "y", "n"})
"""What pydantic reads as true or false, besides numbers."""


def mistaken(given: Any, got: Any, path: Where = ()) -> Iterator[tuple[Where, str]]:
    """(place, what is wrong) of each value of the YAML `given` that became a number or a truth value unasked.

    Args:
        got: the model, list or value that was made of it.
    """
    if isinstance(given, dict) and isinstance(got, tuple) and len(got) == 1:
        got = got[0]  # a lone source stands for a list of one
    if isinstance(given, dict) and isinstance(got, dict | BaseModel):
        values = dict(got)
        for key, value in given.items():
            if key in values:
                yield from mistaken(value, values[key], (*path, key))
    elif isinstance(given, list | tuple) and isinstance(got, list | tuple) and len(given) == len(got):
        for i, (value, made) in enumerate(zip(given, got, strict=True)):
            yield from mistaken(value, made, (*path, i))
    elif _differ(given, got):
        yield path, f"expected {KINDS[type(got).__name__]}, found {shown(given)}"


def _differ(given: Any, got: Any) -> bool:
    if isinstance(given, bool) or isinstance(got, bool):
        return isinstance(got, int | float) and type(given) is not type(got) and _plain(given)
    return isinstance(got, int | float) and isinstance(given, str) and _plain(given)


def _plain(given: Any) -> bool:
    """Is it a value that pydantic itself would turn around, and no class of the user's?"""
    if not isinstance(given, str):
        return isinstance(given, bool | int | float)
    try:
        float(given)
    except ValueError:
        return given.lower() in WORDS
    return True
