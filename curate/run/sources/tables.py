"""Rows of parquet, csv, tsv and jsonl files, plain or gzip, a batch at a time."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from curate.errors import UserError
from curate.pool.facts import PLACE
from curate.pool.lists import Findings
from curate.run.sources.files import is_gzip, open_bytes, opened
from curate.run.sources.footer import Group, groups
from curate.run.sources.kinds import plain_type
from curate.run.sources.names import Names, resolve
from curate.run.sources.parquet import opened_parquet
from curate.run.sources.raw import BYTES, ROWS, Raw, Reading, columns_of, parse_json, scrubbed

LONGEST = 64 << 20  # bytes of one line or one quoted field
FORMATS = {"parquet": "parquet", "pq": "parquet", "csv": "csv", "tsv": "tsv"} | dict.fromkeys(
    ("jsonl", "ndjson", "json"), "jsonl"
)
ROLES = ("url", "text", "uid", "sha256")


def table_format(path: str) -> str | None:
    """parquet, csv, tsv or jsonl, by the name without .gz; None for anything else."""
    return FORMATS.get(path.lower().removesuffix(".gz").rpartition(".")[2])


def read_table_file(path: str, reading: Reading, needed: Sequence[str], role: str | None = None) -> Iterator[Raw]:
    """The rows of one file. `role`: "image" for a column of bytes, "file" for one of file names.

    Raises:
        UserError: not a table of its kind, ragged, missing or ambiguous columns; names the file and the line.
    """
    form = table_format(path)
    if form is None:
        raise UserError(f"{path}: cannot tell its format; the name must end in .parquet, .csv, .tsv or .jsonl (or .gz)")
    asked = (*ROLES, role) if role else ROLES
    if form == "parquet":
        yield from _parquet(path, reading, needed, asked)
    elif form == "jsonl":
        yield from _jsonl(path, reading, needed, asked)
    else:
        yield from _csv(path, "," if form == "csv" else "\t", reading, needed, asked)


# ---------------------------------------------------------------- parquet


def image_columns(schema: pa.Schema) -> list[str]:
    """Columns of bytes: binary, or the struct with `bytes` that Hugging Face writes."""
    return [f.name for f in schema if _holds_bytes(f.type)]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def schema_of(path: str) -> pa.Schema:
    """Raises: UserError if the file is no parquet."""
    with opened_parquet(path) as (file, _):
        return file.schema_arrow


def _parquet(path: str, reading: Reading, needed: Sequence[str], asked: Sequence[str]) -> Iterator[Raw]:
    with opened_parquet(path, buffer_size=1 << 20) as (file, f):
        schema, footer = file.schema_arrow, groups(f)
        names = _parquet_names(path, schema, reading, needed, asked)
        image = names.image
        lists = {n for n in (names.text,) if n and pa.types.is_nested(schema.field(n).type)}
        extras = [n for n in schema.names if n not in names.used - lists and reading.wanted(n)]
        if reading.survey:
            for n in extras:
                reading.types.see(n, plain_type(schema.field(n).type), path, loose=False)
            extras = []
        leaf = image and (f"{image}.bytes" if pa.types.is_struct(schema.field(image).type) else image)
        if leaf:
            _same_bytes_column(path, leaf, reading.findings)
        with_bytes = leaf is not None and (reading.survey or _may_be_null(footer, leaf))
        plain = [n for n in dict.fromkeys((names.url, names.text, names.uid, names.sha256, names.file, *extras)) if n]
        start = 0
        for batch in file.iter_batches(
            _batch_rows(footer, plain, leaf if with_bytes else None), columns=[*plain, *([leaf] if with_bytes else [])]
        ):
            column = dict(zip(batch.schema.names, batch.columns, strict=True))
            raw = Raw(path, np.arange(start + 1, start + 1 + batch.num_rows), extras={n: column[n] for n in extras})
            raw.url, raw.text, raw.uid, raw.sha256, raw.files = (
                column.get(n) if n else None for n in (names.url, names.text, names.uid, names.sha256, names.file)
            )
            if image:
                _place_bytes(raw, path, start, column.get(image), reading.survey)
            yield raw
            start += batch.num_rows


def _parquet_names(
    path: str, schema: pa.Schema, reading: Reading, needed: Sequence[str], asked: Sequence[str]
) -> Names:
    if "image" not in asked:
        return resolve(reading.spec, path, schema.names, needed, asked)
    rest = resolve(reading.spec, path, schema.names, needed, [a for a in asked if a != "image"])
    images = image_columns(schema)
    only = (
        reading.spec.model_copy(update={"image": images[0]})
        if reading.spec.image == "auto" and len(images) == 1
        else reading.spec
    )
    return Names(**{**rest.__dict__, "image": resolve(only, path, images, ("image",), ("image",)).image})


def _same_bytes_column(path: str, leaf: str, findings: Findings) -> None:
    with open_bytes(path) as f:
        if is_gzip(f):  # ingest reads single rows of it, by seeking
            raise UserError(f"{path}: a gzipped parquet with image bytes cannot be read row by row; gunzip it first")
    if findings.bytes_column not in (None, leaf):
        raise UserError(
            f"{path}: image bytes are in {leaf!r}, in files before it in {findings.bytes_column!r}: make two lists"
        )
    findings.bytes_column = leaf


def _may_be_null(footer: Sequence[Group], leaf: str) -> bool:
    """Unless every row group says that it has no nulls."""
    said = [{c.nulls for c in g.columns if f"{'.'.join(c.path)}.".startswith(f"{leaf}.")} for g in footer]
    return any(nulls != {0} for nulls in said)


def _batch_rows(footer: Sequence[Group], plain: Sequence[str], leaf: str | None) -> int:
    """Rows that make about half of `BYTES`, by what the footer says of the fattest row group."""
    wanted = {n.split(".")[0] for n in (*plain, *([leaf] if leaf else []))}
    worst = 1.0
    for group in footer:
        size = sum(c.unpacked for c in group.columns if c.path[0].split(".")[0] in wanted)
        worst = max(worst, size / max(group.rows, 1))
    return int(min(ROWS, max(1, BYTES // 2 / worst)))


def _place_bytes(raw: Raw, path: str, start: int, images: pa.Array | None, survey: bool) -> None:
    n = len(raw)
    raw.local = True
    if images is not None and pa.types.is_struct(images.type):
        images = images.flatten()[images.type.get_field_index("bytes")]
    present = np.ones(n, bool) if images is None else images.is_valid().to_numpy(zero_copy_only=False)
    rows = pa.array(np.arange(start, start + n), pa.int64())
    parts = [pa.array([path] * n, pa.string()), pa.nulls(n, pa.int64()), pa.nulls(n, pa.int64()), rows]
    raw.place = pa.StructArray.from_arrays(parts, fields=list(PLACE), mask=pa.array(~present))
    if survey and images is not None:
        raw.content = [f"sha256:{hashlib.sha256(v.as_buffer()).hexdigest()}" if v.is_valid else None for v in images]


# ---------------------------------------------------------------- csv and tsv


def _lines(f: BinaryIO, path: str) -> Iterator[str]:
    text = io.TextIOWrapper(f, "utf-8-sig", errors="surrogateescape", newline="")
    number = 0
    while line := text.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise UserError(f"{path}:{number}: a line of more than {LONGEST >> 20} MB; is this a text file?")
        yield line


def _records(path: str, f: BinaryIO, delimiter: str, quotes: bool) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, fields) of each record that is not blank."""
    csv.field_size_limit(LONGEST)
    lines = _lines(f, path)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    if not quotes:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            raise UserError(
                f"{path}:{line}: {e}, in the record that begins on this line; a field with quotes in it must be quoted "
                "and its quotes doubled, or write `quotes: false` under `source:` if quotes mean nothing in this file"
            ) from e
        if record:
            yield line, record


