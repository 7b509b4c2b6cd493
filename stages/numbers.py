"""Columns as numbers, and maps of numbers as parameters: what scores are combined and sampled with.

values, present = numbers(table.column("clip_score"), "clip_score")
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from stages.base import Column, Source

_SIGN = np.uint64(1 << 63)


def numbers(column: pa.Array | pa.ChunkedArray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(values, present): float64 (n,), 0 where there is none; bool (n,), false for null and NaN.

    Raises:
        ValueError: the column is neither of numbers nor of truth values.
    """
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"column {name!r} is {kind}; expected numbers, or true and false")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    present = column.is_valid().to_numpy(zero_copy_only=False)
    plain = column.cast(pa.int8()) if pa.types.is_boolean(kind) else column
    values = plain.cast(pa.float64(), safe=False).fill_null(0).to_numpy()  # an int64 beyond 2^53 is rounded
    missing = ~present | np.isnan(values)
    return np.where(missing, 0.0, values), ~missing


def as_stored(number: float | None, kind: pa.DataType) -> float | None:
    """The number as a column of this type holds it, to compare its values with: 0.24 lies below float32's 0.24."""
    if number is None or not (pa.types.is_float32(kind) or pa.types.is_float16(kind)):
        return number
    with np.errstate(over="ignore"):  # beyond all that the column can hold: infinity says the same
        return float(np.array(number).astype(kind.to_pandas_dtype()))


def order_of(values: np.ndarray) -> np.ndarray:
    """uint64 (n,) that sort as the float64 do; both zeros are one; no NaN."""
    bits = (values + 0.0).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def number_of(order: int) -> float:
    """The float64 behind an order."""
    bits = np.array([order], np.uint64)
    return float(np.where(bits & _SIGN, bits ^ _SIGN, ~bits).view(np.float64)[0])


# ---------------------------------------------------------------- {name: number} as a parameter, which must be hashable


def _pairs(given: Any) -> Any:
    """A map as pairs in the order of its names, so that how it is written decides nothing."""
    if not isinstance(given, Mapping):
        return given  # pairs, as they are after a copy; else pydantic refuses it
    if not given:
        raise ValueError("expected at least one name with a number")
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{_name(key)}: expected a number, found {value!r}")
    return tuple(sorted(((_word(k), v) for k, v in given.items()), key=lambda pair: _name(pair[0])))


def _word(key: Any) -> Any:
    """YAML's true and 2 as Arrow writes them in a column of strings."""
    if isinstance(key, bool):
        return str(key).lower()
    return str(key) if isinstance(key, int | float) else key


def _name(key: Any) -> str:
    return key.field if isinstance(key, Column) else str(key)


def _map(pairs: tuple[tuple[Any, float], ...]) -> dict[str, float]:
    return {_name(key): value for key, value in pairs}


_AS_MAP = (
    BeforeValidator(_pairs),
    PlainSerializer(_map),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "number"}, "minProperties": 1}),
)

Shares = Annotated[tuple[tuple[str, float], ...], *_AS_MAP]
"""``{cc12m: 2, datacomp: 1}``: pairs of a name and a number, sorted by name."""

Coefficients = Annotated[tuple[tuple[Source, float], ...], *_AS_MAP]
"""``{clip_score: 0.5, aesthetic: -1}``: pairs of a column and a number, sorted by the column's name."""
