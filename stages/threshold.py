"""The value at the top fraction of a column, written beside every sample: what a rule compares another column with.

    columns:
      - threshold: {column: clip_score, fraction: 0.3, over: pool, name: s}      # s: CLIP score of the raw top 30 %
    captions:
      make:
        - caption: {name: blip2, ...}
        - clip_score: {text: blip2, name: blip2_clip}
      emit:
        - where: "clip_score >= s"
        - texts: [{source: blip2}]
          where: "coalesce(clip_score < s, true) AND blip2_clip >= s"

That is the rule of Nguyen et al. 2023 (*Improving Multimodal Datasets with Image Captioning*, section 5): the raw text
where its score is among the top x % of the raw pairs, else the synthetic one where its score reaches the same s, else
neither. `top_fraction` cannot say it, since there one quantity sets the bound and two are held against it.

How the value is found exactly: `filters/ranked.py`, as for `top_fraction`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from filters.top_fraction import TopFraction
from stages.base import Barrier, Column, Input, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, Source, per_shard


class _Ranking(TopFraction):
    """The same, told of in the words of whoever wrote `threshold`."""

    @classmethod
    def method(cls) -> str:
        return "threshold"


class Threshold(Barrier):
    """Column `name`, float64: the score of the last of the best `fraction` by `column`, one for all that are asked.

    Whatever scores at least (with `lowest`: at most) so much is among the best. It is minus infinity (`lowest`: plus
    infinity) where all that have a score are among them, the other infinity where nobody is. Null for samples that are
    not asked. Of an integer beyond 2**53 it is the nearest double, and as doubles SQL compares the two.

    Args:
        column: a column of numbers. Samples without one count, and rank below all.
        fraction: above 0, at most 1, of the samples asked.
        over: pool: of all samples. survivors: of those that the filters above kept (for a column that only conditions
            of captions read: all filters).
        name: of the column.
        convention: n: of int(fraction * n) samples the last; n+1: the one after it, as DataComp's baselines have it.
        lowest: the smallest values are the best.

    Raises:
        ValueError: the column holds no numbers.
    """

    column: Source
    fraction: float = Field(gt=0, le=1)
    over: Literal["pool", "survivors"]
    name: str = Field(pattern="^[a-z][a-z0-9_]{0,63}$")
    convention: Literal["n", "n+1"] = "n"
    lowest: bool = False

    @property
    def _ranking(self) -> TopFraction:
        return _Ranking(
            over=self.over,
            column=self.column.field,
            fraction=self.fraction,
            convention=self.convention,
            lowest=self.lowest,
            on_missing="drop",
        )

    def identity(self) -> dict[str, Any]:
        """With the version of what finds the place, so that its phases never meet sketches of another one."""
        return super().identity() | {"ranked": TopFraction.version}

    def reads(self) -> tuple[Column, ...]:
        return (self.column,)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.float64())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        found = (PhaseFile("bounds", "all"), PhaseFile("threshold", "all"))
        return (*self._ranking.phases(shape)[:-1], per_shard("beside", shape, found))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        whole = Inputs(inputs.keys, lambda key: _asked(inputs, key))
        if phase != "beside":
            return self._ranking.run(phase, part, whole)
        rows = whole.select(ShardColumns).only()
        (bounds,) = whole.select(PhaseFile, "bounds").only().to_pylist()
        last = whole.select(PhaseFile, "threshold").only().column("order").to_pylist()
        value = pa.scalar(self._value(bounds, last), pa.float64())
        column = pc.if_else(rows.column("asked").combine_chunks(), value, pa.scalar(None, pa.float64()))
        return Output(pa.table([column], schema=self.writes()))

    def _value(self, bounds: dict[str, Any], last: list[int]) -> float:
        """The score behind the last place; see the class for places that no score has."""
        nobody = -np.inf if self.lowest else np.inf
        if not last:
            return nobody
        return -nobody if bounds["place"] >= bounds["present"] else float(self._ranking.value(last[0], bounds["kind"]))


def _asked(inputs: Inputs, key: Input) -> pa.Table:
    """An input; of a shard whose samples are all asked, it says so."""
    table = inputs.load(key)
    if not isinstance(key, ShardColumns) or "asked" in table.column_names:
        return table
    return table.append_column("asked", pa.array(np.ones(table.num_rows, bool)))
