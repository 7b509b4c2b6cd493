"""Row-wise filters asked in DuckDB: one CASE over their rules gives the reason of each row, null where it stays.

reasons(ImageSize(min_side=200), pa.table({"original_width": [640, 64], "original_height": [480, 64]}))
# [null, "min_side"]
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from filters.base import MISSING, RowFilter, sql_string

_NULL = "\x00null"  # stands for "a value is missing and the policy is error"; no filter can name a reason so


class NoValue(ValueError):
    """A value is missing at `row`, and nothing says what then."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} has no value")
        self.row = row


def reasons(chosen: RowFilter, table: pa.Table) -> pa.Array:
    """string (rows,): null where the row is kept, else the name of the first rule that does not hold.

    Args:
        table: the columns of `reads()`, by plain name.

    Raises:
        NoValue: a predicate is null somewhere, and the policy on missing values is "error".
        duckdb.Error: the SQL fails.
    """
    if table.num_rows == 0:
        return pa.array([], pa.string())
    connection = connect()
    try:
        connection.register("batch", table)
        found = connection.sql(f"SELECT {reason_sql(chosen)} AS reason FROM batch").to_arrow_table()
    finally:
        connection.unregister("batch")
    reason = found.column("reason").combine_chunks()
    # Through the few distinct reasons: Arrow's scalars would import pandas, a second in every worker.
    if _NULL in pc.unique(reason).to_pylist():
        raise NoValue(reason.to_pylist().index(_NULL))
    return reason


def reason_sql(chosen: RowFilter) -> str:
    """One CASE over the rules in order: null where all hold, else the name of the first that does not."""
    cases: list[str] = []
    for reason, predicate in chosen.rules().items():
        cases.append(f"WHEN ({predicate}) IS FALSE THEN {sql_string(reason)}")
        if chosen.on_missing != "keep":
            answer = sql_string(MISSING) if chosen.on_missing == "drop" else "chr(0) || 'null'"
            cases.append(f"WHEN ({predicate}) IS NULL THEN {answer}")
    return f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR"


@lru_cache(maxsize=1)
def connect() -> Any:
    """A connection of this process that can reach no file and no network."""
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("SET threads = 1")
    connection.execute("SET TimeZone = 'UTC'")  # dates must not depend on where a worker stands
    connection.execute("SET enable_external_access = false")
    return connection
