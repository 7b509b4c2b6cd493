"""Samples beside one evaluation set after another: the search of `stages.eval_matches`, in some shards at a time.

rows = Rows.of(table, bits={"phash256": 48}, min_quality=50, vectors=None)     # columns of some shards
match = rows.in_set(prints, one, bits={"phash256": 48}, above=None)            # Match: by, distance, number
found_table(rows, [(0, prints, match)])                                        # FOUND, a row a sample
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.base import Shape, shard_name
from stages.eval_hashes import NONE, nearest_hashes
from stages.eval_hits import BY
from stages.eval_prints import eval_hashes, words_of
from stages.eval_sets import EvalSet
from stages.eval_vectors import UNIT, eval_vectors, nearest_vectors
from stages.shuffle import halves
from stages.vectors import ROWS, Device, unit

AT_ONCE = 1 << 17  # pictures whose hashes are looked at together: a million, 100 MB as they are sorted
WORDS = {"phash256": 4, "phash64": 1}
HIT = pa.struct(
    [
        ("set", pa.int32()),
        ("number", pa.int64()),  # of the picture in the set, or of the vector
        ("item", pa.string()),
        ("by", pa.int8()),
        ("distance", pa.float32()),
        ("high", pa.uint64()),  # the sample's uid
        ("low", pa.uint64()),
    ]
)
FOUND = pa.schema([("found", pa.list_(HIT)), ("missing", pa.bool_())])
"""Of each sample its match in each set that it matches, strongest first; is something to compare by null?"""


@dataclass(frozen=True)
class Match:
    """Of each sample the match in one set: by int64 (n,), NONE where there is none; distance float64; number int64."""

    by: np.ndarray
    distance: np.ndarray
    number: np.ndarray


@dataclass
class Rows:
    """Samples, and what of theirs is compared. hashes: field -> uint64 (m, words), of the rows `clear`."""

    high: np.ndarray
    low: np.ndarray
    missing: np.ndarray
    sha256: pa.Array | None
    hashes: dict[str, np.ndarray]
    clear: np.ndarray
    x: np.ndarray
    there: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, fields: Sequence[str], min_quality: int, vectors: str | None) -> Rows:
        """From the columns of one or more shards.

        Args:
            fields: of sha256, phash256, phash64: those that are compared.
            vectors: the column of vectors, or None.
        """
        high, low = halves(table.column("uid"))
        missing = np.zeros(table.num_rows, bool)
        for field in fields:
            missing |= table.column(field).is_null().to_numpy()
        hashed = [f for f in fields if f in WORDS]
        clear = np.zeros(0, np.int64)
        if hashed:
            quality = table.column("phash_quality").fill_null(0).to_numpy()
            clear = np.flatnonzero((quality >= max(min_quality, 1)) & ~missing)
        hashes = {f: words_of(table.column(f), WORDS[f])[clear] for f in hashed}
        x, there = np.zeros((table.num_rows, 1), np.float32), np.zeros(table.num_rows, bool)
        if vectors is not None:
            x, there = unit(table.column(vectors), f"decontamination: {vectors}")
            missing |= ~there
        sha256 = table.column("sha256").combine_chunks() if "sha256" in fields else None
        return cls(high, low, missing, sha256, hashes, clear, x, there)

    def in_set(
        self,
        one: EvalSet,
        prints: pa.Table,
        bits: Mapping[str, int],
        min_quality: int,
        above: float | None,
        device: Device = "cpu",
    ) -> Match:
        """The strongest match of each sample in one set: equal bytes, then hashes in the order of `bits`, then vectors.

        Raises:
            ValueError: as `stages.eval_vectors`; the set has pictures and another number of vectors.
        """
        rows = len(self.high)
        match = Match(np.full(rows, NONE), np.zeros(rows), np.full(rows, NONE))
        if self.sha256 is not None and prints.num_rows:
            same = pc.index_in(self.sha256, value_set=prints.column("sha256").combine_chunks()).fill_null(NONE)
            self._note(match, "sha256", np.arange(rows), np.zeros(rows), same.to_numpy().astype(np.int64))
        for field, most in bits.items():
            left = match.by[self.clear] == NONE
            distance, number = nearest_prints(self.hashes[field][left], prints, field, most, min_quality)
            self._note(match, field, self.clear[left], distance, number)
        if one.vectors is not None and above is not None:
            left = np.flatnonzero(self.there & (match.by == NONE))
            blocks = eval_vectors(one.vectors, one.vectors_column, f"evaluation set {one.name}")
            level, number, count = nearest_vectors(self.x[left], blocks, above, f"evaluation set {one.name}", device)
            if one.path is not None and count != prints.num_rows:
                raise ValueError(
                    f"evaluation set {one.name}: {prints.num_rows:,} pictures and {count:,} vectors; give a vector for "
                    "each picture, in their order, or the vectors alone"
                )
            self._note(match, "vectors", left, 1 - level / UNIT, number)
        return match

    def _note(self, match: Match, by: str, rows: np.ndarray, distance: np.ndarray, number: np.ndarray) -> None:
        hit = number != NONE
        match.by[rows[hit]] = BY.index(by)
        match.distance[rows[hit]], match.number[rows[hit]] = distance[hit], number[hit]


def nearest_prints(
    queries: np.ndarray, prints: pa.Table, field: str, most: int, min_quality: int
) -> tuple[np.ndarray, np.ndarray]:
    """(bits to the nearest picture, its row) of each hash; see `stages.eval_hashes`. Of the prints, some at a time."""
    bits, row = np.full(len(queries), NONE), np.full(len(queries), NONE)
    for start in range(0, len(prints), AT_ONCE):
        words, of = eval_hashes(prints.slice(start, AT_ONCE), field, min_quality)
        near, at = nearest_hashes(queries, words, of + start, most)
        better = (near != NONE) & ((bits == NONE) | (near < bits))  # of equally near ones the first stays
        bits[better], row[better] = near[better], at[better]
    return bits, row


@dataclass(frozen=True)
class Hits:
    """The samples that match one set: its number, their rows, and the names of the pictures."""

    set: int
    rows: np.ndarray
    match: Match
    items: pa.Array

    @classmethod
    def of(cls, number: int, match: Match, prints: pa.Table) -> Hits:
        rows = np.flatnonzero(match.by != NONE)
        numbers = pa.array(match.number[rows])
        items = prints.column("item").take(numbers) if prints.num_rows else pc.cast(numbers, pa.string())
        if isinstance(items, pa.ChunkedArray):
            items = pa.concat_arrays([pa.array([], pa.string()), *items.chunks])
        return cls(number, rows, Match(*(a[rows] for a in (match.by, match.distance, match.number))), items)


def found_table(rows: Rows, hits: Sequence[Hits]) -> pa.Table:
    """FOUND, a row a sample."""
    row = np.concatenate([h.rows for h in hits])
    by, distance, number = (np.concatenate([getattr(h.match, n) for h in hits]) for n in ("by", "distance", "number"))
    of_set = np.concatenate([np.full(len(h.rows), h.set) for h in hits])
    order = np.lexsort((of_set, distance, by, row))
    columns = {
        "set": of_set[order].astype(np.int32),
        "number": number[order],
        "item": pa.concat_arrays([h.items for h in hits]).take(pa.array(order)),
        "by": by[order].astype(np.int8),
        "distance": distance[order].astype(np.float32),
        "high": rows.high[row[order]],
        "low": rows.low[row[order]],
    }
    flat = pa.StructArray.from_arrays([pa.array(columns[f.name], f.type) for f in HIT], fields=list(HIT))
    starts = np.searchsorted(row[order], np.arange(len(rows.high) + 1)).astype(np.int32)
    found = pa.ListArray.from_arrays(pa.array(starts), flat, type=FOUND.field("found").type)
    return pa.table([found, pa.array(rows.missing)], schema=FOUND)


def spans_of(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Consecutive shards of one generation with some ROWS samples; by a name with a digest of them.

    Unlike those of `stages.shuffle.Layout` they stay what they are, however large the pool becomes.
    """
    return {_named(shape, group): group for of in shape.split() for group in _groups(of)}


def _named(shape: Shape, group: tuple[int, ...]) -> str:
    return f"{shard_name(group[0])}-{shard_name(group[-1])}-{shape.among(group).digest()}"


def _groups(shape: Shape) -> Iterator[tuple[int, ...]]:
    group: list[int] = []
    held = 0
    for shard, rows in zip(shape.shards, shape.rows, strict=True):
        if group and held + rows > ROWS:
            yield tuple(group)
            group, held = [], 0
        group.append(shard)
        held += rows
    if group:
        yield tuple(group)
