"""Conditions of `captions.emit`: under which a way to emit, or one of its texts, is there for a sample.

    captions:
      emit:
        - texts: [{source: web, where: "itm > 0.5"}, {source: blip, where: "blip_itm > 0.5"}]
          where: "width >= 200"

A condition is a predicate of one row, guarded as `filters.where` is; where it is NULL it does not hold. For a source
with several texts a sample it may also be a list of booleans, one a text:
``list_transform(scores, lambda s: s >= 0.28)``. NaN is no value but NULL, as everywhere else: DuckDB has it above all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from filters.predicates import connect
from stages.base import Column

Conditions = Mapping[str, tuple[Column, ...]]
"""SQL -> the columns that it reads, each of the name that the SQL has for it."""
COMPARE = "compare it with something"


def held(conditions: Conditions, columns: Mapping[Column, pa.Array]) -> dict[str, pa.Array]:
    """Of each condition: bool (rows,), or list<bool>; null where it has no answer.

    Raises:
        UserError: DuckDB's words on a value that the SQL cannot be asked of; or an answer that is not true or false.
    """
    import duckdb

    found = {}
    connection = connect()
    for sql, reads in conditions.items():
        table = pa.table({c.field: _without_nan(columns[c]) for c in reads})
        connection.register("batch", table)
        try:
            answer = connection.sql(f"SELECT ({sql}) AS holds FROM batch").to_arrow_table()
        except duckdb.Error as e:
            said = str(e).partition("\n")[0]
            raise UserError(f"captions.emit: where: {sql}: {said}; TRY_CAST gives NULL where a cast fails") from e
        finally:
            connection.unregister("batch")
        found[sql] = answer.column("holds").combine_chunks()
        if found[sql].type not in (pa.bool_(), pa.list_(pa.bool_())):  # of columns whose type nobody knew before
            raise UserError(f"captions.emit: where: {sql}: is {found[sql].type}, not true or false: {COMPARE}")
    return found


def _without_nan(array: pa.Array) -> pa.Array:
    """NaN of floats, and of lists of them, as null."""
    if pa.types.is_floating(array.type):
        return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    if pa.types.is_list(array.type) and pa.types.is_floating(array.type.value_type):
        whole = array.take(pa.array(np.arange(len(array))))  # not a slice, whose nulls cannot be given anew
        return pa.ListArray.from_arrays(whole.offsets, _without_nan(whole.values), array.type, mask=whole.is_null())
    return array


def check_condition(sql: str, schema: pa.Schema, *, several: bool) -> None:
    """Refuse a condition that does not fit its columns.

    Args:
        schema: of the columns that it reads. several: is it of a source with several texts a sample?

    Raises:
        ValueError: it is neither true nor false; says what it is.
    """
    import duckdb

    connection = connect()
    connection.register("batch", pa.Table.from_batches([], schema))
    try:
        kind = str(connection.sql(f"SELECT ({sql}) FROM batch").types[0])
    except duckdb.Error as e:
        raise ValueError(f"{sql!r} does not fit its columns: {str(e).partition(chr(10))[0]}") from e
    finally:
        connection.unregister("batch")
    if kind == "BOOLEAN[]" and not several:
        raise ValueError(f"{sql!r} says true or false of several texts, where it must say it of the sample")
    if kind not in ("BOOLEAN", "BOOLEAN[]"):
        raise ValueError(f"{sql!r} is a {kind}, not true or false: {COMPARE}")
