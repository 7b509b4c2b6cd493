"""Worker that asks row-wise filters: their SQL over a shard's columns, in DuckDB, one verdict file a filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import UserError
from curate.pool.columns import write_parquet
from curate.pool.layout import part_file
from curate.pool.storage import Storage
from curate.run.reader import Places, ShardReader
from filters.base import MISSING, VERDICT, RowFilter, sql_string
from stages.base import Column

_NULL = "\x00null"  # stands for "a value is missing and the policy is error"; no filter can name a reason so


@dataclass(frozen=True)
class RowVerdict:
    """One row-wise filter: the columns it reads, where its verdicts go, and whose survivors it is asked about."""

    id: str
    filter: RowFilter
    reads: tuple[Column, ...]
    folder: str
    above: tuple[str, ...] | None  # None: asked about every row


@dataclass(frozen=True)
class RowVerdicts:
    """What the workers of one pass share: consecutive row-wise filters."""

    pool: str
    verdicts: tuple[RowVerdict, ...]
    places: Places


def ask_rows(work: RowVerdicts, item: str) -> dict[str, Any]:
    """Write the verdicts that this shard lacks; only the columns that those filters read are opened."""
    storage = Storage.at(work.pool)
    reader = ShardReader(storage, int(item), work.places)
    missing = [v for v in work.verdicts if not storage.exists(part_file(v.folder, item))]
    columns = reader.columns(tuple(dict.fromkeys(c for v in missing for c in v.reads)))
    dropped = 0
    for verdict in missing:
        table = pa.table({c.field: columns[c] for c in verdict.reads})
        keep, reasons = decide(verdict, table, reader)
        if verdict.above is not None:
            asked = reader.survivors(verdict.above)
            keep = [k if a else None for k, a in zip(keep, asked, strict=True)]
            reasons = [r if a else None for r, a in zip(reasons, asked, strict=True)]
        answer = pa.table({"keep": pa.array(keep, pa.bool_()), "reason": pa.array(reasons, pa.string())}, VERDICT)
        storage.commit(part_file(verdict.folder, item), verdict_file(answer, reader.footer))
        dropped += keep.count(False)
    return {"rows": reader.rows, "filters": len(missing), "dropped": dropped}


def verdict_file(answer: pa.Table, footer: dict[str, Any]) -> bytes:
    """A verdict table as parquet; the footer counts kept and each reason."""
    keep = answer.column("keep")
    counts = {"kept": int(np.count_nonzero(keep.fill_null(False).to_numpy())), "asked": len(keep) - keep.null_count}
    reasons = Counter(r for r in answer.column("reason").to_pylist() if r is not None)
    return write_parquet(answer, footer | counts | {"reasons": dict(sorted(reasons.items()))})


def decide(
    verdict: RowVerdict, table: pa.Table, reader: ShardReader | None = None
) -> tuple[list[bool | None], list[str | None]]:
    """(keep, reason) for each row of the filter's columns, under its policy on missing values.

    Raises:
        UserError: a predicate is null somewhere and the policy is "error", or the SQL fails.
    """
    import duckdb

    connection = _connection()
    if table.num_rows == 0:
        return [], []
    try:
        connection.register("batch", table)
        found = connection.sql(f"SELECT {reason_sql(verdict.filter)} AS reason FROM batch").to_arrow_table()
    except duckdb.Error as e:
        raise UserError(f"filter {verdict.id}: {e}") from e
    finally:
        connection.unregister("batch")
    reasons: list[str | None] = found.column("reason").to_pylist()
    if _NULL in reasons:
        row = reasons.index(_NULL)
        where = f"sample {reader.uid[row].as_py().hex()}" if reader else f"row {row}"
        raise UserError(
            f"filter {verdict.id}: {where} has no value for {' or '.join(c.field for c in verdict.reads)}, and "
            "nothing says what then; add `on_missing: drop` or `on_missing: keep` to this filter"
        )
    return [r is None for r in reasons], reasons


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
def _connection() -> Any:
    """A connection of this process that can reach no file and no network."""
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("SET threads = 1")
    connection.execute("SET TimeZone = 'UTC'")  # dates must not depend on where a worker stands
    connection.execute("SET enable_external_access = false")
    return connection


def check_types(id: str, chosen: RowFilter, schema: pa.Schema) -> None:
    """Bind a filter's rules to columns of these types, before anything runs.

    Raises:
        UserError: DuckDB's words on what does not fit.
    """
    import duckdb

    connection = _connection()
    connection.register("batch", pa.Table.from_batches([], schema))
    try:
        connection.sql(f"SELECT {reason_sql(chosen)} AS reason FROM batch").fetchall()
    except duckdb.Error as e:
        raise UserError(f"filter {id}: {e}") from e
    finally:
        connection.unregister("batch")


def column_names(reads: Sequence[Column]) -> None:
    """Two columns of one filter must not share a name: its SQL could not tell them apart."""
    twice = [n for n, k in Counter(c.field for c in reads).items() if k > 1]
    if twice:
        raise UserError(f"a filter reads two columns named {twice[0]!r}; give one of the stages other parameters")
