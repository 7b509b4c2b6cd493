"""A second signal: near hashes whose pictures differ in it are no pair.

    Agreement(column="colours", within=4, measure="l1")

A perceptual hash looks at the gray structure of a picture only. The same shirt in red and in blue, or two products on
white, have near hashes; their colours, a second hash, or their embeddings tell them apart.

    signals = Signals.of(table, verify)          # the columns s0, s1, ... as they are stored between phases
    signals.agree(i, j)                          # bool: which pairs of rows agree in all of them
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from stages.base import Source
from stages.hash_words import byte_rows
from stages.vectors import as_column, lengths, rows_of, unit

UNIT = 1_000_000  # cosines are compared in whole parts of it
CHUNK = 1 << 20  # pairs that are looked at together


class Agreement(BaseModel):
    """Two samples agree where their values of `column` differ by no more than `within`.

    Args:
        column: a hash, a signature of bytes of one length, or a vector.
        within: the largest difference of a pair.
        measure: "bits", how many bits of a uint64 or binary hash differ; "l1", the mean absolute difference of bytes
            (0 to 255) of a binary signature; "cosine", 1 - cosine of vectors, rounded to 1e-6.

    Example:
        Agreement(column="colours", within=4, measure="l1")
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: Source
    within: float = Field(ge=0)
    measure: Literal["bits", "l1", "cosine"]


def stored_signal(agreement: Agreement, column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """(the values for the files between phases, uint64 (n, w): their bytes, bool (n,): which rows have one).

    Raises:
        ValueError: the column is not what the measure compares.
    """
    name = agreement.column.field
    if agreement.measure == "cosine":
        values, _ = rows_of(column, name)
        return as_column(values), _padded(np.ascontiguousarray(values).view(np.uint8)), unit(column, name)[1]
    data, there = byte_rows(column, name)
    return _as_binary(data), _padded(data), there


def _as_binary(data: np.ndarray) -> pa.Array:
    width = max(data.shape[1], 1)
    whole = data if data.shape[1] else np.zeros((len(data), 1), np.uint8)
    return pa.Array.from_buffers(pa.binary(width), len(data), [None, pa.py_buffer(np.ascontiguousarray(whole))])


def _padded(data: np.ndarray) -> np.ndarray:
    """uint64 (n, w): the bytes of uint8 (n, width), with zeros after them."""
    whole = np.zeros((len(data), -(-data.shape[1] // 8) * 8), np.uint8)
    whole[:, : data.shape[1]] = data
    return whole.view(np.uint64)


# ---------------------------------------------------------------- comparing


Compare = Callable[[np.ndarray, np.ndarray, bool], np.ndarray]


@dataclass(frozen=True)
class Signals:
    """The signals of some rows, ready to be compared; `compare`, one for each agreement."""

    rows: int
    compare: tuple[Compare, ...]

    @classmethod
    def of(cls, table: pa.Table, verify: Sequence[Agreement]) -> Signals:
        """Of a table with the columns s0, s1, ..., as `stored_signal` gives them.

        Raises:
            ValueError: the values have several lengths.
        """
        found = tuple(_comparison(a, table.column(f"s{n}")) for n, a in enumerate(verify))
        return cls(table.num_rows, found)

    def agree(self, i: np.ndarray, j: np.ndarray, half: bool = False) -> np.ndarray:
        """bool (pairs,): do rows i and j agree in all signals; `half`: within half of what is allowed?

        Of two rows that lie within half of a third one each, it is sure that they agree (of vectors: half the chord, a
        quarter of 1 - cosine, but for rounding).
        """
        near = np.ones(len(i), bool)
        for compare in self.compare:
            left = np.flatnonzero(near)
            near[left] = compare(np.ascontiguousarray(i[left]), np.ascontiguousarray(j[left]), half)
        return near


def _comparison(agreement: Agreement, column: pa.ChunkedArray) -> Compare:
    from stages import verified_kernels as kernels

    if agreement.measure == "cosine":
        x, _ = unit(column, agreement.column.field)
        long, limit = lengths(x), round(agreement.within * UNIT)
        return lambda i, j, half: kernels.cosines_within(x, long, i, j, limit // 4 if half else limit, UNIT)
    data, _ = byte_rows(column, agreement.column.field)
    if agreement.measure == "bits":
        words, limit = _padded(data), int(agreement.within)
        return lambda i, j, half: kernels.bits_within(words, i, j, limit // 2 if half else limit)
    total = int(np.floor(agreement.within * data.shape[1] + 1e-9))
    return lambda i, j, half: kernels.bytes_within(data, i, j, total // 2 if half else total)


def blocks(
    first: np.ndarray, count: np.ndarray, other: np.ndarray, others: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All rows of one run with all rows of another, for many pairs of runs, some `CHUNK` pairs of rows at a time.

    Args:
        first, count: int64 (n,): the runs of the left side; other, others: those of the right side.

    Yields:
        (i, j, number of the pair of runs)
    """
    for some in _cuts(count):
        row = each(first[some], count[some])
        of = np.repeat(np.arange(len(first))[some], count[some])
        for part in _cuts(others[of]):
            i, pair = row[part], of[part]
            yield np.repeat(i, others[pair]), each(other[pair], others[pair]), np.repeat(pair, others[pair])


def _cuts(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of items whose sizes add up to about CHUNK, or that are one."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + CHUNK, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def each(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """int64: first[0], first[0] + 1, ... so many; then those of the next."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(first - ends + count, count)
