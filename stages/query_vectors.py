"""Vectors that a user gives as a file, read a few rows at a time: .npy, or a column of parquet.

    file = VectorFile("imagenet22k.parquet", "vector", "retrieve")
    file.shape                                # (14197122, 1024), from the head of the file
    number, x = file.rows(65536, 131072)      # int64 (m,); float32 (m, 1024) of length one, on stages.vectors' grid
    for number, x in file.blocks(): ...       # the whole file

Rows without a direction (null, zeros, not finite) are left out: numbers tell which are there. A .npy file is mapped; of
parquet only the row groups are read that hold the rows: write some tens of thousands a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.target_vectors import checked_npy
from stages.vectors import MANY, as_column, joined, rows_of, unit


@dataclass(frozen=True)
class VectorFile:
    """path: of a .npy file (n, dim), or of parquet with lists of floats in `column`. of: who asks, and option: what a
    recipe calls the column, for messages."""

    path: str
    column: str
    of: str
    option: str = "column"

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
                f"{self.of}: {self.path} has no column {self.column!r}; say `{self.option}:`, one of "
                f"{', '.join(schema.names)}"
            )
        if self.shape[0] == 0:
            raise ValueError(f"{self.of}: {self.path} has no rows")
        return self.path

    @property
    def _parquet(self) -> bool:
        return Path(self.path).suffix.lower() == ".parquet"

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(n, dim); dim is 0 of a parquet file without rows, or of lists that are all null.

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
        return count, next((x.shape[1] for _, x in self.blocks()), 0)

    def rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(int64 (m,), float32 (m, dim)): those of the rows that have a direction: their numbers in the file,
        ascending, and themselves, of length one, on the grid."""
        found, there = unit(as_column(self._raw(start, stop)), self.of)
        return start + np.flatnonzero(there), found[there]

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same of the whole file, up to MANY rows at a time; never of none."""
        if not self._parquet:
            some = (self.rows(start, start + MANY) for start in range(0, self.shape[0], MANY))
            yield from ((number, x) for number, x in some if len(number))
            return
        start = 0
        for batch in pq.ParquetFile(self.path).iter_batches(MANY, columns=[self.column]):
            found, there = unit(batch.column(0), self.of)
            if there.any():
                yield start + np.flatnonzero(there), found[there]
            start += len(there)

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
