"""Files of interleaved documents, one document at a time, in bounded memory.

for number, size, document in documents("docs_shard_17_v2.jsonl.zip", "mmc4", "none", findings): ...

What is no document is counted in `findings`, with its line or row, and left out.
"""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import UserError
from curate.interchange import interleaved_mmc4, interleaved_obelics
from curate.interchange.interleaved import Document, Format, json_in
from curate.interchange.interleaved_mmc4 import TextRule
from curate.pool.lists import Findings
from curate.run.sources.files import naming, opened, seekable
from curate.run.sources.raw import decoded
from curate.text import visible

LONGEST = 4 << 20  # bytes of one document; the longest of MMC4 have one million
ROWS = 16  # of parquet at a time: documents have some kilobytes, some of them megabytes
SAID = 160  # characters of a reason
DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, UnicodeDecodeError, NotImplementedError, RuntimeError,
    EOFError,
)  # fmt: skip
"""What zipfile raises of a file that is damaged, cut, encrypted, or packed in a way that it does not know."""


class Read(NamedTuple):
    """number: of the line or row, from 1. size: its bytes."""

    number: int
    size: int
    document: Document


def format_of(path: str) -> Format:
    """By the name of the file.

    Raises:
        UserError: it does not tell.
    """
    name = path.lower()
    if name.endswith((".parquet", ".pq")):
        return "obelics"
    if name.endswith((".jsonl", ".jsonl.gz", ".jsonl.zip", ".zip", ".ndjson")):
        return "mmc4"
    raise UserError(f"{path}: cannot tell its format by its name; say --format mmc4 or --format obelics")


def documents(path: str, form: Format, rule: TextRule, findings: Findings) -> Iterator[Read]:
    """The documents of a file.

    Raises:
        UserError: the file cannot be read, or lacks the columns.
    """
    if form == "mmc4":
        for number, line in lines(path, findings):
            try:
                yield Read(number, len(line), interleaved_mmc4.parse(parsed(line), rule))
            except ValueError as e:
                _refuse(findings, path, number, e)
    else:
        for number, size, row in _rows(path, findings):
            try:
                yield Read(number, size, interleaved_obelics.parse(row, rule))
            except ValueError as e:
                _refuse(findings, path, number, e)


def parsed(line: bytes) -> Any:
    """The JSON value of a line.

    Raises:
        ValueError: it is none.
    """
    try:
        text = line.decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError as e:
        raise ValueError(f"no JSON: {e}") from None
    return json_in(text)


def _refuse(findings: Findings, path: str, number: int, error: ValueError) -> None:
    reason, _, detail = str(error).partition(": ")
    findings.refuse(path, str(number), visible(reason)[:SAID], visible(detail)[:SAID])


# ------------------------------------------------------------------------------------------ lines


def lines(path: str, findings: Findings) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of a file, plain, gzip or a zip with .jsonl files; too long lines are refused, empty ones
    skipped.

    Raises:
        UserError: it cannot be read, or the zip has no .jsonl.
    """
    if not path.lower().endswith(".zip"):
        with opened(path) as f:
            yield from _lines(path, f, 0, findings)
        return
    with naming(path), seekable(path) as packed:
        try:
            with zipfile.ZipFile(packed) as archive:
                names = [n for n in archive.namelist() if n.lower().endswith((".jsonl", ".ndjson"))]
                if not names:
                    raise UserError(f"{path}: no .jsonl in this zip")
                last = 0
                for name in names:
                    with archive.open(name) as f:
                        for last, line in _lines(path, f, last, findings):  # noqa: B020 (numbers go on)
                            yield last, line
        except DAMAGED as e:
            raise UserError(f"{path}: damaged, cut off or encrypted zip: {e}; fetch the file again") from e


def _lines(
    path: str, f: BinaryIO | io.BufferedIOBase | Any, last: int, findings: Findings
) -> Iterator[tuple[int, bytes]]:
    number = last
    while line := f.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            findings.refuse(path, str(number), f"a line of more than {LONGEST >> 20} MB")
            while line and not line.endswith(b"\n"):
                line = f.readline(LONGEST)
        elif line.strip():
            yield number, line


# ------------------------------------------------------------------------------------------ parquet


def _rows(path: str, findings: Findings) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(number from 1, bytes, row) with the columns of `interleaved_obelics.SCHEMA` that there are; too long rows are
    refused. Texts that stand for many rows are held once until a row is known to be short."""
    with seekable(path) as f:
        try:
            with pq.ParquetFile(f) as file:
                leaves = [file.schema.column(i) for i in range(len(file.schema.names))]
                texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
                wanted = _wanted(path, file.schema_arrow)
            with pq.ParquetFile(f, read_dictionary=texts) as file:
                number = 0
                for batch in file.iter_batches(ROWS, columns=wanted):
                    sizes = np.sum([_sizes(column) for column in batch.columns], axis=0)
                    for row, size in enumerate(sizes.tolist()):
                        number += 1
                        if size > LONGEST:
                            findings.refuse(path, str(number), f"a row of more than {LONGEST >> 20} MB")
                        else:
                            yield number, size, _row(batch, row, findings)
        except (pa.ArrowException, OSError) as e:
            raise UserError(f"{path}: cannot be read as parquet: {e}") from e


def _wanted(path: str, schema: pa.Schema) -> list[str]:
    """The columns to be read.

    Raises:
        UserError: one that must be there is not, or one is of another type.
    """
    wanted = [n for n in interleaved_obelics.SCHEMA.names if n in schema.names]
    for name in ("images", "texts"):
        if name not in wanted:
            raise UserError(f"{path}: no column {name!r} of lists; is it OBELICS?")
    for name in wanted:
        kind, listed = schema.field(name).type, pa.types.is_list(interleaved_obelics.SCHEMA.field(name).type)
        inner = kind.value_type if listed and pa.types.is_list(kind) else kind
        if listed != pa.types.is_list(kind) or not _is_text(inner):
            what = "lists of texts" if listed else "texts"
            raise UserError(f"{path}: the column {name!r} is of {kind}, not of {what}; is it OBELICS?")
    return wanted


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_null(inner))


def _sizes(column: pa.Array) -> np.ndarray:
    """int64 [rows]: bytes of the texts, and eight for each entry of a list."""
    if not pa.types.is_list(column.type):
        return _lengths(column)
    counts = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(_lengths(column.flatten()))])
    ends = np.cumsum(counts)
    sizes: np.ndarray = sums[ends] - sums[ends - counts] + 8 * counts
    return sizes


def _lengths(texts: pa.Array) -> np.ndarray:
    """int64 [n]: bytes, 0 of a null."""
    if pa.types.is_null(texts.type):
        return np.zeros(len(texts), np.int64)
    if pa.types.is_dictionary(texts.type):
        found = pc.binary_length(texts.dictionary).take(texts.indices)
    else:
        found = pc.binary_length(texts)
    lengths: np.ndarray = found.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _row(batch: pa.RecordBatch, row: int, findings: Findings) -> dict[str, Any]:
    """A row in Python; what is no UTF-8 in it is replaced, and counted."""
    found: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        listed = pa.types.is_list(column.type)
        (value,) = column.slice(row, 1).cast(pa.list_(pa.binary()) if listed else pa.binary()).to_pylist()
        found[name] = [decoded(v, findings) for v in value] if isinstance(value, list) else decoded(value, findings)
    return found
