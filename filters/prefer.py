"""Which sample is best, by columns in turn: how `keep_one` and `cap` read `prefer`.

ranks(("original_width * original_height desc", "clip_score desc"), table)
"""

from __future__ import annotations

import re
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator

WORST = np.iinfo(np.int64).max
_ENTRY = re.compile(r"\s*(\w+(?:\s*\*\s*\w+)*)\s+(asc|desc)\s*")


def _readable(prefer: tuple[str, ...]) -> tuple[str, ...]:
    for entry in prefer:
        if not _ENTRY.fullmatch(entry):
            raise ValueError(f'{entry!r}: write "<column> desc" (largest is best) or "<column> asc"')
    return prefer


Prefer = Annotated[tuple[str, ...], AfterValidator(_readable)]
"""Entries "<column> desc" or "<column> asc"; "a * b" is a product of columns."""


def columns(prefer: tuple[str, ...]) -> list[str]:
    """Plain names of the columns that the entries read, each once."""
    return list(dict.fromkeys(name for entry in prefer for name in _parts(entry)[0]))


def ranks(prefer: tuple[str, ...], table: pa.Table) -> dict[str, np.ndarray]:
    """``rank0``, ...: int64 (rows,), an array an entry, smallest is best; missing values and NaN are worst.

    Raises:
        ValueError: a column is not of numbers.
    """
    found = {}
    for number, entry in enumerate(prefer):
        names, sign = _parts(entry)
        found[f"rank{number}"] = rank([table.column(n) for n in names], sign, names)
    return found


def _parts(entry: str) -> tuple[list[str], int]:
    """The columns to multiply, and the sign that makes the best smallest."""
    match = _ENTRY.fullmatch(entry)
    assert match is not None  # the validator saw to it
    return [name.strip() for name in match[1].split("*")], 1 if match[2] == "asc" else -1


def rank(columns: list[pa.ChunkedArray], sign: int, names: list[str]) -> np.ndarray:
    """int64 (n,), smallest is best: the product of the columns, rounded to 1e-4 where it has fractions.

    Raises:
        ValueError: a column is not of numbers.
    """
    product: np.ndarray | None = None
    missing = np.zeros(len(columns[0]), bool)
    for name, column in zip(names, columns, strict=True):
        kind = column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise ValueError(f"prefer: {name!r} is {kind}; only numbers can be ranked")
        missing |= column.is_null().to_numpy()
        whole = not pa.types.is_floating(kind)
        values = column.cast(pa.int64() if whole else pa.float64()).fill_null(0).to_numpy()
        product = values if product is None else product * values
    assert product is not None
    if product.dtype == np.float64:
        missing |= np.isnan(product)
        limit = 2.0**62
        product = np.clip(np.rint(np.where(missing, 0, product) * 1e4), -limit, limit).astype(np.int64)
    return np.where(missing, WORST, sign * product)
