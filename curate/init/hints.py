"""Columns of an input that a filter could use: licences, scores, sizes; as `where:` steps with the sample's figures."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate.ask.output import visible
from curate.init.look import Seen
from curate.recipe_yaml import dump
from curate.run.sources.kinds import Types
from filters.base import sql_string
from filters.sql_guard import check_predicate

MOST = 8  # hints
VALUES = 30  # different values that a column of names may have
HIGH = re.compile(r"similarity|clip|score|aesthetic|quality|frac|prob", re.IGNORECASE)
LOW = re.compile(r"watermark|unsafe|nsfw|toxic|spam|blur", re.IGNORECASE)
NAMES = re.compile(r"licen[cs]e|rights|nsfw|safety", re.IGNORECASE)
SIDES = re.compile(r"(^|_)(width|height)$", re.IGNORECASE)
PLAIN = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Hint:
    """A step that uses the input's column `name`, and what the sample says of it."""

    name: str
    step: str  # `where: "..."`, one line of YAML
    why: str


def hints(seen: Seen) -> list[Hint]:
    """Steps for columns whose names say what they hold; those whose names or values are odd are left alone."""
    found = []
    names = pool_names(seen)
    for column in seen.extras:
        values = [v for v in seen.sample.values.get(column, ()) if v is not None and v != ""]
        made = _hint(column, values, _quoted(names[column])) if values else None
        step = _step(made[0]) if made else None
        if made and step:
            found.append(Hint(names[column], step, made[1]))
    return found[:MOST]


def pool_names(seen: Seen) -> dict[str, str]:
    """The input's further columns -> how they are called in the pool, where some names are taken."""
    types = Types()
    for name in seen.extras:
        types.see(name, pa.string(), "", loose=True)
    return {name: field.name for name, field in types.fields().items()}


def _hint(column: str, values: list[Any], name: str) -> tuple[str, str] | None:
    """(predicate, what the sample says)."""
    numbers = [n for n in map(_number, values) if n is not None]
    if len(numbers) == len(values) and len(set(numbers)) > 2:
        return _of_numbers(column, sorted(numbers), name)
    if NAMES.search(column) and all(isinstance(v, str) for v in values):
        return _of_names(values, name)
    return None


def _of_numbers(column: str, numbers: list[float], name: str) -> tuple[str, str] | None:
    low, middle, high = (numbers[int(q * (len(numbers) - 1))] for q in (0.05, 0.5, 0.95))
    seen = f"in the sample {low:.4g} to {high:.4g}, median {middle:.4g}"
    if SIDES.search(column):
        return f"{name} >= 200", f"what the list says of the picture; {seen}"
    if LOW.search(column):
        return f"{name} <= {_rounded(middle)}", f"{seen}; this keeps the lower half"
    if HIGH.search(column):
        return f"{name} >= {_rounded(middle)}", f"{seen}; this keeps the upper half"
    return None


def _of_names(values: list[str], name: str) -> tuple[str, str] | None:
    count = Counter(values)
    if len(count) > VALUES:
        return None
    shown = ", ".join(f"{v!r} {n / len(values):.0%}" for v, n in count.most_common(4))
    return f"{name} IN ({sql_string(count.most_common(1)[0][0])})", f"in the sample {shown}"


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _rounded(value: float) -> str:
    """Three digits, as SQL and YAML both read them."""
    return f"{float(f'{value:.3g}'):.10g}"


def _quoted(name: str) -> str:
    return name if PLAIN.fullmatch(name) and name.isascii() else '"' + name.replace('"', '""') + '"'


def _step(predicate: str) -> str | None:
    """The step in one line; none where it would not read back as it stands, or is no predicate."""
    try:
        check_predicate(predicate)
    except ValueError:
        return None
    line = f"where: {json.dumps(predicate)}" if predicate.isascii() else dump({"where": predicate}).strip()
    return line if visible(line) == line and len(line) < 200 else None
