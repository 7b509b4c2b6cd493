"""What a parquet file says of its row groups, as far as one must know it before anything is unpacked.

    for group in groups(f): group.rows, [(c.path, c.values, c.size, c.unpacked, c.nulls) for c in group.columns]

pyarrow says it, too, but of a damaged file its `row_group(i).column(j)` ends the whole process (26.0: nobody catches
what C++ throws there). So the footer is read here: Thrift's compact protocol, and of parquet.thrift these fields. What
nobody asks for is passed over and becomes nothing of Python's: a footer may have 100,000 columns of row groups, which
are a second here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from operator import index
from typing import Any, BinaryIO, NamedTuple

DEEPEST = 32  # structs and lists within each other; parquet has nine


class Damaged(Exception):
    """A footer is not what parquet.thrift says."""


class Column(NamedTuple):
    """Of one row group. path: names from the outermost to the leaf. values: with nulls. size: bytes in the file.
    unpacked: bytes without compression. nulls: None where it is not said."""

    path: tuple[str, ...]
    values: int
    size: int
    unpacked: int
    nulls: int | None


class Group(NamedTuple):
    rows: int
    columns: list[Column]


def groups(f: BinaryIO) -> list[Group]:
    """The row groups of a file.

    Raises:
        Damaged: the footer is.
    """
    f.seek(-8, io.SEEK_END)
    length = int.from_bytes(f.read(4), "little")
    f.seek(-8 - length, io.SEEK_END)
    try:
        said, _ = _struct(f.read(length), 0, 0, FOOTER)
        return [Group(index(group[3]), [_column(chunk[3]) for chunk in group[1]]) for group in said[4]]
    except (LookupError, TypeError, AttributeError, ValueError) as e:  # cut, or other things than there should be
        raise Damaged(f"damaged footer: {e!r}") from e


def _column(about: dict[int, Any]) -> Column:
    first, *inner = (name.decode("utf-8", "replace") for name in about[3])
    nulls = about.get(12, {}).get(3)
    nulls = None if nulls is None else index(nulls)
    return Column((first, *inner), values=index(about[5]), size=index(about[7]), unpacked=index(about[6]), nulls=nulls)


# ------------------------------------------------------------------------------------------ Thrift

Wanted = Mapping[int, Any]
"""Number of a field -> what is wanted of the structs in it."""

STATISTICS: Wanted = {3: {}}  # null_count
COLUMN: Wanted = {3: {}, 5: {}, 6: {}, 7: {}, 12: STATISTICS}  # path_in_schema, num_values, total_(un)compressed_size
GROUP: Wanted = {1: {3: COLUMN}, 3: {}}  # columns' meta_data, num_rows
FOOTER: Wanted = {4: GROUP}


def _struct(data: bytes, at: int, depth: int, wanted: Wanted) -> tuple[dict[int, Any], int]:
    """(number of a wanted field -> its value, where the next thing begins)."""
    _not_too_deep(depth)
    found: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head > 15:
            number += head >> 4
        else:
            number, at = _number(data, at, 0, {})
        kind = head & 15
        if kind in (1, 2):  # only in a list a truth value has a byte of its own
            found[number] = kind == 1
        elif number in wanted:
            found[number], at = READ[kind](data, at, depth + 1, wanted[number])
        else:
            at = PASS[kind](data, at, depth + 1)
    return found, at + 1


def _list(data: bytes, at: int, depth: int, wanted: Wanted) -> tuple[list[Any], int]:
    _not_too_deep(depth)
    count, kind, at = _head(data, at)
    read, found = READ[kind], []
    for _ in range(count):
        value, at = read(data, at, depth + 1, wanted)
        found.append(value)
    return found, at


def _number(data: bytes, at: int, depth: int, wanted: Wanted) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _text(data: bytes, at: int, depth: int, wanted: Wanted) -> tuple[bytes, int]:
    length, at = _varint(data, at)
    return data[at : at + length], at + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at] & 127
    place = 0
    while data[at] > 127:
        at += 1
        place += 7
        if place > 63:
            raise Damaged("damaged footer: a number without an end")
        value |= (data[at] & 127) << place
    return value, at + 1


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Of a list: (entries, their kind, where they begin)."""
    head, at = data[at], at + 1
    count = head >> 4
    if count == 15:
        count, at = _varint(data, at)
    if count > len(data) - at:  # each takes a byte at least
        raise Damaged("damaged footer: a list that is longer than the footer")
    return count, head & 15, at


def _not_too_deep(depth: int) -> None:
    if depth > DEEPEST:
        raise Damaged("damaged footer: lists within lists within lists")


def _pass_struct(data: bytes, at: int, depth: int) -> int:
    _not_too_deep(depth)
    while head := data[at]:
        at += 1
        if head < 16:
            at = _pass_number(data, at, 0)
        if head & 15 not in (1, 2):
            at = PASS[head & 15](data, at, depth + 1)
    return at + 1


def _pass_list(data: bytes, at: int, depth: int) -> int:
    _not_too_deep(depth)
    count, kind, at = _head(data, at)
    step = PASS[kind]
    for _ in range(count):
        at = step(data, at, depth + 1)
    return at


def _pass_number(data: bytes, at: int, depth: int) -> int:
    while data[at] > 127:
        at += 1
    return at + 1


def _pass_text(data: bytes, at: int, depth: int) -> int:
    length, at = _varint(data, at)
    return at + length


def _pass_byte(data: bytes, at: int, depth: int) -> int:
    return at + 1


def _pass_double(data: bytes, at: int, depth: int) -> int:
    return at + 8


READ: dict[int, Callable[[bytes, int, int, Wanted], tuple[Any, int]]] = {
    **dict.fromkeys((4, 5, 6), _number),
    8: _text,
    **dict.fromkeys((9, 10), _list),
    12: _struct,
}
PASS: dict[int, Callable[[bytes, int, int], int]] = {
    **dict.fromkeys((1, 2, 3), _pass_byte),
    **dict.fromkeys((4, 5, 6), _pass_number),
    7: _pass_double,
    8: _pass_text,
    **dict.fromkeys((9, 10), _pass_list),
    12: _pass_struct,
}
"""Parquet has no maps."""
