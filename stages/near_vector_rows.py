"""Rows of vectors in files, by bucket: what is known of each in memory, the vectors where they fit, else read again.

    table = pa.table({**known, **packed(x)})           # vectors as bytes: lists of numbers take parquet far longer
    rows = VectorRows(inputs)                          # such tables; no column has nulls
    rows.known["cluster"]                              # numpy arrays over all rows, in the order of the files
    x = rows.take(at)                                  # float32 (len(at), dim), of length one, on the grid

Also what decides where vectors meet: `node_of`, the 64 bits that equal vectors share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import xxhash

from stages.base import Inputs
from stages.shuffle import Arrays, joined
from stages.vectors import as_column, unit

HELD_BYTES = 3 << 28
"""Bytes of vectors, as they are stored, that are kept in memory, 0.8 GB; of more, each use reads the files again."""

HELD = 1 << 26
"""Coordinates that a part holds in float32 at a time: 256 MB, 131,072 vectors of 512."""


PACKED = "vector_"  # and the numpy type: vector_f2


def packed(x: np.ndarray) -> dict[str, pa.Array]:
    """One column, by its name: the rows of (n, dim), floats of any size, as they are."""
    kind = x.dtype.newbyteorder("<")
    width = max(kind.itemsize * x.shape[1], 1)
    data = pa.py_buffer(np.ascontiguousarray(x, kind))
    return {PACKED + kind.str[1:]: pa.Array.from_buffers(pa.binary(width), len(x), [None, data])}


def unpacked(table: pa.Table) -> np.ndarray:
    """(n, dim): what `packed` was given; n is not 0."""
    (name,) = (n for n in table.column_names if n.startswith(PACKED))
    kind = np.dtype("<" + name.removeprefix(PACKED))
    column = table.column(name).combine_chunks()
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
    return data.view(kind).reshape(len(column), -1)


class VectorRows:
    """All rows of some tables.

    known: the columns besides the vectors, and `source`, the number of the table, all in the order of the tables.
    dim: of the vectors; 0 where there is none.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._held: dict[int, np.ndarray] | None = {}
        self.dim = held = 0
        found: list[Arrays] = []
        for number, table in enumerate(inputs):
            some = {n: _values(table, n) for n in table.column_names if not n.startswith(PACKED)}
            found.append(some | {"source": np.full(table.num_rows, number, np.int32)})
            if table.num_rows:
                x = unpacked(table)
                self._check(x.shape[1])
                held += x.nbytes
                if held > HELD_BYTES:
                    self._held = None
                elif self._held is not None:
                    self._held[number] = x
        self.known = joined(found) if found else {}
        self._starts = np.cumsum([0, *(len(f["source"]) for f in found)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _check(self, dim: int) -> None:
        if self.dim and dim != self.dim:
            raise ValueError(f"vectors of {self.dim} and of {dim} dimensions in one column")
        self.dim = dim

    def at_once(self) -> int:
        """Rows that may be held in float32 at a time."""
        return max(HELD // max(self.dim, 1), 1)

    def take(self, at: np.ndarray) -> np.ndarray:
        """float32 (len(at), dim): the vectors of these rows."""
        out = np.empty((len(at), self.dim), np.float32)
        for where, x in self.stream(at):
            out[where] = x
        return out

    def stream(self, at: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(places in `at`, their vectors), table by table."""
        order = np.argsort(at, kind="stable")
        cuts = np.searchsorted(at[order], self._starts)
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            where = order[cuts[number] : cuts[number + 1]]
            yield where, _units(self._stored(number)[at[where] - self._starts[number]])

    def _stored(self, number: int) -> np.ndarray:
        """The vectors of a table, as they are stored."""
        return unpacked(self._inputs.load(self._inputs.keys[number])) if self._held is None else self._held[number]


def _values(table: pa.Table, name: str) -> np.ndarray:
    """A column as an array; of lists of one length as rows."""
    column = table.column(name)
    if not pa.types.is_fixed_size_list(column.type):
        return column.to_numpy()
    flat = column.combine_chunks().flatten().to_numpy()
    return flat.reshape(table.num_rows, column.type.list_size)


def _units(x: np.ndarray) -> np.ndarray:
    return unit(as_column(x), "vectors")[0]


def node_of(x: np.ndarray) -> np.ndarray:
    """uint64 (n,): a hash of each row of (n, dim), vectors on the grid; equal rows have one, whatever their zeros."""
    data = memoryview((x + np.float32(0)).astype("<f4", copy=False).tobytes())
    width = 4 * max(x.shape[1], 1)
    hashed = [xxhash.xxh3_64_intdigest(data[at : at + width]) for at in range(0, len(data), width)]
    return np.array(hashed, np.uint64)


def batches(sizes: Sequence[int] | np.ndarray, limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive numbers (first, end) of things of these sizes that make up `limit` at most, or are one alone."""
    first, held = 0, 0
    for number, size in enumerate(sizes):
        if number > first and held + size > limit:
            yield first, number
            first, held = number, 0
        held += int(size)
    if len(sizes) > first:
        yield first, len(sizes)
