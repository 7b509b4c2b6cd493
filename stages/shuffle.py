"""Moving rows between parts in bounded memory: from shards to buckets of a key and back to the shards.

A pool is cut into *spans* of consecutive shards of about `rows` samples, and keys into a power of two of *buckets*
of about as many. Where a part needs to know the number of buckets, its name ends in it:

    00000000-00000255-of-00512       a span (first and last shard); its output goes into 512 buckets
    00000000-00000255-1a2b3c4d-of-00512   the same with a digest of its shards, where stamped
    00007-of-00512                   a bucket

Way there: one part a span reads shards and writes a table a bucket. Work: one part a bucket reads that bucket of
each span's file, and writes a table a span. Way back: `gather` turns a span's rows into a table a shard. So no part
opens more files than there are spans, buckets, or shards in a span. Rows are found again by their *place*:
shard * 2^32 + row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa

from stages.base import Inputs, Need, Output, Phase, PhaseFile, Shape, ShardColumns, shard_name
from stages.draws import hash64_halves, uid_halves

ROWS = 1 << 21
"""Rows in a span or bucket, about: some 100 MB of the widest rows here."""

NEED = Need(memory_gb=2)

SHARDS = 4096
"""Shard numbers in a span, at most: the way back has a table for each."""

Arrays = dict[str, np.ndarray]


def consecutive(shape: Shape, most: int) -> Iterator[tuple[int, ...]]:
    """Shards in their order, so many together as have about `most` samples."""
    group: list[int] = []
    held = 0
    for shard, rows in zip(shape.shards, shape.rows, strict=True):
        if group and (held + rows > most or shard - group[0] >= SHARDS):
            yield tuple(group)
            group, held = [], 0
        group.append(shard)
        held += rows
    if group:
        yield tuple(group)


@dataclass(frozen=True)
class Layout:
    """How a computation over the shards of `shape` is cut; a function of the shape only.

    A span holds shards of one generation, and its name a digest of them, where `stamped`: then phases over spans may be
    `local`, and are reused when the pool grows, as long as the number of buckets stays.
    """

    shape: Shape
    rows: int = field(default_factory=lambda: ROWS)
    stamped: bool = False

    @cached_property
    def buckets(self) -> int:
        """A power of two."""
        return 1 << max(0, (self.shape.total - 1) // self.rows).bit_length()

    @cached_property
    def _spans(self) -> dict[str, tuple[int, ...]]:
        return {
            self._named(shape, group): group
            for shape in (self.shape.split() if self.stamped else (self.shape,))
            for group in consecutive(shape, self.rows)
        }

    def _named(self, shape: Shape, group: tuple[int, ...]) -> str:
        stamp = f"-{shape.among(group).digest()}" if self.stamped else ""
        return f"{shard_name(group[0])}-{shard_name(group[-1])}{stamp}-of-{self.buckets:05d}"

    def spans_of(self, generation: int) -> tuple[str, ...]:
        """The spans of one generation, where stamped."""
        return tuple(span for span, group in self._spans.items() if self._generations[group[0]] == generation)

    @property
    def spans(self) -> tuple[str, ...]:
        return tuple(self._spans)

    @property
    def bucket_parts(self) -> tuple[str, ...]:
        return tuple(f"{b:05d}-of-{self.buckets:05d}" for b in range(self.buckets))

    @cached_property
    def _span_of(self) -> dict[int, int]:
        return {shard: i for i, shards in enumerate(self._spans.values()) for shard in shards}

    def from_shards(self, name: str) -> Phase:
        """One part a span, reading its shards."""
        spans = self._spans
        known = self._generations
        return Phase(
            name,
            self.spans,
            lambda part: tuple(ShardColumns(s, known[s]) for s in spans[part]),
            local=self.stamped,
            need=NEED,
        )

    @cached_property
    def _generations(self) -> dict[int, int]:
        return dict(zip(self.shape.shards, self.shape.generations or (0,) * len(self.shape.shards), strict=True))

    def by_bucket(self, name: str, *inputs: tuple[str, Sequence[str]] | tuple[str, Sequence[str], object]) -> Phase:
        """One part a bucket, reading its bucket of the given parts of earlier phases: (phase, parts[, owner])."""

        def files(part: str) -> tuple[PhaseFile, ...]:
            bucket = bucket_of_part(part)
            return tuple(PhaseFile(i[0], p, bucket, *i[2:]) for i in inputs for p in i[1])  # type: ignore[arg-type]

        return Phase(name, self.bucket_parts, files, need=NEED)

    def gathered(self, name: str, of: str) -> Phase:
        """One part a span, reading the span's table of each bucket's file; its work is `gather`."""
        number = {part: i for i, part in enumerate(self.spans)}

        def files(part: str) -> tuple[PhaseFile, ...]:
            return tuple(PhaseFile(of, b, number[part]) for b in self.bucket_parts)

        return Phase(name, self.spans, files, need=NEED)

    def to_shards(self, name: str, of: str) -> Phase:
        """The last phase: one part a shard, reading the shard and its table of the phase made by `gathered`."""
        span_of, spans = self._span_of, self.spans

        def files(part: str) -> tuple[ShardColumns | PhaseFile, ...]:
            span = spans[span_of[int(part)]]
            return ShardColumns(int(part)), PhaseFile(of, span, int(part) - first_shard(span))

        return Phase(name, tuple(shard_name(s) for s in self.shape.shards), files)


def bucket_of_part(part: str) -> int:
    return int(part.split("-")[0])


def buckets_of(part: str) -> int:
    """The number of buckets that a part's name ends in."""
    return int(part.rsplit("-", 1)[1])