def _csv(path: str, delimiter: str, reading: Reading, needed: Sequence[str], asked: Sequence[str]) -> Iterator[Raw]:
    with opened(path) as f:
        records = _records(path, f, delimiter, reading.spec.quotes)
        _, header = next(records, (0, []))
        columns = _header(path, header, reading.findings)
        names = resolve(reading.spec, path, columns, needed, asked)
        lines: list[int] = []
        rows: list[list[str]] = []
        size = 0
        for line, record in records:
            if len(record) != len(columns):
                raise UserError(
                    f"{path}:{line}: {len(record)} fields where the header has {len(columns)}; "
                    "quote fields that contain the delimiter or a line break"
                )
            lines.append(line)
            rows.append(record)
            size += sum(map(len, record)) + 60 * len(record)
            if len(rows) == ROWS or size > BYTES:
                yield _cells(path, columns, names, lines, rows, reading)
                lines, rows, size = [], [], 0
        if rows:
            yield _cells(path, columns, names, lines, rows, reading)


def _header(path: str, header: list[str], findings: Findings) -> list[str]:
    columns = scrubbed(header, findings).to_pylist()
    if not columns:
        raise UserError(f"{path}: is empty; its first line must name the columns")
    if any("\0" in c for c in columns):
        raise UserError(f"{path}: is no text file: its first line has zero bytes")
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if twice:
        raise UserError(f"{path}:1: column {twice[0]!r} is there twice; rename one")
    return columns


def _cells(
    path: str, columns: list[str], names: Names, lines: list[int], rows: list[list[str]], reading: Reading
) -> Raw:
    column = {n: scrubbed(v, reading.findings) for n, v in zip(columns, zip(*rows, strict=True), strict=True)}
    return _raw(path, np.array(lines), column, names, reading, cells=True)


# ---------------------------------------------------------------- jsonl


def _jsonl(path: str, reading: Reading, needed: Sequence[str], asked: Sequence[str]) -> Iterator[Raw]:
    names: Names | None = None
    with opened(path) as f:
        for lines, objects in _objects(path, f, reading.findings):
            columns = columns_of(objects)
            if names is None:
                names = resolve(reading.spec, path, list(columns), needed, asked)
            yield _raw(path, np.array(lines), columns, names, reading, cells=False)


def _objects(path: str, f: BinaryIO, findings: Findings) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    lines: list[int] = []
    objects: list[dict[str, Any]] = []
    number = size = 0
    while line := f.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise UserError(
                f"{path}:{number}: a line of more than {LONGEST >> 20} MB; one JSON object a line is expected"
            )
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not line.strip():
            continue
        try:
            objects.append(parse_json(line, findings))
        except ValueError as e:
            raise UserError(f"{path}:{number}: not a JSON object: {e}; one a line is expected") from e
        lines.append(number)
        size += 3 * len(line) + 200
        if len(objects) == ROWS or size > BYTES:
            yield lines, objects
            lines, objects, size = [], [], 0
    if objects:
        yield lines, objects


def _raw(path: str, numbers: np.ndarray, column: dict[str, Any], names: Names, reading: Reading, *, cells: bool) -> Raw:
    used = names.used
    if names.text and not cells and any(isinstance(v, list) for v in column.get(names.text, ())):
        used -= {names.text}  # further texts of the sample stay with it
    raw = Raw(
        path, numbers, cells=cells, extras={n: v for n, v in column.items() if n not in used and reading.wanted(n)}
    )
    for role in (*ROLES, "file"):
        name = getattr(names, role)
        setattr(raw, "files" if role == "file" else role, column.get(name) if name else None)
    return raw
