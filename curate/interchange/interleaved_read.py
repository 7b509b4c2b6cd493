"""Files of interleaved documents, one document at a time, in bounded memory.

for number, size, document in documents("docs_shard_17_v2.jsonl.zip", "mmc4", "none", findings): ...

What is no document is counted in `findings`, with its line or row, and left out.
"""

from __future__ import annotations

import io
import lzma
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
from curate.interchange.interleaved import LONGEST, MOST, Document, Format, json_in
from curate.interchange.interleaved_mmc4 import TextRule
from curate.pool.lists import Findings
from curate.run.sources.files import naming, opened, seekable
from curate.run.sources.footer import groups
from curate.run.sources.parquet import opened_parquet
from curate.run.sources.raw import decoded
from curate.text import visible

ROWS = 16  # of parquet at a time: documents have some kilobytes, some of them megabytes
ENTRIES = 1 << 20  # of the lists of a row group, which may be read whatever they are: 60 MB
SAID = 160  # characters of a reason
DAMAGED = (
    zipfile.BadZipFile,  # its table, a header or a checksum is wrong, as where the file is cut
    zlib.error,  # what deflate has packed does not unpack
    lzma.LZMAError,  # nor does what LZMA has packed
    EOFError,  # a member is longer than the file
    UnicodeDecodeError,  # the name of a member is not the UTF-8 that it is said to be
    RuntimeError,  # it is encrypted, or, NotImplementedError, packed in a way that zipfile does not know
)
"""What zipfile raises of a file that it cannot read; of bzip2 it is an OSError, which `naming` tells."""


class Read(NamedTuple):
    """number: of the line or row, from 1. size: its bytes, and those that its pictures repeat."""

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
                document = interleaved_mmc4.parse(parsed(line), rule)
            except ValueError as e:
                _refuse(findings, path, number, e)
            else:
                yield Read(number, len(line) + sum(len(p.text) for p in document.pictures), document)
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
    with opened_parquet(path) as (file, f):
        leaves = [file.schema.column(i) for i in range(len(file.schema.names))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        wanted = _wanted(path, file.schema_arrow)
        _refuse_hollow(path, f)
        with pq.ParquetFile(f, read_dictionary=texts) as shared:
            number = 0
            for batch in _batches(shared, wanted):
                sizes = np.sum([_sizes(column) for column in batch.columns], axis=0)
                for row, size in enumerate(sizes.tolist()):
                    number += 1
                    if size > LONGEST:
                        findings.refuse(path, str(number), f"a row of more than {LONGEST >> 20} MB")
                    else:
                        yield number, size, _row(batch, row, findings)


def _batches(file: pq.ParquetFile, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    """Each of one row group: pyarrow cannot join lists of texts out of two, whose dictionaries differ."""
    for group in range(file.metadata.num_row_groups):
        yield from file.iter_batches(ROWS, row_groups=[group], columns=wanted)


def _refuse_hollow(path: str, f: BinaryIO) -> None:
    """Refuse what would be a gigabyte before the first row can be measured: a row is unpacked whole, and twenty million
    nulls are one run of some bytes. Of a document each entry is an address or a text, which takes more than one byte.

    Raises:
        UserError: a row group has more entries than `MOST` a row, or than bytes.
    """
    for group in groups(f):
        lists = [c for c in group.columns if c.path[0] in ("images", "texts")]
        entries, size = max((c.values for c in lists), default=0), sum(c.size for c in lists)
        if entries > max(ENTRIES, min(group.rows * MOST, size)):
            raise UserError(
                f"{path}: lists of {entries:,} entries in {group.rows:,} rows and {size:,} bytes: these are no "
                "documents; is it OBELICS?"
            )


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
