"""Keep the best fraction by a column, exactly, over the whole pool or over what is left.

    TopFraction(over="pool", column="clip_score", fraction=0.3)                       # exactly int(0.3 n) samples
    TopFraction(over="pool", column="clip_score", fraction=0.3, convention="n+1")     # DataComp's baselines

n is the number of samples asked, those without a score among them; int() cuts off. Two conventions are in use:

- n: exactly int(fraction * n) samples; of equal scores the smaller uid goes first (negCLIPLoss keeps that many).
- n+1: all whose score is at least the one at place int(fraction * n), counted from 0: one more than n, and all that
  tie with it (`get_threshold` in DataComp's baselines/apply_filter.py; at fraction 1 it reads past the end, here
  everything is kept).

A null or NaN ranks below every score, minus infinity too; `on_missing` says what becomes of it.

How it is exact in two passes and bounded memory: `filters.ranked`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from filters.base import Margin, OnMissing, Side
from filters.ranked import Ranked
from stages.numbers import number_of, numbers, order_of

SIGN = np.uint64(1 << 63)


class TopFraction(Ranked):
    """The best `fraction` by `column` (a number); others get "below_threshold" ("above_threshold" where lowest).

    Args:
        column: plain name of a column of numbers.
        fraction: above 0, at most 1.
        convention: "n" or "n+1"; see above.
        lowest: the smallest values are the best.
        on_missing: what becomes of samples without a value: drop (reason "missing"), keep, or error.

    Footers of the phase `threshold` have the threshold and the counts.
    """

    column: str = Field(min_length=1)
    fraction: float = Field(gt=0, le=1)
    convention: Literal["n", "n+1"] = "n"
    lowest: bool = False
    on_missing: OnMissing = "error"

    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def margins(self) -> tuple[Margin, ...]:
        side: Side = "below" if self.lowest else "above"
        which = "lowest" if self.lowest else "top"
        column = '"' + self.column.replace('"', '""') + '"'
        return (Margin(self.column, column, cut=(side, f"{which} {100 * self.fraction:.6g} %")),)

    def last(self, asked: int) -> int:
        chosen = int(asked * self.fraction)
        return chosen - 1 if self.convention == "n" else min(chosen, asked - 1)

    def ties(self) -> bool:
        return self.convention == "n+1"

    def missing(self) -> OnMissing:
        return self.on_missing

    def beyond(self) -> str:
        return "above_threshold" if self.lowest else "below_threshold"

    def order(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, str]:
        """(order, present, kind): uint64 (rows,), smallest is best; which rows have a score; float, int or uint."""
        column = table.column(self.column)
        present = column.is_valid().to_numpy()
        if pa.types.is_floating(column.type):
            values, present = numbers(column, self.column)
            order, kind = order_of(values), "float"
        elif column.type == pa.uint64():
            order, kind = column.fill_null(0).to_numpy(), "uint"
        elif pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
            order, kind = column.cast(pa.int64()).fill_null(0).to_numpy().view(np.uint64) ^ SIGN, "int"
        else:
            raise ValueError(f"{self.method()}: column {self.column!r} is {column.type}; only numbers can be ranked")
        return order if self.lowest else ~order, present, kind

    def value(self, order: int, kind: str) -> float | int:
        """The score behind an order."""
        number = np.array([order], np.uint64)
        number = number if self.lowest else ~number
        if kind == "float":
            return number_of(int(number[0]))
        return int(number[0]) if kind == "uint" else int((number ^ SIGN).view(np.int64)[0])
