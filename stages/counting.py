"""Exact counts of keys over a whole pool, in memory for a span of shards: what `key_counts`, `ngram_rarity` and
`word_counts` share.

A key is 128 bits of a hash, two uint64 arrays `key` and `check`. Each span of shards writes its keys once, with how
often it has them (`once`), into buckets; a bucket adds them up and writes, for each span, the totals of the keys that
this span has (`totals`); the span reads its shards again and looks its keys up (`back`). So a key that a billion rows
share is one row a span, and no row travels: only distinct keys do. Counts are integers: no order changes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

import stages.shuffle as shuffle
from stages.base import Input, Inputs, Output, Phase, PhaseFile
from stages.shuffle import NEED, Arrays, Layout, bucket, split, starts_of
from stages.tally import reduced

_NONE = {"key": np.empty(0, np.uint64), "check": np.empty(0, np.uint64), "count": np.empty(0, np.int64)}


def once(rows: Arrays) -> Arrays:
    """Each key once, in order of (key, check), with the sum of its counts.

    Args:
        rows: key, check: uint64 (n,); count: int64 (n,).
    """
    order = np.argsort(rows["key"], kind="stable")
    key, check = rows["key"][order], rows["check"][order]
    if ((key[1:] == key[:-1]) & (check[1:] != check[:-1])).any():  # half the hash agrees and the other does not
        order = np.lexsort((rows["check"], rows["key"]))
        key, check = rows["key"][order], rows["check"][order]
    starts = starts_of(key, check)
    count = np.add.reduceat(rows["count"][order], starts) if len(starts) else _NONE["count"]
    return {"key": key[starts], "check": check[starts], "count": count}


def all_once(parts: Iterable[Arrays]) -> Arrays:
    """`once` of rows that come part by part: `stages.tally.reduced`."""
    return reduced(chain([_NONE], parts), once)


def joined(parts: Sequence[Arrays]) -> Arrays:
    return shuffle.joined([_NONE, *parts])


def ones(key: np.ndarray, check: np.ndarray) -> Arrays:
    """Rows that count one each."""
    return {"key": key, "check": check, "count": np.ones(len(key), np.int64)}


def arrays(table: pa.Table) -> Arrays:
    return {name: table.column(name).to_numpy() for name in _NONE}


def to_buckets(rows: Arrays, count: int) -> Output:
    """A table for each of the `count` buckets."""
    return Output(split(rows, bucket(rows["key"], rows["check"], count), count), {"keys": len(rows["key"])})


@dataclass(frozen=True)
class Totals:
    """Counts by key, to look up; rows as `once` makes them."""

    rows: Arrays

    def of(self, key: np.ndarray, check: np.ndarray) -> np.ndarray:
        """int64 (n,): the count of each key; 0 where there is none."""
        keys, checks, counts = (self.rows[name] for name in ("key", "check", "count"))
        if not len(keys):
            return np.zeros(len(key), np.int64)
        at = np.searchsorted(keys, key)
        while True:  # keys that agree in one half stand in a row
            here = np.minimum(at, len(keys) - 1)
            same = (at < len(keys)) & (keys[here] == key)
            other = same & (checks[here] != check)
            if not other.any():
                return np.where(same, counts[here], 0)
            at = at + other


def totals(inputs: Inputs, wanted: str, counted: str | None = None) -> Output:
    """For each span, the totals of its keys in one bucket.

    Args:
        wanted: the phase whose files, one a span, name the keys. counted: that whose files count them, if another.
    """
    asked = [arrays(table) for table in inputs.select(PhaseFile, wanted)]
    whole = once(joined(asked)) if counted is None else all_once(map(arrays, inputs.select(PhaseFile, counted)))
    found = Totals(whole)
    tables = [pa.table({**rows, "count": found.of(rows["key"], rows["check"])}) for rows in asked]
    return Output(tables, {"keys": len(whole["key"]), "largest": int(whole["count"].max(initial=0))})


def back(layout: Layout, name: str, of: str, extra: Sequence[Input] = ()) -> Phase:
    """One part a span: its shards again, its table of each bucket of phase `of`, and the `extra` inputs."""
    shards, found = layout.from_shards(name), layout.gathered(name, of)
    return Phase(name, layout.spans, lambda part: (*extra, *found.inputs(part), *shards.inputs(part)), need=NEED)


def by_shard(tables: dict[int, pa.Table], part: str, empty: pa.Schema) -> list[pa.Table]:
    """The tables of a span's shards as the tables of its file: one a shard number from its first to its last."""
    first, last = (int(n) for n in part.split("-")[:2])
    return [tables.get(shard, empty.empty_table()) for shard in range(first, last + 1)]
