"""Samples beside one evaluation set after another: the search of `stages.eval_matches`, in some shards at a time.

rows = Rows.of(table, bits={"phash256": 48}, min_quality=50, vectors=None)     # columns of some shards
match = rows.in_set(one, pieces, {"phash256": 48}, min_quality=50, above=None)  # Match: by, distance, number, item
found_table(rows, [Hits.of(0, match)])                                         # FOUND, a row a sample
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.base import Shape, shard_name
from stages.eval_hashes import NONE, nearest_hashes
from stages.eval_hits import BY
from stages.eval_prints import eval_hashes
from stages.eval_sets import EvalSet
from stages.eval_vectors import UNIT, nearest_vectors
from stages.hash_words import words_of
from stages.shuffle import consecutive, halves
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
    """Of each sample the match in one set: by int64 (n,), NONE where there is none; distance float64; number int64;
    item: names of pictures, None where there is none."""

    by: np.ndarray
    distance: np.ndarray
    number: np.ndarray
    item: np.ndarray


@dataclass
class Rows:
    """Samples, and what of theirs is compared. hashes: field -> (int64 (m,), uint64 (m, words)): the rows that have one
    which says something, and theirs."""

    high: np.ndarray
    low: np.ndarray
    missing: np.ndarray
    sha256: pa.Array | None
    hashes: dict[str, tuple[np.ndarray, np.ndarray]]
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
        hashes = {}
        for field in (f for f in fields if f in WORDS):
            quality = table.column("phash_quality").fill_null(0).to_numpy()
            clear = np.flatnonzero((quality >= max(min_quality, 1)) & table.column(field).is_valid().to_numpy())
            hashes[field] = clear, words_of(table.column(field), field, 64 * WORDS[field])[clear]
        x, there = np.zeros((table.num_rows, 1), np.float32), np.zeros(table.num_rows, bool)
        if vectors is not None:
            x, there = unit(table.column(vectors), f"decontamination: {vectors}")
            missing |= ~there
        sha256 = table.column("sha256").combine_chunks() if "sha256" in fields else None
        return cls(high, low, missing, sha256, hashes, x, there)

    def in_set(
        self,
        one: EvalSet,
        pieces: Iterable[pa.Table],
        bits: Mapping[str, int],
        min_quality: int,
        above: float | None,
        device: Device = "cpu",
    ) -> Match:
        """The strongest match of each sample in one set: equal bytes, then hashes in the order of `bits`, then vectors.

        Args:
            pieces: the set's prints, some after another; one is held at a time.

        Raises:
            ValueError: as `stages.eval_vectors`.
        """
        rows = len(self.high)
        match = Match(np.full(rows, NONE), np.zeros(rows), np.full(rows, NONE), np.full(rows, None, object))
        file = one.vector_file()
        if file is not None and above is not None:
            asked = np.flatnonzero(self.there)
            level, number = nearest_vectors(self.x[asked], file.blocks(), above, file.of, device)
            _note(match, "vectors", asked, 1 - level / UNIT, number)
        before = 0
        for prints in pieces:
            self._in_pictures(match, prints, before, bits, min_quality)
            before += prints.num_rows
        if one.path is None:
            found = np.flatnonzero(match.by != NONE)
            match.item[found] = match.number[found].astype(str)
        return match

    def _in_pictures(
        self, match: Match, prints: pa.Table, before: int, bits: Mapping[str, int], min_quality: int
    ) -> None:
        """Improve the match by some pictures of the set, `before` which there are so many others."""
        if self.sha256 is not None and prints.num_rows:
            same = pc.index_in(self.sha256, value_set=prints.column("sha256").combine_chunks()).fill_null(NONE)
            number = same.to_numpy().astype(np.int64)
            _note(match, "sha256", np.arange(len(number)), np.zeros(len(number)), number, before)
        for field, most in bits.items():
            clear, words = self.hashes[field]
            left = (match.by[clear] == NONE) | (match.by[clear] >= BY.index(field))  # else it has a stronger one
            distance, number = nearest_prints(words[left], prints, field, most, min_quality)
            _note(match, field, clear[left], distance, number, before)
        mine = np.flatnonzero((match.number >= before) & (match.number < before + prints.num_rows))
        match.item[mine] = prints.column("item").take(pa.array(match.number[mine] - before)).to_numpy()


def _note(match: Match, by: str, rows: np.ndarray, distance: np.ndarray, number: np.ndarray, before: int = 0) -> None:
    """Take over what is stronger than what there was; of equally strong ones the first stays."""
    code, known = BY.index(by), match.by[rows]
    nearer = (known == code) & (distance < match.distance[rows])
    better = (number != NONE) & ((known == NONE) | (known > code) | nearer)
    at = rows[better]
    match.by[at], match.distance[at], match.number[at] = code, distance[better], before + number[better]


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
    """The samples that match one set: its number, their rows, and what they match."""

    set: int
    rows: np.ndarray
    match: Match

    @classmethod
    def of(cls, number: int, match: Match) -> Hits:
        rows = np.flatnonzero(match.by != NONE)
        return cls(number, rows, Match(*(a[rows] for a in (match.by, match.distance, match.number, match.item))))


def found_table(rows: Rows, hits: Sequence[Hits]) -> pa.Table:
    """FOUND, a row a sample."""
    row = np.concatenate([h.rows for h in hits])
    by, distance, number = (np.concatenate([getattr(h.match, n) for h in hits]) for n in ("by", "distance", "number"))
    of_set = np.concatenate([np.full(len(h.rows), h.set) for h in hits])
    order = np.lexsort((of_set, distance, by, row))
    columns = {
        "set": of_set[order].astype(np.int32),
        "number": number[order],
        "item": np.concatenate([h.match.item for h in hits])[order],
        "by": by[order].astype(np.int8),
        "distance": distance[order].astype(np.float32),
        "high": rows.high[row[order]],
        "low": rows.low[row[order]],
    }
    flat = pa.StructArray.from_arrays([pa.array(columns[f.name], f.type) for f in HIT], fields=list(HIT))
    starts = np.searchsorted(row[order], np.arange(len(rows.high) + 1)).astype(np.int32)
    found = pa.ListArray.from_arrays(pa.array(starts), flat, type=FOUND.field("found").type)
    return pa.table([found, pa.array(rows.missing)], schema=FOUND)


def spans_of(shape: Shape, rows: int | None = None) -> dict[str, tuple[int, ...]]:
    """Consecutive shards of one generation with some `rows` samples, or ROWS; by a name with a digest of them.

    Unlike those of `stages.shuffle.Layout` they stay what they are, however large the pool becomes.
    """
    return {_named(shape, group): group for of in shape.split() for group in consecutive(of, rows or ROWS)}


def _named(shape: Shape, group: tuple[int, ...]) -> str:
    return f"{shard_name(group[0])}-{shard_name(group[-1])}-{shape.among(group).digest()}"
