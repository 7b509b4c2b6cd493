"""Types of columns that come without any: cells of a csv, values of JSON. Narrowest type that holds them all.

null < int64 < double; bool; list<string>; whatever does not agree is a string (of JSON, where it was no string).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.facts import LISTED, RESERVED

NULL, BOOL, INT, DOUBLE, STRING, STRINGS = (
    pa.null(),
    pa.bool_(),
    pa.int64(),
    pa.float64(),
    pa.string(),
    pa.list_(pa.string()),
)
# No leading zeros, no plus, no more digits than fit: what is turned into a number is printed the same again.
_INT = r"^(0|-?[1-9][0-9]{0,17})\z"
_DOUBLE = r"^-?((0|[1-9][0-9]{0,14})|[0-9]{1,15}\.[0-9]*([eE][+-]?[0-9]{1,3})?|[1-9][eE][+-]?[0-9]{1,3}|nan|NaN|inf)\z"


def join(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    """The narrowest type that holds values of both."""
    if a == b or b == NULL:
        return a
    if a == NULL:
        return b
    return DOUBLE if {a, b} == {INT, DOUBLE} else STRING


def kind_of_cells(cells: Sequence[str | None], so_far: pa.DataType) -> pa.DataType:
    """The type of csv cells, joined with that of earlier ones; an empty cell is null."""
    if so_far == STRING:
        return STRING
    column = strings(cells)
    column = column.filter(pc.fill_null(pc.not_equal(column, ""), False))
    for kind, pattern in ((INT, _INT), (DOUBLE, _DOUBLE)):
        if pc.all(pc.match_substring_regex(column, pattern), min_count=0).as_py():
            return join(so_far, NULL if not len(column) else kind)
    return STRING


def kind_of_json(values: Sequence[Any], so_far: pa.DataType) -> pa.DataType:
    """The type of JSON values, joined with that of earlier ones."""
    if so_far == STRING:
        return STRING
    plain = {type(None): NULL, bool: BOOL, float: DOUBLE, str: STRING}
    for kind in set(map(type, values)):
        if kind is int:
            fits = all(-(2**63) <= v < 2**63 for v in values if type(v) is int)
            so_far = join(so_far, INT if fits else STRING)
        elif kind is list:
            fits = all(isinstance(s, str) for v in values if type(v) is list for s in v)
            so_far = join(so_far, STRINGS if fits else STRING)
        else:
            so_far = join(so_far, plain.get(kind, STRING))
    return so_far


def strings(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, STRING)


def json_text(value: Any) -> str | None:
    """The value as a string: itself if it is one, else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return str(value) if type(value) is int else orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()


def cells_as(cells: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    """csv cells in the type that `kind_of_cells` found for all of them."""
    column = strings(cells)
    if kind == STRING:
        return column
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, STRING), column).cast(kind)


def json_as(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """JSON values in the type that `kind_of_json` found for all of them."""
    if kind == STRING:
        return strings([json_text(v) for v in values])
    return pa.array([None if v is None else float(v) for v in values] if kind == DOUBLE else values, kind)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Without dictionaries and 64-bit offsets, so that files written by different tools agree."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return STRING
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


@dataclass
class Types:
    """Types of the further columns of a list, over all its files."""

    found: dict[str, tuple[pa.DataType, str, bool]] = field(default_factory=dict)

    def loose(self, name: str) -> pa.DataType:
        """What untyped values of this column were so far."""
        kind, _, loose = self.found.get(name, (NULL, "", True))
        return kind if loose else NULL

    def see(self, name: str, kind: pa.DataType, file: str, *, loose: bool) -> None:
        """Join with what was seen before. Raises: UserError naming both files where typed columns disagree."""
        if name not in self.found:
            self.found[name] = (kind, file, loose)
            return
        before, first, was_loose = self.found[name]
        if loose and was_loose:
            self.found[name] = (join(before, kind), first, True)
            return
        try:
            unified = pa.unify_schemas([pa.schema([(name, k)]) for k in (before, kind)], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as e:
            raise UserError(
                f"column {name!r} is {before} in {first} and {kind} in {file}; write one of the files anew, or leave "
                "the column out of `keep:` under `source:`"
            ) from e
        self.found[name] = (unified.field(0).type, first, False)

    def fields(self) -> dict[str, pa.Field]:
        """Input name -> field under the name that it has in the pool; a reserved name gets the prefix `source_`."""
        taken = {n.casefold() for n in (*LISTED.names, *RESERVED)}
        out: dict[str, pa.Field] = {}
        free = {n.casefold() for n in self.found} - taken
        for name, (kind, _, _) in self.found.items():
            new = name
            if name.casefold() in taken:
                new = f"source_{name}"
                while new.casefold() in taken | free:
                    new = f"source_{new}"
            taken.add(new.casefold())
            out[name] = pa.field(new, STRING if kind == NULL else kind)
        return out
