"""Files of interleaved documents, one document at a time, in bounded memory.

for number, document in documents("docs_shard_17_v2.jsonl.zip", "mmc4", "none", findings): ...

What is no document is counted in `findings`, with its line or row, and left out.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import UserError
from curate.interchange import interleaved_mmc4, interleaved_obelics
from curate.interchange.interleaved import Document, Format
from curate.interchange.interleaved_mmc4 import TextRule
from curate.pool.lists import Findings
from curate.run.sources.files import naming, opened, seekable
from curate.text import visible

LONGEST = 16 << 20  # bytes of one line; the longest of MMC4 have one
ROWS = 64  # of parquet at a time: documents have some kilobytes, some of them megabytes
SAID = 160  # characters of a reason


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


def documents(path: str, form: Format, rule: TextRule, findings: Findings) -> Iterator[tuple[int, Document]]:
    """(line or row from 1, document) of a file.

    Raises:
        UserError: the file cannot be read, or lacks the columns.
    """
    if form == "mmc4":
        for number, line in lines(path, findings):
            try:
                yield number, interleaved_mmc4.parse(parsed(line), rule)
            except ValueError as e:
                _refuse(findings, path, number, e)
    else:
        for number, row in _rows(path):
            try:
                yield number, interleaved_obelics.parse(row, rule)
            except ValueError as e:
                _refuse(findings, path, number, e)


def parsed(line: bytes) -> Any:
    """The JSON value of a line.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("lists within lists within lists") from None
    except ValueError as e:  # also of text that is no UTF-8
        raise ValueError(f"no JSON: {e}") from None


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
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as e:
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


def _rows(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, row) with the columns of `interleaved_obelics.SCHEMA` that there are."""
    with seekable(path) as f:
        try:
            with pq.ParquetFile(f) as file:
                wanted = [n for n in interleaved_obelics.SCHEMA.names if n in file.schema_arrow.names]
                for name in ("images", "texts"):
                    if name not in wanted or not pa.types.is_list(file.schema_arrow.field(name).type):
                        raise UserError(f"{path}: no column {name!r} of lists; is it OBELICS?")
                number = 0
                for batch in file.iter_batches(ROWS, columns=wanted):
                    for number, row in enumerate(batch.to_pylist(), number + 1):  # noqa: B020
                        yield number, row
        except pa.ArrowInvalid as e:
            raise UserError(f"{path}: cannot be read as parquet: {e}") from e
