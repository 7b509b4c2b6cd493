"""Rows of parquet, csv, tsv and jsonl files for a look: from several files, and from several places in each."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import UserError
from curate.init.sample import BYTES, FILES, ROWS, Count, Sample, Thinned, spread
from curate.pool.lists import Findings
from curate.run.sources.files import is_gzip, is_local, naming, open_bytes
from curate.run.sources.footer import Group
from curate.run.sources.footer import groups as row_groups
from curate.run.sources.kinds import NULL, kind_of_cells, kind_of_json
from curate.run.sources.parquet import opened_parquet
from curate.run.sources.raw import Reading, clean, columns_of, parse_json
from curate.run.sources.spec import SourceSpec
from curate.run.sources.tables import image_columns, read_table_file, table_format

WHOLE = 8 << 20  # bytes of a text file that is read whole; of a gzipped one a quarter
PIECES, PIECE = 16, 256 << 10  # of a text file that is longer
FOOTERS = 512  # of local parquet files that are read for their rows
ROLES = ("url", "text", "uid", "sha256", "image", "file")

Taken = tuple[dict[str, str], dict[str, list[Any]], Count]
"""Types by column, values by column, rows of the file."""


def take_tables(files: Sequence[str], size: Count) -> Sample:
    """Some rows of some of the files, as one table: what a file lacks is null there."""
    chosen = spread(files, FILES)
    columns: dict[str, str] = {}
    values: dict[str, list[Any]] = {}
    counts: list[Count] = []
    taken = 0
    for file in chosen:
        reader = _parquet if table_format(file) == "parquet" else _text_table
        types, rows, count = reader(file, -(-ROWS // len(chosen)))
        counts.append(count)
        columns = columns | {n: t for n, t in types.items() if n not in columns}
        n = max(map(len, rows.values()), default=0)
        for name in dict.fromkeys([*values, *rows]):
            values.setdefault(name, [None] * taken).extend(rows.get(name, [None] * n))
        taken += n
    kept = spread(range(taken), ROWS)
    values = {name: [column[i] for i in kept] for name, column in values.items()}
    return Sample(len(chosen), _rows(files, chosen, counts), size, columns, values)


def _rows(files: Sequence[str], looked: Sequence[str], counts: Sequence[Count]) -> Count:
    """Rows of all files, from those looked at; footers are cheap, so that many are read."""
    total = sum(counts, Count(0, True))
    if len(looked) == len(files):
        return total
    cheap = all(is_local(f) and table_format(f) == "parquet" and not f.endswith(".gz") for f in files)
    if cheap and len(files) <= FOOTERS:
        return total + Count(sum(_footer_rows(f) for f in set(files) - set(looked)), True)
    return Count(total.n * len(files) // len(looked), False)


def _footer_rows(file: str) -> int:
    with naming(file):
        return int(pq.read_metadata(file).num_rows)


# ---------------------------------------------------------------- parquet


def _parquet(file: str, want: int) -> Taken:
    with opened_parquet(file, buffer_size=1 << 20) as (table, f):
        schema, footer = table.schema_arrow, row_groups(f)
        plain = [c.name for c in schema if c.name not in image_columns(schema) and _is_plain(c.type)]
        groups = spread(range(table.metadata.num_row_groups), 4) if plain else []
        batches = [b for g in groups for b in _group(table, g, footer[g], plain, -(-want // len(groups)))]
        rows = {n: [v for b in batches for v in _values(b.column(i))] for i, n in enumerate(plain)}
        return {c.name: str(c.type) for c in schema}, rows, Count(table.metadata.num_rows, True)


def _values(column: pa.Array) -> list[Any]:
    """Text that is no UTF-8 is replaced, as in a run."""
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return (clean(column, Findings()) if is_text else column).to_pylist()


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return bool(pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _group(table: pq.ParquetFile, group: int, about: Group, names: list[str], want: int) -> Iterator[pa.RecordBatch]:
    """Rows of one row group: at even distances where it is small, else its first ones, page by page."""
    size = sum(c.unpacked for c in about.columns if c.path[0] in names)
    if size <= BYTES // 4:
        whole = table.read_row_group(group, names).select(names)
        yield from whole.take(pa.array(spread(range(whole.num_rows), want), pa.int64())).combine_chunks().to_batches()
        return
    held = 0
    for batch in table.iter_batches(min(want, 64), row_groups=[group], columns=names):
        yield batch.select(names)
        held += batch.nbytes
        want -= batch.num_rows
        if want <= 0 or held > BYTES // 16:
            return


# ---------------------------------------------------------------- csv, tsv, jsonl


def _text_table(file: str, want: int) -> Taken:
    """Of a short file all rows are read, as a run would; of a long one those of some pieces."""
    with naming(file), open_bytes(file) as f:
        packed = is_gzip(f)
        size = f.seek(0, os.SEEK_END)
    if size <= (WHOLE // 4 if packed else WHOLE):
        columns, count = _all_records(file, want)
    else:
        records, consumed = _some_records(file, size, packed)
        columns = columns_of(spread(records, want))
        count = Count(int(len(records) * size / max(consumed, 1)), False)
    typed = kind_of_json if table_format(file) == "jsonl" else kind_of_cells
    return {n: str(typed(v, NULL)) for n, v in columns.items()}, columns, count


def _all_records(file: str, want: int) -> tuple[dict[str, list[Any]], Count]:
    """(columns, rows). The reader of runs says what is wrong, with the line."""
    spec = SourceSpec.model_validate({"path": file, **dict.fromkeys(ROLES)})
    kept: Thinned[tuple[Any, ...]] = Thinned(want)
    names: dict[str, None] = {}
    for raw in read_table_file(file, Reading(spec, False, Findings(), {}), ()):
        columns = {n: v.to_pylist() if isinstance(v, pa.Array) else v for n, v in raw.extras.items()}
        names |= dict.fromkeys(columns)
        none = [None] * len(raw)
        kept.add(zip(*(columns.get(n, none) for n in names), strict=True))
    rows = spread(kept.items, want)
    return {n: [r[i] if i < len(r) else None for r in rows] for i, n in enumerate(names)}, Count(kept.seen, True)


def _some_records(file: str, size: int, packed: bool) -> tuple[list[dict[str, Any]], int]:
    """(rows of whole lines from pieces of a file, how many of its bytes these are)."""
    form = table_format(file)
    pieces, consumed = _packed_piece(file) if packed else _pieces(file, size)
    header: list[str] | None = None
    records: list[dict[str, Any]] = []
    for piece in pieces:
        if form == "jsonl":
            records += _objects(file, piece)
            continue
        text = io.StringIO(piece.decode("utf-8-sig", errors="replace"), newline="")
        rows = csv.reader(text, delimiter="," if form == "csv" else "\t")
        try:
            header = header or next(rows, [])
            # A piece may begin inside a quoted field: what then has too many or too few fields is no row.
            records += [dict(zip(header, r, strict=True)) for r in rows if len(r) == len(header)]
        except csv.Error as e:
            raise UserError(f"{file}: cannot be read as {form}: {e}") from e
    if not records:
        raise UserError(f"{file}: no whole row in the {PIECE >> 10} KB at each of {len(pieces)} places; is it {form}?")
    return records, consumed


def _pieces(file: str, size: int) -> tuple[list[bytes], int]:
    """(pieces of whole lines, their bytes)."""
    found = []
    with naming(file), open_bytes(file) as f:
        for i in range(PIECES):
            f.seek(i * size // PIECES)
            begun = f.read(PIECE)
            whole = begun[: begun.rfind(b"\n") + 1]
            found.append(whole if i == 0 else whole[whole.find(b"\n") + 1 :])
    return found, sum(map(len, found))


def _packed_piece(file: str) -> tuple[list[bytes], int]:
    """(whole lines from the beginning of a gzipped file, how many of its bytes that took)."""
    with naming(file), open_bytes(file) as f, gzip.open(f) as plain:
        begun = plain.read(PIECES * PIECE)
        return [begun[: begun.rfind(b"\n") + 1]], f.tell()


def _objects(file: str, piece: bytes) -> list[dict[str, Any]]:
    lines = piece.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    try:
        return [parse_json(line, Findings()) for line in lines if line.strip()]
    except ValueError as e:
        raise UserError(f"{file}: a line is no JSON object: {e}; one a line is expected") from e
