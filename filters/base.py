"""What a filter is: a function from columns to keep or drop-with-reason.

A row-wise filter is a few named SQL predicates and nothing else:

    class MinSharpness(RowFilter):
        at_least: float
        def reads(self): return ("sharpness",)
        def rules(self): return {"blurred": f"sharpness >= {sql_number(self.at_least)}"}

A global filter (top fraction, balancing, keep-one) is made of phases, like a barrier; its last phase
gives a verdict for each row. Plain column names are looked up in the recipe: facts first, then the
columns of the stages that the recipe names, then those of the built-in stages with default parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import InstanceOf, PlainSerializer, WithJsonSchema

from stages.base import Barrier, Column, Inputs, Output, Parameters, Phase, Shape

VERDICT = pa.schema([("keep", pa.bool_()), ("reason", pa.string())])
"""keep: null where the filter was not asked. reason: null where kept."""

MISSING = "missing"  # the reason when a value is null and the policy is to drop

OnMissing = Literal["drop", "keep", "error"]
Side = Literal["above", "below"]
Bound = tuple[float, Side, str]


@dataclass(frozen=True)
class Margin:
    """A quantity that a filter bounds, so that a person can be shown its spread, its bound, and who stands near it.

    name: in the recipe's words ("shorter side"). value: SQL over the columns of `reads()` (plain names; those of a
    given stage as the quoted field name) and of `extra_verdicts()`, a number or NULL. bounds: (number, which side of
    it is kept, label), inclusive: ``(200, "above", "min_side 200")``. cut: instead, where the bound is known only after
    a run: (which side is kept, label); the bound is then the last value that was kept, and stands behind the label.

        def margins(self):
            return (Margin("sharpness", "sharpness", ((self.at_least, "above", f"at_least {self.at_least}"),)),)
    """

    name: str
    value: str
    bounds: tuple[Bound, ...] = ()
    cut: tuple[Side, str] | None = None


class Filter(Parameters):
    """Base of both kinds. `reads()` gives plain names (see above) or columns of a given stage."""

    def reads(self) -> tuple[str | Column, ...]:
        raise NotImplementedError(f"{type(self).__name__}.reads")

    def extra_verdicts(self) -> pa.Schema:
        """Further columns that stand beside keep and reason in the verdict (dup_of, distance, ...)."""
        return pa.schema([])

    def margins(self) -> tuple[Margin, ...]:
        """Quantities that the decision hangs on; none where it hangs on no number.

        Decides nothing. A report shows for each how it is spread over the rows that were asked, the bounds, and the
        samples nearest to a bound on both sides: the quickest way to see whether a threshold is right.
        """
        return ()


def _identity(member: Filter) -> dict[str, Any]:
    return member.identity()


Member = Annotated[
    InstanceOf[Filter],
    PlainSerializer(_identity),
    WithJsonSchema({"type": "object", "format": "filter"}),
]
"""Type of a parameter that is a filter, as `members: tuple[Member, ...]`; in a recipe, entries as of `filters:`."""


class RowFilter(Filter):
    """A filter whose decision needs one row only, as SQL predicates in DuckDB's dialect.

    on_missing says what happens where a predicate is NULL: drop (reason "missing"), keep, or error.
    """

    on_missing: OnMissing = "error"

    def rules(self) -> Mapping[str, str]:
        """Reason -> predicate that must hold, in order: the first that fails is the reason for the drop.

        A column of a given stage (not a plain name) is written as the quoted field name.
        """
        raise NotImplementedError(f"{type(self).__name__}.rules")


class GlobalFilter(Filter):
    """A filter whose decision needs other rows. `over` has no default: it changes what the answer means.

    pool: asked about every row of the pool. survivors: only about rows that the filters above kept.
    Inputs of kind ShardColumns have the columns of `reads()` by field name, `uid`, and `asked` (bool).
    The last phase has one part a shard: keep, reason and `extra_verdicts()`, row-aligned.
    """

    over: Literal["pool", "survivors"]

    def barriers(self) -> tuple[Barrier, ...]:
        """Barriers whose phase files (edges, centroids) `run` reads, beyond the columns of `reads()`."""
        return ()

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        raise NotImplementedError(f"{type(self).__name__}.phases")

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        raise NotImplementedError(f"{type(self).__name__}.run")


def sql_number(value: float) -> str:
    """A number as an SQL literal; integers without a point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def sql_string(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"
