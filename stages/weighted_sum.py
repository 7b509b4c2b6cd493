"""A weighted sum of score columns, each put on one scale over the whole pool first.

    columns:
      - weighted_sum: {columns: {clip_score: 1, flyt: 0.5, aesthetic: -0.2}, standardise: zscore, name: mixed}
      - weighted_sum: {columns: {sieve: 0.5, clip_score: 0.5}, standardise: percentile, over: survivors, name: fused}

HYPE (Kim et al. 2024) adds scores after standardising them over the pool, SIEVE (Mahmoud et al. 2024) takes half of its
own score and half of CLIP's, each normalised by its range; of both, how exactly the scores are normalised is from
memory (unverified). The specification gives SIEVE's range as the 0.1 and 99.9 percentiles, which outliers do not move.

Scales, of all samples that are asked and have a value:

- none: the values as they are.
- zscore: minus the mean, over the standard deviation (that of the population, of n). Both are exact: sums of floats as
  integers (`stages.tally`), so no cut into shards changes a bit. A column that is everywhere the same counts as 0.
- percentile: 0 at the percentile `tails`, 1 at 1 - `tails`, cut off beyond; between samples percentiles are
  interpolated as numpy's `quantile` does. Values are taken to 1e-4.
- rank: the rank over n, ties at their average, as pandas' `rank(pct=True)`: above 0, at most 1. Values taken to 1e-4.

Rank and percentile count different values, of all columns together 2^22 at most: for rank, every shard's part of the
work holds them all with their ranks, 100 MB. The sum is rounded to 1e-4. No weights are needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from stages.base import (
    Barrier,
    Column,
    Inputs,
    Output,
    Phase,
    PhaseFile,
    Shape,
    ShardColumns,
    per_shard,
    tree,
)
from stages.numbers import Coefficients, numbers
from stages.shuffle import NEED, Arrays, Layout, arrays, joined, stacked
from stages.tally import FAN_IN, exact_parts, exact_total, squares, summed

GRID = 1e4
WIDEST = 1e11  # beyond it a value times the grid is no whole number that float64 holds
LARGEST = 1e150  # beyond it a square is none
MOST_VALUES = 1 << 22  # every shard reads their ranks
COUNT, SUM, SQUARES = 0, 1, 2


class WeightedSum(Barrier):
    """Column `name`, float32: the sum of weight * scaled value; null where a sample lacks one of the values.

    Args:
        columns: ``{column: weight}``, columns of numbers or truth values; weights may be below 0.
        standardise: none, zscore, percentile or rank: what puts the columns on one scale; see the module.
        tails: share of samples beyond either end, for percentile.
        over: pool: all samples. survivors: those that the filters above kept, for columns that only they have; null
            for the others.
        name: of the column.

    Raises:
        ValueError: a column has no numbers, or infinite ones; or too many different ones to rank.
    """

    columns: Coefficients
    standardise: Literal["none", "zscore", "percentile", "rank"] = "none"
    tails: float = Field(default=0.001, ge=0, lt=0.5)
    over: Literal["pool", "survivors"] = "pool"
    name: str = Field(default="weighted_sum", pattern="^[a-z][a-z0-9_]{0,63}$")

    @field_validator("columns")
    @classmethod
    def _different(cls, columns: Coefficients) -> Coefficients:
        names = [column.field for column, _ in columns]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise ValueError(f"two columns named {twice!r}: a sum could not tell them apart")
        return columns

    def identity(self) -> dict[str, Any]:
        """Over the pool without saying so, as before there was a choice."""
        found = super().identity()
        if self.over == "pool":
            del found["parameters"]["over"]
        return found

    def reads(self) -> tuple[Column, ...]:
        return tuple(column for column, _ in self.columns)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.float32())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        if self.standardise == "none":
            return (per_shard("sums", shape, local=True),)
        layout = Layout(shape)
        total = tree("total", "survey", layout.spans, FAN_IN, NEED)
        return (
            layout.from_shards("survey"),
            *total,
            Phase("scale", ("all",), lambda _: (PhaseFile(total[-1].name, "all"),), need=NEED),
            per_shard("sums", shape, (PhaseFile("scale", "all"),)),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase.split("-")[0]:
            case "survey":
                return Output(pa.table(self._added(self._surveyed(table) for table in inputs)))
            case "total":
                return Output(pa.table(self._added(arrays(table) for table in inputs)))
            case "scale":
                return self._scale(inputs)
            case "sums":
                return self._sums(inputs)
        raise ValueError(f"{self.method()} has no phase {phase!r}")

    def _values(self, table: pa.Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(values, present) of each column."""
        for column, _ in self.columns:
            values, present = numbers(table.column(column.field), column.field)
            if self.over == "survivors":
                present = present & table.column("asked").to_numpy()
                values = np.where(present, values, 0)
            largest = {"none": math.inf, "zscore": LARGEST}.get(self.standardise, WIDEST)
            bad = ~np.isfinite(values) | (np.abs(values) > largest)
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise ValueError(
                    f"{self.method()}: sample {table.column('uid')[row].as_py().hex()} has {column.field} "
                    f"{values[row]}; {self.standardise} takes finite numbers up to {largest:g}"
                )
            yield values, present

    # ---- the scales

    @property
    def _sums_of(self) -> tuple[str, ...]:
        return ("upper", "lower") if self.standardise == "zscore" else ("n",)

    def _surveyed(self, table: pa.Table) -> Arrays:
        """(column, power, exponent, upper, lower) for zscore, else (column, value, n)."""
        found: list[Arrays] = []
        for number, (values, present) in enumerate(self._values(table)):
            if self.standardise == "zscore":
                found += _moments(number, values[present])
            else:
                on_grid = np.rint(values[present] * GRID).astype(np.int64)
                found.append({"column": np.full_like(on_grid, number), "value": on_grid, "n": np.ones_like(on_grid)})
        return self._added(found)

    def _added(self, tables: Iterable[Arrays]) -> Arrays:
        return summed(tables, self._sums_of, self._few_enough)

    def _few_enough(self, rows: Arrays) -> None:
        if len(rows["column"]) > MOST_VALUES:
            name = self.columns[int(np.bincount(rows["column"]).argmax())][0].field
            raise ValueError(
                f"{self.method()}: more than {MOST_VALUES:,} different values, the most of {name!r}, are too many for "
                f"{self.standardise}; use zscore, or round the column"
            )

    def _scale(self, inputs: Inputs) -> Output:
        """Of each column (offset, width); for rank (column, value, rank)."""
        rows = stacked(inputs)
        parts = [{n: a[rows["column"] == i] for n, a in rows.items()} for i in range(len(self.columns))]
        if self.standardise == "rank":
            found = joined([_ranks(number, part) for number, part in enumerate(parts)])
            return Output(pa.table(found), {"values": [len(p["n"]) for p in parts]})
        scales = [_normal(p) if self.standardise == "zscore" else _range(p, self.tails) for p in parts]
        named = {column.field: scale for (column, _), scale in zip(self.columns, scales, strict=True)}
        offset, width = zip(*scales, strict=True)
        return Output(pa.table({"offset": offset, "width": width}), named)

    # ---- the sum

    def _sums(self, inputs: Inputs) -> Output:
        table = inputs.select(ShardColumns).only()
        scale: Any = stacked(inputs.select(PhaseFile)) if self.standardise != "none" else None
        total, whole = np.zeros(table.num_rows), np.ones(table.num_rows, bool)
        for number, ((_, weight), (values, present)) in enumerate(zip(self.columns, self._values(table), strict=True)):
            total += weight * self._scaled(values, scale, number)  # by name: an order that nothing changes
            whole &= present
        answer = pa.array(np.round(total, 4).astype(np.float32), mask=~whole)
        return Output(pa.table([answer], schema=self.writes()), {"values": int(whole.sum())})

    def _scaled(self, values: np.ndarray, scale: Arrays, number: int) -> np.ndarray:
        if self.standardise == "none":
            return values
        if self.standardise == "rank":
            mine = scale["column"] == number
            known, rank = scale["value"][mine], scale["rank"][mine]
            at = np.searchsorted(known, np.rint(values * GRID).astype(np.int64))
            return np.append(rank, 0.0)[at]  # one without a value may be beyond all there are
        offset, width = (float(scale[n][number]) for n in ("offset", "width"))
        on_scale = values if self.standardise == "zscore" else np.rint(values * GRID)
        scaled: np.ndarray = (on_scale - offset) / width if width else np.zeros(len(values))
        return scaled if self.standardise == "zscore" else np.clip(scaled, 0, 1)


