"""Row filters over a plain table, decided as the engine decides: first failing rule, NULL by `on_missing`."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from filters.base import MISSING, RowFilter
from filters.sql_guard import check_predicate


def reasons(chosen: RowFilter, rows: list[dict[str, Any]] | pa.Table) -> list[str | None]:
    """Per row: None where it is kept, else the reason for the drop.

    Raises:
        ValueError: a rule is NULL and the policy is "error"; or the filter reads what it did not announce.
    """
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    seen = table.select([str(name) for name in chosen.reads()])  # what was not announced is not there
    rules = chosen.rules()
    for predicate in rules.values():
        check_predicate(predicate, {field.name: field.type for field in seen.schema})
    with duckdb.connect() as connection:
        connection.register("samples", seen)
        query = f"SELECT {', '.join(rules.values())} FROM samples"
        return [_reason(chosen, dict(zip(rules, row, strict=True))) for row in connection.execute(query).fetchall()]


def _reason(chosen: RowFilter, answers: dict[str, bool | None]) -> str | None:
    for reason, holds in answers.items():
        if holds is None and chosen.on_missing == "error":
            raise ValueError(f"{reason} is NULL")
        if holds is None and chosen.on_missing == "drop":
            return MISSING
        if holds is False:
            return reason
    return None
