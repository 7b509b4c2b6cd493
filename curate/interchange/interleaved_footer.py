"""What a parquet file says of its row groups, as far as one must know it before anything is unpacked.

    for group in groups(f): group.rows, [(c.name, c.values, c.size) for c in group.columns]

pyarrow says it, too, but of a damaged file its `row_group(i).column(j)` ends the whole process (26.0: nobody catches
what C++ throws there). So the footer is read here: Thrift's compact protocol, and of parquet.thrift these fields.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from operator import index
from typing import Any, BinaryIO, NamedTuple

DEEPEST = 32  # structs and lists within each other; parquet has nine


class Damaged(Exception):
    """A footer is not what parquet.thrift says."""


class Column(NamedTuple):
    """Of one row group. name: of the outermost column. values: with nulls. size: bytes in the file."""

    name: str
    values: int
    size: int


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
        said = _struct(io.BytesIO(f.read(length)))
        return [Group(index(group[3]), [_column(chunk[3]) for chunk in group[1]]) for group in said[4]]
    except (IndexError, KeyError, TypeError, AttributeError) as e:  # cut, or other things than there should be
        raise Damaged(f"damaged footer: {e!r}") from e


def _column(about: dict[int, Any]) -> Column:
    return Column(about[3][0].decode("utf-8", "replace"), index(about[5]), index(about[7]))


# ------------------------------------------------------------------------------------------ Thrift


def _struct(data: io.BytesIO, depth: int = 0) -> dict[int, Any]:
    """Number of a field -> its value."""
    found: dict[int, Any] = {}
    number = 0
    while head := data.read(1)[0]:
        number = number + (head >> 4) if head >> 4 else _zigzag(data)
        kind = head & 15
        found[number] = kind == 1 if kind in (1, 2) else _value(data, kind, depth)
    return found


def _value(data: io.BytesIO, kind: int, depth: int) -> Any:
    """Of a field, or an entry of a list: only there a truth value has a byte of its own."""
    if depth == DEEPEST:
        raise Damaged("damaged footer: lists within lists within lists")
    if kind == 12:
        return _struct(data, depth + 1)
    if kind in (9, 10):
        return _list(data, depth + 1)
    return PLAIN[kind](data)


def _list(data: io.BytesIO, depth: int) -> list[Any]:
    head = data.read(1)[0]
    count = head >> 4 if head >> 4 < 15 else _varint(data)
    return [_value(data, head & 15, depth) for _ in range(count)]


def _varint(data: io.BytesIO) -> int:
    value = 0
    for place in range(0, 70, 7):
        byte = data.read(1)[0]
        value |= (byte & 127) << place
        if byte < 128:
            return value
    raise Damaged("damaged footer: a number without an end")


def _zigzag(data: io.BytesIO) -> int:
    value = _varint(data)
    return (value >> 1) ^ -(value & 1)


def _text(data: io.BytesIO) -> bytes:
    return data.read(_varint(data))


def _byte(data: io.BytesIO) -> int:
    return data.read(1)[0]


def _double(data: io.BytesIO) -> int:
    return data.read(8)[7]  # nobody asks for it; but it must be there, lest a list of them has no end


PLAIN: dict[int, Callable[[io.BytesIO], Any]] = {
    1: _byte,
    2: _byte,
    3: _byte,
    4: _zigzag,
    5: _zigzag,
    6: _zigzag,
    7: _double,
    8: _text,
}
"""Parquet has no maps."""
