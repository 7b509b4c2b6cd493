"""Worker that asks row-wise filters: their SQL over a shard's columns, in DuckDB, one verdict file a filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.columns import write_parquet
from curate.pool.layout import part_file
from curate.pool.storage import Storage
from curate.run.account import Account, called
from curate.run.reader import Places, ShardReader
from curate.run.survivors import asked_of
from filters.base import VERDICT, RowFilter
from filters.predicates import NoValue, connect, reason_sql, reasons
from stages.base import Column


@dataclass(frozen=True)
class RowVerdict:
    """One row-wise filter: the columns it reads, where its verdicts go, and whose survivors it is asked about.

    removed_digest: of the uids that are left out of these; "": none are.
    """

    id: str
    filter: RowFilter
    reads: tuple[Column, ...]
    folder: str
    above: tuple[str, ...] | None  # None: asked about every row
    removed_digest: str = ""


@dataclass(frozen=True)
class RowVerdicts:
    """What the workers of one pass share: consecutive row-wise filters."""

    pool: str
    verdicts: tuple[RowVerdict, ...]
    places: Places


def ask_rows(work: RowVerdicts, item: str) -> dict[str, Any]:
    """Write the verdicts that this shard lacks; only the columns that those filters read are opened."""
    account = Account(Storage.at(work.pool))
    storage = account.storage
    reader = ShardReader(storage, int(item), work.places)
    missing = [v for v in work.verdicts if not storage.exists(part_file(v.folder, item))]
    columns = reader.columns(tuple(dict.fromkeys(c for v in missing for c in v.reads)))
    dropped = 0
    for verdict in missing:
        table = pa.Table.from_arrays([columns[c] for c in verdict.reads], names=[c.field for c in verdict.reads])
        asked = _asked(work, verdict, reader)
        with account.spent(called(verdict.filter), reader.rows):
            answer = decide(verdict, table.filter(asked), reader.uid.filter(asked))
        answer = answer.take(pc.if_else(asked, pa.array(np.cumsum(asked) - 1), pa.scalar(None, pa.int64())))
        storage.commit(part_file(verdict.folder, item), verdict_file(answer, reader.footer))
        dropped += answer.num_rows - (pc.sum(answer["keep"]).as_py() or 0) - answer["keep"].null_count
    return {"rows": reader.rows, "filters": len(missing), "dropped": dropped, **account.told(rows=reader.rows)}


def _asked(work: RowVerdicts, verdict: RowVerdict, reader: ShardReader) -> pa.Array:
    """bool (rows,): whom the filter is asked about. Of the others nothing may be known, and that is no fault."""
    if verdict.above is None:
        return pa.array(np.ones(reader.rows, bool))
    return pa.array(asked_of(work.pool, reader, verdict.reads, verdict.above, verdict.removed_digest), pa.bool_())


def verdict_file(answer: pa.Table, footer: dict[str, Any]) -> bytes:
    """A verdict table as parquet; the footer counts kept and each reason."""
    keep = answer.column("keep")
    counts = {"kept": pc.sum(keep).as_py() or 0, "asked": len(keep) - keep.null_count}
    found = pc.value_counts(answer.column("reason").combine_chunks().drop_null()).to_pylist()
    reasons = {f["values"]: f["counts"] for f in found}
    return write_parquet(answer, footer | counts | {"reasons": dict(sorted(reasons.items()))})


def decide(verdict: RowVerdict, table: pa.Table, uid: pa.Array | None = None) -> pa.Table:
    """VERDICT for each row of the filter's columns, under its policy on missing values. uid: of the rows, for errors.

    Raises:
        UserError: a predicate is null somewhere and the policy is "error", or the SQL fails.
    """
    import duckdb

    try:
        reason = reasons(verdict.filter, table)
    except duckdb.Error as e:
        raise UserError(f"filter {verdict.id}: {e}") from e
    except NoValue as e:
        where = f"row {e.row}" if uid is None else f"sample {uid[e.row].as_py().hex()}"
        raise UserError(
            f"filter {verdict.id}: {where} has no value for {' or '.join(c.field for c in verdict.reads)}, and "
            "nothing says what then; add `on_missing: drop` or `on_missing: keep` to this filter"
        ) from e
    return pa.Table.from_arrays([pc.is_null(reason), reason], schema=VERDICT)


def check_types(id: str, chosen: RowFilter, schema: pa.Schema) -> None:
    """Ask a filter's rules of one row of nulls of these types, before anything runs.

    Raises:
        UserError: DuckDB's words on what does not fit.
    """
    import duckdb

    connection = connect()
    connection.register("batch", pa.table([pa.nulls(1, f.type) for f in schema], schema=schema))
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
        raise UserError(
            f"a filter reads two columns named {twice[0]!r}, of stages with different parameters; give one of them "
            "another `name:`, or make two filters of this one"
        )
