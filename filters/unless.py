"""A filter that some samples need not pass: they stay without being asked.

    filters:
      - unless:                                   # clean pairs stay; of the others those that are English
          over: survivors
          where: "starts_with(list, 'coco@')"
          members: [{language: {keep: [en]}}]

A `union` of the two keeps the same samples, and asks its members about all of them: one whose value is missing ends the
run even where it would stay.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from filters.base import VERDICT, Member
from filters.combined import FINAL, Combined
from filters.predicates import reasons
from filters.sql_guard import check_predicate
from filters.where import Where
from stages.base import Column, Input, Inputs, Output, ShardColumns


class Unless(Combined):
    """Keeps samples for which `where` is true, and of the others those that the one member keeps; reasons are its own.

    where: SQL, as of the filter of this name; where it is null the member is asked.
    members: one filter, as under `filters:`; a fraction is one of the samples that it is asked about.
    """

    where: str
    members: tuple[Member, ...] = Field(min_length=1, max_length=1)

    @field_validator("where")
    @classmethod
    def _is_a_predicate(cls, sql: str) -> str:
        check_predicate(sql)
        return sql

    def reads(self) -> tuple[str | Column, ...]:
        return tuple(dict.fromkeys([*super().reads(), *check_predicate(self.where)]))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        """The member's own phases, and its answers, see as if nobody had asked about samples that stay anyway."""
        stays: dict[Input, np.ndarray] = {}

        def load(key: Input) -> pa.Table:
            table = inputs.load(key)
            if not isinstance(key, ShardColumns):
                return table
            asked = table.column("asked").to_numpy()
            stays[key] = asked & self._holds(table)
            place = table.column_names.index("asked")
            return table.set_column(place, "asked", pa.array(asked & ~stays[key], pa.bool_()))

        output = super().run(phase, part, Inputs(inputs.keys, load))
        return _with(output, *stays.values()) if phase == FINAL else output

    def _holds(self, table: pa.Table) -> np.ndarray:
        """bool (rows,): for whom `where` is true."""
        rule = Where(sql=self.where, on_missing="drop")
        found: np.ndarray = reasons(rule, table.select(rule.reads())).is_null().to_numpy(zero_copy_only=False)
        return found

    def reason(self, each: list[np.ndarray]) -> np.ndarray:
        return each[0]


def _with(output: Output, stays: np.ndarray) -> Output:
    """The member's verdicts of a shard, and that these samples, of whom it has none, are kept."""
    assert isinstance(output.tables, pa.Table)
    keep = output.tables.column("keep").to_numpy(zero_copy_only=False)
    keep = pa.array(np.where(stays, True, keep), pa.bool_())
    stats = dict(output.stats or {})
    columns = [keep, output.tables.column("reason").combine_chunks()]
    return Output(pa.table(columns, schema=VERDICT), stats | {"kept": stats["kept"] + int(stays.sum())})
