"""Samples on their way to a decision and back: equal ones of a span travel as one entry, groups come together whole.

    entries, copies = once(rows, same, best)         # a span's; copies never leave it
    for rows in Bucket(files, same, best): ...       # a bucket's entries, whole groups, no more than fit
    by_shard(span, answered(touched, answers))       # a span's answers, for entries and copies alike

An entry has: group_high, group_low, the columns of `same` (what makes samples equal), those of `best` (smallest is
best), place, first_high and first_low (the smallest uid of its samples), count (of its samples), copy_of (its place).
Thirty million copies of one picture are as many rows of a bucket as there are spans.

A group is *large* if it has more than `LARGEST` nodes; of equal samples, `EQUAL` count as nodes of their own, which
hangs on the samples only, not on spans. Large groups are not decided with the others: `Bucket.large` has the best of
each.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa

from stages.base import Inputs, PhaseFile
from stages.shuffle import Arrays, arrays, bucket, find, first_shard, joined, places, split, starts_of

HELD = 1 << 22
"""Entries that are held at once: about 100 bytes each, and as much again while they are sorted."""
LARGEST = 1 << 22
EQUAL = 64

Names = tuple[str, ...]
GROUP = ("group_high", "group_low")


def sorted_by(rows: Arrays, names: Names) -> np.ndarray:
    """int64 (n,): the order by these columns in turn."""
    return np.lexsort([rows[n] for n in reversed(names)])


def once(rows: Arrays, same: Names, best: Names) -> tuple[Arrays, Arrays]:
    """(entries, copies): the best row of all equal ones, and the others, with the same columns.

    Args:
        rows: the columns of `same` and `best`, high, low (the uid) and place.
    """
    order = sorted_by(rows, (*same, *best))
    starts = starts_of(*(rows[n][order] for n in same))
    count = np.diff(np.append(starts, len(order)))
    number = np.repeat(np.arange(len(starts)), count)
    uids = {"number": number, "high": rows["high"][order], "low": rows["low"][order]}
    first = sorted_by(uids, ("number", "high", "low"))[starts]
    entries = {n: a[order] for n, a in rows.items()}
    entries["first_high"], entries["first_low"] = uids["high"][first][number], uids["low"][first][number]
    entries["count"], entries["copy_of"] = count[number], entries["place"][starts][number]
    is_first = np.zeros(len(order), bool)
    is_first[starts] = True
    return {n: a[is_first] for n, a in entries.items()}, {n: a[~is_first] for n, a in entries.items()}


class Bucket:
    """The entries of one bucket, as often as they are asked for.

    Args:
        files: its table of each span, of the bucket's entries.
        buckets: how many buckets there are.
        same: () where groups are of equal samples: such a group cannot be large.
    """

    def __init__(self, files: Inputs, buckets: int, same: Names, best: Names) -> None:
        self._files, self._buckets, self._same, self._best = files, buckets, same, best
        self._all = self._few()
        self.rows, sizes = 0, _Sizes(same)
        for rows in (rows for _, rows in self._read()) if self._all is None else (self._all,):
            self.rows += len(rows["place"])
            if same and (self._all is None or _weight(rows).sum() > LARGEST):
                sizes.add(rows)
        self.large_groups = sizes.large()
        """(high, low) of each; which they are hangs on the samples, not on how many of their entries are held."""

    def __iter__(self) -> Iterator[Arrays]:
        """Entries of whole groups: all of them, or of some after the others."""
        if self._all is not None:
            yield taken(self._all, self._turn(self._all, 1) == 0) if self.large_groups else self._all
            return
        times = 1 << (2 * self.rows // HELD).bit_length()
        for turn in range(times):
            yield joined([taken(rows, self._turn(rows, times) == turn) for _, rows in self._read()])

    @cached_property
    def large(self) -> Arrays:
        """(place, kept_high, kept_low, group_high, group_low): the best sample of each large group, a row a span that
        has samples of the group; the place is one of that span. For where there are large groups."""
        found: list[Arrays] = []
        for span, rows in self._read():
            for number, (high, low) in enumerate(self.large_groups):
                some = taken(rows, (rows["group_high"] == high) & (rows["group_low"] == low))
                if len(some["place"]):
                    best = taken(some, sorted_by(some, self._best)[:1])
                    found.append(best | {"number": np.array([number]), "span": places(first_shard(span), 1)})
        rows = joined(found)
        order = sorted_by(rows, ("number", *self._best))
        starts = starts_of(rows["number"][order])
        kept = np.empty(len(starts), np.int64)
        kept[rows["number"][order][starts]] = order[starts]
        of = kept[rows["number"]]
        answer = {"place": rows["span"], "kept_high": rows["high"][of], "kept_low": rows["low"][of]}
        return answer | {n: rows[n] for n in GROUP}

    def _few(self) -> Arrays | None:
        """All entries below one another, or None where they are more than may be held."""
        found: list[Arrays] = []
        for _, rows in self._read():
            found.append(rows)
            if sum(len(f["place"]) for f in found) > HELD:
                return None
        return joined(found)

    def _read(self) -> Iterator[tuple[str, Arrays]]:
        for key, table in zip(self._files.keys, self._files, strict=True):
            assert isinstance(key, PhaseFile)
            yield key.part, arrays(table)

    def _turn(self, rows: Arrays, times: int) -> np.ndarray:
        """Which turn each row's group has; none (-1), where the group is large."""
        turn = bucket(rows["group_high"], rows["group_low"], self._buckets * times) % times
        for high, low in self.large_groups:
            turn[(rows["group_high"] == high) & (rows["group_low"] == low)] = -1
        return turn