def _moments(number: int, values: np.ndarray) -> list[Arrays]:
    """The parts of the count, the sum and the sum of squares."""
    found = []
    for power, terms in ((COUNT, np.ones(len(values))), (SUM, values), (SQUARES, squares(values))):
        parts = exact_parts(terms)
        size = len(parts["exponent"])
        found.append({"column": np.full(size, number), "power": np.full(size, power)} | parts)
    return found


def _normal(rows: Arrays) -> tuple[float, float]:
    """(mean, standard deviation); (0, 0) without values."""
    count, total, square = (
        exact_total({n: rows[n][rows["power"] == power] for n in ("exponent", "upper", "lower")})
        for power in (COUNT, SUM, SQUARES)
    )
    if not count:
        return 0.0, 0.0
    return float(total / count), math.sqrt(max(float(square / count - (total / count) ** 2), 0.0))


def _range(rows: Arrays, tails: float) -> tuple[float, float]:
    """(lower percentile, distance to the upper one), on the grid."""
    if not len(rows["n"]):
        return 0.0, 0.0
    upto = np.cumsum(rows["n"])
    ends = []
    for share in (tails, 1 - tails):
        place = (int(upto[-1]) - 1) * share
        below = math.floor(place)
        a, b = (int(rows["value"][np.searchsorted(upto, p, side="right")]) for p in (below, math.ceil(place)))
        ends.append(a + (b - a) * (place - below))
    return ends[0], ends[1] - ends[0]


def _ranks(number: int, rows: Arrays) -> Arrays:
    """(column, value, rank): the average rank of each value, over n."""
    upto = np.cumsum(rows["n"])
    average = upto - (rows["n"] - 1) / 2
    return {"column": rows["column"], "value": rows["value"], "rank": average / max(int(rows["n"].sum()), 1)}
