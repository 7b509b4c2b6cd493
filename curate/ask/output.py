"""Answers as text and files: table, csv, json, jsonl, parquet.

print_result(pool.sql("SELECT text FROM samples"), "table", sys.stdout.buffer)

On a terminal every control character is shown, not sent: a caption cannot move the cursor or turn text around.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from curate.errors import UserError
from curate.text import visible

if TYPE_CHECKING:
    from curate.ask.sql import Result

FORMATS = ("table", "csv", "json", "jsonl", "parquet")
TABLE_ROWS = 100  # rows that the table format shows
CELL = 60  # columns of a terminal that a cell of it may take


__all__ = ["FORMATS", "print_result", "table_text", "visible"]


def print_result(table: pa.Table | Result, format: str, out: BinaryIO) -> None:
    """Write an answer to a binary stream; all formats but `table` write every row, streaming.

    Raises:
        UserError: no such format, or parquet to a terminal.
    """
    if format not in FORMATS:
        raise UserError(f"format {format!r}: it is one of {', '.join(FORMATS)}")
    if format == "table":
        whole = table if isinstance(table, pa.Table) else table.to_arrow()
        out.write(table_text(whole).encode() + b"\n")
        return
    batches = _batches(table)
    first = next(batches)
    if format == "parquet":
        if out.isatty():
            raise UserError("parquet is not for a terminal; add --out FILE or redirect with > FILE")
        _write_parquet(first, batches, out)
        return
    lines = {"csv": _csv, "json": _json, "jsonl": _jsonl}[format](first, batches)
    shown = (visible(line, keep="\r\n\t") for line in lines) if out.isatty() else lines
    for line in shown:
        out.write(line.encode("utf-8", "surrogatepass"))


def _batches(table: pa.Table | Result) -> Iterator[pa.RecordBatch]:
    if isinstance(table, pa.Table):
        empty = pa.RecordBatch.from_arrays([pa.array([], f.type) for f in table.schema], schema=table.schema)
        return iter(table.to_batches() or [empty])
    return table.batches()


def _rows(first: pa.RecordBatch, rest: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in chain([first], rest):
        yield from _unique(batch).to_pylist()


def _unique(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.rename_columns(unique_names(batch.schema.names))


def unique_names(names: list[str]) -> list[str]:
    """Names of an answer's columns with those that recur numbered: uid, uid_2."""
    seen: dict[str, int] = {}
    found = []
    for n in names:
        seen[n] = seen.get(n, 0) + 1
        found.append(n if seen[n] == 1 else f"{n}_{seen[n]}")
    return found


def _csv(first: pa.RecordBatch, rest: Iterable[pa.RecordBatch]) -> Iterator[str]:
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(unique_names(first.schema.names))
    for row in _rows(first, rest):
        writer.writerow([_flat(v) for v in row.values()])
        yield sink.getvalue()
        sink.seek(0)
        sink.truncate()
    yield sink.getvalue()


def _jsonl(first: pa.RecordBatch, rest: Iterable[pa.RecordBatch]) -> Iterator[str]:
    return (dump(row) + "\n" for row in _rows(first, rest))


def _json(first: pa.RecordBatch, rest: Iterable[pa.RecordBatch]) -> Iterator[str]:
    before = "["
    for row in _rows(first, rest):
        yield before + dump(row)
        before = ",\n "
    yield "[]\n" if before == "[" else "]\n"


def _write_parquet(first: pa.RecordBatch, rest: Iterable[pa.RecordBatch], out: BinaryIO) -> None:
    import pyarrow.parquet as pq

    first = _unique(first)
    with pq.ParquetWriter(out, first.schema, compression="zstd") as writer:
        writer.write_batch(first)
        for batch in rest:
            writer.write_batch(_unique(batch))


def dump(value: Any) -> str:
    """A value as JSON on one line."""
    import orjson

    return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()


def _plain(value: Any) -> Any:
    """What JSON has no word for: bytes as hex, the rest (decimals, intervals, wide integers) as text."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _flat(value: Any) -> Any:
    """A value in one csv cell: nothing for null, JSON for what is nested."""
    if isinstance(value, list | dict | tuple):
        return dump(value)
    if isinstance(value, bool):
        return str(value).lower()
    return value.hex() if isinstance(value, bytes) else value


# ---------------------------------------------------------------- the table


def _width(text: str) -> int:
    """Columns of a terminal that the text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime | date):
        return str(value)
    text = value if isinstance(value, str) else str(_flat(value))
    text = visible(text[: 4 * CELL])
    if _width(text) <= CELL:
        return text
    while _width(text) >= CELL:
        text = text[:-1]
    return text + "…"


def table_text(table: pa.Table, limit: int = TABLE_ROWS, *, whole: bool = True, after: str = "") -> str:
    """An aligned table of the first rows: numbers to the right, long cells cut, the count below.

    Args:
        limit: rows that are shown.
        whole: False if the answer has further rows that were not fetched, so that their number is not known.
        after: what else stands beside the count, such as the time it took.
    """
    names = [_cell(n) for n in table.column_names]
    shown = table.slice(0, limit)
    columns = [[_cell(v) for v in c.to_pylist()] for c in shown.columns]
    right = [_is_number(c.type) for c in table.columns]
    widths = [max(map(_width, [n, *c])) for n, c in zip(names, columns, strict=True)]

    def line(cells: Iterable[str]) -> str:
        padded = [
            " " * (w - _width(c)) + c if r else c + " " * (w - _width(c))
            for c, w, r in zip(cells, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    lines = [line(names), "  ".join("─" * w for w in widths), *(line(row) for row in zip(*columns, strict=True))]
    count = f"{table.num_rows:,} row{'s' * (table.num_rows != 1)}" if whole else f"the first {table.num_rows:,} rows"
    more = f"; the first {limit:,} are shown, other formats give all" if table.num_rows > limit else ""
    return "\n".join([*lines, f"({count}{more}{after})"])


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