class _Sizes:
    """Finds large groups in entries that come span by span, holding each node of the other groups once."""

    def __init__(self, same: Names) -> None:
        self._names = (*same, *GROUP, "count")
        self._same = same
        self._nodes: Arrays | None = None
        self._waiting: list[Arrays] = []
        self._large: list[tuple[np.uint64, np.uint64]] = []

    def add(self, rows: Arrays) -> None:
        self._waiting.append({n: rows[n] for n in self._names})
        known = 0 if self._nodes is None else len(self._nodes["count"])
        if sum(len(w["count"]) for w in self._waiting) > max(known, HELD // 4):
            self._merge()

    def large(self) -> list[tuple[np.uint64, np.uint64]]:
        """(high, low) of their uids."""
        if self._waiting:
            self._merge()
        return self._large

    def _merge(self) -> None:
        nodes = joined([*([] if self._nodes is None else [self._nodes]), *self._waiting])
        for high, low in self._large:
            nodes = taken(nodes, (nodes["group_high"] != high) | (nodes["group_low"] != low))
        nodes = taken(nodes, sorted_by(nodes, self._same))
        starts = starts_of(*(nodes[n] for n in self._same))
        count = np.add.reduceat(nodes["count"], starts) if len(starts) else nodes["count"]
        nodes = taken(nodes, starts) | {"count": count}
        nodes = taken(nodes, sorted_by(nodes, GROUP))
        begin = starts_of(*(nodes[n] for n in GROUP))
        weight = _weight(nodes)
        size = np.add.reduceat(weight, begin) if len(begin) else weight
        over = begin[size > LARGEST]
        self._large += zip(nodes["group_high"][over], nodes["group_low"][over], strict=True)
        self._nodes, self._waiting = taken(nodes, ~np.repeat(size > LARGEST, np.diff([*begin, len(weight)]))), []


def _weight(rows: Arrays) -> np.ndarray:
    """int64 (n,): what each node counts of its group; of entries, at least that together."""
    return np.minimum(rows["count"], EQUAL)


def answered(touched: Arrays, answers: Arrays) -> Arrays:
    """What is said of a span's samples that do not stay: place, kept_high, kept_low, distance, component_high,
    component_low, whole.

    Args:
        touched: the span's entries and copies.
        answers: the same columns for entries by their place, and where `whole` for all of a group, which is then the
            component, that have no answer of their own.
    """
    own = taken(answers, ~answers["whole"])
    own = taken(own, np.argsort(own["place"]))
    hit, at = find(own["place"], touched["copy_of"])
    found = [taken(own, at[hit]) | {n: touched[n][hit] for n in ("place", "high", "low")}]
    for group in np.flatnonzero(answers["whole"]):
        mine = ~hit & (touched["group_high"] == answers["component_high"][group])
        mine &= touched["group_low"] == answers["component_low"][group]
        row = np.full(np.count_nonzero(mine), group)
        found.append(taken(answers, row) | {n: touched[n][mine] for n in ("place", "high", "low")})
    rows = joined(found)
    gone = (rows["high"] != rows["kept_high"]) | (rows["low"] != rows["kept_low"])
    return {n: a[gone] for n, a in rows.items() if n not in ("high", "low")}


def by_shard(span: str, rows: Arrays) -> list[pa.Table]:
    """A table for each shard number of the span, by place."""
    rows = taken(rows, np.argsort(rows["place"]))
    first, last = (int(n) for n in span.split("-")[:2])
    return split(rows, (rows["place"] >> np.uint64(32)).astype(np.int64) - first, last - first + 1)


def taken(rows: Arrays, chosen: np.ndarray) -> Arrays:
    return {n: a[chosen] for n, a in rows.items()}