def first_shard(span: str) -> int:
    return int(span.split("-")[0])


def bucket(high: np.ndarray, low: np.ndarray, count: int) -> np.ndarray:
    """int64 (n,): bucket of each 128-bit key, even whatever the keys; `count` is a power of two."""
    if count == 1:
        return np.zeros(len(high), np.int64)
    bits = np.uint64(count.bit_length() - 1)
    return (hash64_halves(0, "bucket", high, low) >> (np.uint64(64) - bits)).astype(np.int64)


def split(arrays: Mapping[str, np.ndarray], into: np.ndarray, count: int) -> list[pa.Table]:
    """A table for each of the `count` numbers in `into`; rows keep their order within it."""
    if count == 1:
        return [pa.table(dict(arrays))]
    order = np.argsort(into, kind="stable")
    cuts = np.searchsorted(into[order], np.arange(count + 1))
    table = pa.table({name: a[order] for name, a in arrays.items()})
    return [table.slice(a, b - a) for a, b in pairwise(cuts)]


def by_span(arrays: Mapping[str, np.ndarray], inputs: Inputs, phase: str) -> list[pa.Table]:
    """A table a span: the spans are the parts of `phase` among the inputs, the rows have a `place`."""
    spans = [k.part for k in inputs.select(PhaseFile, phase).keys if isinstance(k, PhaseFile)]
    starts = np.array([first_shard(s) for s in spans], np.uint64)
    order = np.argsort(starts)
    at = np.searchsorted(starts[order], arrays["place"] >> np.uint64(32), side="right") - 1
    return split(arrays, order[at], len(spans))


def gather(part: str, inputs: Inputs) -> Output:
    """Work of the phase made by `Layout.gathered`: a table for each shard number of the span, by place."""
    arrays = stacked(inputs)
    order = np.argsort(arrays["place"])
    first, last = (int(n) for n in part.split("-")[:2])
    shard = (arrays["place"][order] >> np.uint64(32)).astype(np.int64) - first
    return Output(split({n: a[order] for n, a in arrays.items()}, shard, last - first + 1))


def stacked(inputs: Inputs) -> Arrays:
    """All tables below one another, each column as one numpy array; the columns have no nulls."""
    return arrays(pa.concat_tables(list(inputs)))


def arrays(table: pa.Table) -> Arrays:
    """The columns, which have no nulls, as numpy arrays."""
    return {name: table.column(name).to_numpy() for name in table.column_names}


def joined(parts: Sequence[Arrays]) -> Arrays:
    """All rows below one another, of the columns of the first."""
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def places(shard: int, rows: int) -> np.ndarray:
    """uint64 (rows,)"""
    return (np.uint64(shard) << np.uint64(32)) + np.arange(rows, dtype=np.uint64)


def rows_of(place: np.ndarray) -> np.ndarray:
    """int64: the row within its shard."""
    return (place & np.uint64(0xFFFFFFFF)).astype(np.int64)


def halves(uid: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """`uid_halves`, also of no uids at all."""
    return uid_halves(uid) if len(uid) else (np.empty(0, np.uint64), np.empty(0, np.uint64))


def uid_array(high: np.ndarray, low: np.ndarray, valid: np.ndarray | None = None) -> pa.Array:
    """binary(16) from two uint64 arrays; null where `valid` is false."""
    data = pa.py_buffer(np.stack([high, low], axis=1).astype(">u8").tobytes())
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.binary(16), len(high), [bits, data])


def starts_of(*keys: np.ndarray) -> np.ndarray:
    """Where runs of equal keys begin, in sorted rows."""
    new = np.zeros(len(keys[0]), bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(new)


def find(ascending: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(hit, at): which are there, and where; `at` means something where `hit` only."""
    at = np.searchsorted(ascending, wanted)
    if not len(ascending):
        return np.zeros(len(wanted), bool), at
    at = np.minimum(at, len(ascending) - 1)
    return ascending[at] == wanted, at
