"""Images from files: a range of a tar, a file, a row of a parquet; paths local or of any scheme that fsspec opens.

with LocalReader("image", max_bytes=20_000_000) as files:
    data = files.read({"path": "a.tar", "offset": 512, "size": 7000, "row": None})
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 64  # of a parquet file, in memory at a time


class Unreadable(Exception):
    """Why there are no bytes: `outcome` is unreadable or too_big, `detail` one line."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = " ".join(detail.split())[:300]


class LocalReader:
    """Reads one place after the other; the file last asked for stays open, so sorted places are read in one go."""

    def __init__(self, bytes_column: str | None, max_bytes: int) -> None:
        """
        Args:
            bytes_column: of parquet files; a dot leads into a struct ("image.bytes").
            max_bytes: of one image; a larger one is not read.
        """
        self._column = bytes_column
        self._max_bytes = max_bytes
        self._path: str | None = None
        self._file: BinaryIO | None = None
        self._rows: _ParquetRows | None = None

    def read(self, place: Mapping[str, Any]) -> bytes:
        """The bytes at a place (see `curate.pool.facts.PLACE`).

        Raises:
            Unreadable: no such file, row or range, no permission, null, or more than `max_bytes`.
        """
        try:
            if place["row"] is not None:
                data = self._parquet(place["path"]).value(place["row"])
            else:
                data = self._range(place["path"], place["offset"] or 0, place["size"])
        except (OSError, pa.ArrowException, LookupError, UnicodeDecodeError) as e:
            raise Unreadable("unreadable", f"{place['path']}: {e}") from e
        if len(data) > self._max_bytes:
            raise Unreadable("too_big", f"{len(data)} bytes, {self._max_bytes} allowed")
        return data

    def _range(self, path: str, offset: int, size: int | None) -> bytes:
        if size is not None and size > self._max_bytes:
            raise Unreadable("too_big", f"{size} bytes, {self._max_bytes} allowed")
        file = self._open(path)
        file.seek(offset)
        data = file.read(self._max_bytes + 1 if size is None else size)
        if size is not None and len(data) < size:
            raise Unreadable("unreadable", f"{path}: ends {size - len(data)} bytes early")
        return data

    def _parquet(self, path: str) -> _ParquetRows:
        if self._column is None:
            raise LookupError("is parquet, but the list names no column of bytes")
        file = self._open(path)
        if self._rows is None:
            self._rows = _ParquetRows(file, self._column)
        return self._rows

    def _open(self, path: str) -> BinaryIO:
        if self._file is None or path != self._path:
            self.close()
            self._file, self._path = _opened(path), path
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._rows = self._path = None

    def __enter__(self) -> LocalReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()


class _ParquetRows:
    """Values of one column by row number; rising numbers read each row group once, a few rows at a time."""

    def __init__(self, file: BinaryIO, column: str) -> None:
        self._parquet = pq.ParquetFile(file, buffer_size=1 << 20)
        self._names = column.split(".")
        if self._names[0] not in self._parquet.schema_arrow.names:
            have = ", ".join(self._parquet.schema_arrow.names)
            raise LookupError(f"no column {column!r}; there are: {have}")
        metadata = self._parquet.metadata
        self._groups = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.Array | None = None
        self._first = 0  # row number of the batch's first value

    def value(self, row: int) -> bytes:
        if not 0 <= row < sum(self._groups):
            raise LookupError(f"no row {row}; there are {sum(self._groups)}")
        group, start = self._group_of(row)
        if self._batch is None or row < self._first or start >= self._first + len(self._batch):
            self._batches = self._parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=[".".join(self._names)])
            self._batch, self._first = None, start
        while self._batch is None or row >= self._first + len(self._batch):
            self._first += 0 if self._batch is None else len(self._batch)
            batch = next(self._batches, None)
            if batch is None:
                raise LookupError(f"row group {group} ends before row {row}")
            self._batch = batch.column(0)
        value = self._batch[row - self._first].as_py()
        for name in (*self._names[1:], "bytes"):
            value = value[name] if isinstance(value, dict) else value
        if not isinstance(value, bytes):
            raise LookupError(f"row {row} holds {'null' if value is None else type(value).__name__}, not bytes")
        return value

    def _group_of(self, row: int) -> tuple[int, int]:
        """The row group of a row, and that group's first row."""
        start = 0
        for group, rows in enumerate(self._groups):
            if row < start + rows:
                return group, start
            start += rows
        raise LookupError(f"no row {row}")


def _opened(path: str) -> BinaryIO:
    if "://" not in path:
        return open(os.fspath(path), "rb")
    import fsspec

    return fsspec.open(path, "rb").open()  # type: ignore[no-any-return]
