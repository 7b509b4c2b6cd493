"""Vectors that a user gives as a file, read a few rows at a time: .npy, or a column of parquet.

    file = VectorFile("imagenet22k.parquet", "vector", "retrieve")
    file.shape                                # (14197122, 1024), from the head of the file
    file.rows(65536, 131072)                  # float32 (65536, 1024) of length one, on the grid of stages.vectors

A .npy file is mapped; of parquet only the row groups are read that hold the rows: write some tens of thousands a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.target_vectors import checked_npy
from stages.vectors import as_column, joined, rows_of, unit


@dataclass(frozen=True)
class VectorFile:
    """path: of a .npy file (n, dim), or of parquet with lists of floats in `column`. of: who asks, for messages."""

    path: str
    column: str
    of: str

    def checked(self) -> str:
        """The path.

        Raises:
            ValueError: there is no such file, or it holds something else; says what to do.
        """
        if not self._parquet:
            return checked_npy(self.path, self.of)
        if not Path(self.path).is_file():
            raise ValueError(
                f"{self.of}: no vectors at {self.path}; give a .npy file (n, dim), or parquet with a column "
                f"{self.column!r}, of vectors by the same model as the pool's"
            )
        try:
            schema = pq.read_schema(self.path)
        except pa.ArrowException as e:
            raise ValueError(f"{self.of}: {self.path} is no parquet file ({e})") from e
        if self.column not in schema.names:
            raise ValueError(
                f"{self.of}: {self.path} has no column {self.column!r}; say `column:`, one of {', '.join(schema.names)}"
            )
        if self.shape[0] == 0:
            raise ValueError(f"{self.of}: {self.path} has no rows")
        return self.path

    @property
    def _parquet(self) -> bool:
        return Path(self.path).suffix.lower() == ".parquet"

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(n, dim); dim is 0 of a parquet file without rows.

        Raises:
            ValueError: as `checked`; the column is none of vectors of one length.
        """
        if not self._parquet:
            rows, dim = np.load(checked_npy(self.path, self.of), mmap_mode="r", allow_pickle=False).shape
            return rows, dim
        count = pq.read_metadata(self.path).num_rows
        kind = pq.read_schema(self.path).field(self.column).type
        if pa.types.is_fixed_size_list(kind):
            return count, kind.list_size
        return count, self._raw(0, min(count, 1)).shape[1]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """float32 (up to stop - start, dim): some of the rows, of length one, on the grid.

        Raises:
            ValueError: a row has no direction.
        """
        found, there = unit(as_column(self._raw(start, stop)), self.of)
        if not there.all():
            raise ValueError(f"{self.of}: {self.path}, row {start + int(np.argmin(there))}: null, zeros, or not finite")
        return found

    def _raw(self, start: int, stop: int) -> np.ndarray:
        """(n, dim) as they are stored; zeros where null."""
        if not self._parquet:
            return np.asarray(np.load(self.path, mmap_mode="r", allow_pickle=False)[start:stop])
        file = pq.ParquetFile(self.path)
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        first, last = np.searchsorted(ends, [start, max(stop - 1, start)], side="right")
        groups = list(range(int(first), min(int(last) + 1, len(sizes))))
        if not groups:
            return np.zeros((0, 0), np.float32)
        table = joined(file.read_row_group(i, columns=[self.column]) for i in groups)
        before = int(ends[groups[0]]) - sizes[groups[0]]
        return rows_of(table.column(0).slice(start - before, stop - start), self.of)[0]
