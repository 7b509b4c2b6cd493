"""Any rule over columns that SQL can say of one row.

    filters:
      - where: "sharpness >= 50 AND NOT blank"

The predicate must hold; where it is NULL, `on_missing` decides. What it may use: `filters/sql_guard.py`.
"""

from __future__ import annotations

from typing import Self

from pydantic import field_validator

from filters.base import Margin, RowFilter
from filters.sql_guard import check_predicate
from filters.sql_margins import predicate_margins


class Where(RowFilter):
    """Keeps rows for which `sql`, a boolean expression in DuckDB's dialect, is true. Reason: "where".

    sql: the predicate, which may be the bare value: `- where: "sharpness >= 50"`.

    A value that cannot be cast ends the run: use TRY_CAST, whose NULL then falls under `on_missing`.
    """

    sql: str

    @classmethod
    def from_scalar(cls, value: object) -> Self:
        """The filter from the bare string that a recipe has for it."""
        if not isinstance(value, str):
            raise ValueError(f"where takes a predicate as a string, not {value!r}")
        return cls(sql=value)

    @field_validator("sql")
    @classmethod
    def _is_a_predicate(cls, sql: str) -> str:
        check_predicate(sql)
        return sql

    def reads(self) -> tuple[str, ...]:
        return check_predicate(self.sql)

    def rules(self) -> dict[str, str]:
        return {"where": f"({self.sql})"}

    def margins(self) -> tuple[Margin, ...]:
        return predicate_margins(self.sql)
