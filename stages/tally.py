"""Sums over shards that do not depend on how the shards are cut: integers, and floats to the last bit.

A float64 is a whole number of 53 bits times a power of two; the whole numbers of each power are summed as integers, in
two halves so that 2^36 of them fit, and the sum is exact whatever their order (Neal 2015, "Fast exact summation", has
such small superaccumulators).

    parts = exact_parts(values)                        # {"exponent", "upper", "lower"}: adds up with `add_up`
    mean = exact_total(parts) / len(values)            # a Fraction
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import numpy as np

from stages.shuffle import Arrays, joined, starts_of

FAN_IN = 8
"""Sums that are joined at once where they may be millions of rows."""

AT_ONCE = 1 << 20  # rows that are not worth a sum of their own

_HALF = np.int64(26)
_SPLIT = 2.0**27 + 1


def add_up(rows: Arrays, sums: Sequence[str] = ("n",)) -> Arrays:
    """Each key once, ascending, with the sums of the integers named; all other columns are the key."""
    names = [name for name in rows if name not in sums]
    order = np.lexsort([rows[name] for name in reversed(names)])
    starts = starts_of(*(rows[name][order] for name in names))
    totals = {name: np.add.reduceat(rows[name][order], starts) if len(starts) else rows[name] for name in sums}
    return {name: rows[name][order][starts] for name in names} | totals


def summed(
    tables: Iterable[Arrays], sums: Sequence[str] = ("n",), check: Callable[[Arrays], None] | None = None
) -> Arrays:
    """`add_up` of all rows of the tables, one at least, in parts: see `reduced`.

    Args:
        check: is shown every sum on the way, and raises where there is too much of it.
    """

    def add(rows: Arrays) -> Arrays:
        found = add_up(rows, sums)
        if check is not None:
            check(found)
        return found

    return reduced(tables, add)


def reduced(parts: Iterable[Arrays], add: Callable[[Arrays], Arrays]) -> Arrays:
    """`add` of all rows, which come part by part, one at least: holds about three times its result, and no more.

    Args:
        add: makes fewer rows of many; of rows that it made and others it makes what it would of all behind them.
    """
    held: list[Arrays] = []
    rows = last = 0
    for part in parts:
        held.append(part)
        rows += _rows(part)
        if rows - last > max(last, AT_ONCE):
            held = [add(joined(held))]
            rows = last = _rows(held[0])
    return add(joined(held))


def _rows(rows: Arrays) -> int:
    return len(next(iter(rows.values())))


def exact_parts(values: np.ndarray) -> Arrays:
    """The sum of float64 (n,), finite, as integers: sum of (upper * 2^26 + lower) * 2^(exponent - 53)."""
    mantissa, exponent = np.frexp(values)
    whole = (mantissa * 2.0**53).astype(np.int64)
    rows = {"exponent": exponent.astype(np.int64), "upper": whole >> _HALF}
    return add_up(rows | {"lower": whole & np.int64((1 << 26) - 1)}, ("upper", "lower"))


def exact_total(parts: Arrays) -> Fraction:
    """The sum that the parts stand for."""
    total = Fraction(0)
    for exponent, upper, lower in zip(*(parts[n].tolist() for n in ("exponent", "upper", "lower")), strict=True):
        total += ((upper << 26) + lower) * Fraction(2) ** (exponent - 53)
    return total


def squares(values: np.ndarray) -> np.ndarray:
    """float64 (2 n,) whose sum is that of the squares, exactly, for magnitudes from 1e-140 to 1e150, and 0.

    A square and what rounding took from it (Dekker 1971).
    """
    product = values * values
    upper = _SPLIT * values
    upper = upper - (upper - values)
    lower = values - upper
    return np.append(product, ((upper * upper - product) + 2 * upper * lower) + lower * lower)
