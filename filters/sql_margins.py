"""The numbers that a predicate bounds, from its parsed tree: what is compared with which, and the side that stays.

    predicate_margins("sharpness >= 50 AND clip BETWEEN 0.2 AND 0.9")
    # Margin("sharpness", ..., ((50, "above", "sharpness >= 50"),)), Margin("clip", ..., two bounds)

Comparisons are found below AND, OR and NOT; whatever else a predicate says (equality, words, CASE) has no margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from filters.base import Bound, Margin, Side
from filters.sql_guard import number_of, sql_of, tree_of

LONGEST = 80  # characters of a name or a label; a predicate may be as long as a list of words

SIGNS = {
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_LESSTHAN": "<",
}
MIRRORED = {">=": "<=", ">": "<", "<=": ">=", "<": ">"}
OPPOSITE = {">=": "<", ">": "<=", "<=": ">", "<": ">="}


def predicate_margins(sql: str) -> tuple[Margin, ...]:
    """One margin a value that the predicate compares with a number, in the order in which they stand in it.

    Args:
        sql: a predicate that `check_predicate` has passed.
    """
    found: dict[str, dict[Bound, None]] = {}
    for value, bound in _bounds(tree_of(sql), negated=False):
        found.setdefault(value, {})[bound] = None
    return tuple(Margin(_name(value), value, tuple(bounds)) for value, bounds in found.items())


def _bounds(tree: Any, *, negated: bool) -> Iterator[tuple[str, Bound]]:
    match tree["class"]:
        case "CONJUNCTION":
            for child in tree["children"]:
                yield from _bounds(child, negated=negated)
        case "OPERATOR" if tree["type"] == "OPERATOR_NOT":
            yield from _bounds(tree["children"][0], negated=not negated)
        case "COMPARISON" if tree["type"] in SIGNS:
            yield from _compared(tree["left"], SIGNS[tree["type"]], tree["right"], negated=negated)
        case "BETWEEN":
            yield from _compared(tree["input"], ">=", tree["lower"], negated=negated)
            yield from _compared(tree["input"], "<=", tree["upper"], negated=negated)


def _compared(left: Any, sign: str, right: Any, *, negated: bool) -> Iterator[tuple[str, Bound]]:
    if _has_column(right) and not _has_column(left):
        left, sign, right = right, MIRRORED[sign], left
    if _has_column(right) or not _has_column(left):
        return
    number = number_of(right)
    if number is None:
        return
    sign = OPPOSITE[sign] if negated else sign
    value = sql_of(left)
    label = f"{_name(value)} {sign} {number:.10g}"
    side: Side = "above" if sign in (">", ">=") else "below"
    if sign in ("<", ">"):  # bounds are inclusive: the next number there is
        number = math.nextafter(number, math.inf if side == "above" else -math.inf)
    yield value, (number, side, label)


def _has_column(tree: Any) -> bool:
    if isinstance(tree, dict):
        return tree.get("class") == "COLUMN_REF" or any(_has_column(v) for v in tree.values())
    return isinstance(tree, list) and any(_has_column(item) for item in tree)


def _name(value: str) -> str:
    """The SQL as a name: without the brackets around the whole or the quotes of a single column, and not for ever."""
    inner = value[1:-1]
    whole = value.startswith("(") and _closes_at_end(value)
    column = value.startswith('"') and value.endswith('"') and '"' not in inner
    name = inner if whole or column else value
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def _closes_at_end(value: str) -> bool:
    """Does the first bracket close at the very end? Quoted parts may hold brackets: then nobody strips."""
    depth = 0
    for at, char in enumerate(value):
        if char in "'\"":
            return False
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return at == len(value) - 1
    return False
