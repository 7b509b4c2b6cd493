"""MetaCLIP's balancing, in pieces that the barrier `metaclip_counts` and the filters `metaclip*` share.

    c[e] = texts that contain entry e              p[e] = t / max(c[e], t)            1 for the tail, t / c for the head
    P(text) = 1 - product over its entries of (1 - p[e])                              0 where it has none

Entries are counted exactly, in integers, by keys: number of the list * 2^32 + number of the entry. Products are taken
over the entries in ascending order, so that P is the same to the last bit however shards are cut.
Followed: `balancing.py` of facebookresearch/MetaCLIP and, per language, the curation code of its second version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from stages.shuffle import find, starts_of

_LIST = np.uint64(32)
_ENTRY = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Matches:
    """The matches of a shard's rows, flat: `row` and `key` of each, by row and then ascending by entry."""

    rows: int
    row: np.ndarray
    key: np.ndarray

    @classmethod
    def of(cls, match_ids: pa.Array | pa.ChunkedArray, home: np.ndarray, asked: np.ndarray) -> Matches:
        """
        Args:
            match_ids: list<uint32>.
            home: int64 (rows,), the number of each row's list, -1 for none.
            asked: bool (rows,); the matches of other rows are left out.
        """
        if isinstance(match_ids, pa.ChunkedArray):
            match_ids = match_ids.combine_chunks()
        rows = len(match_ids)
        mine = asked & (home >= 0) & match_ids.is_valid().to_numpy(zero_copy_only=False)
        lengths = np.where(mine, match_ids.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), 0)
        entries = match_ids.filter(pa.array(mine)).flatten().to_numpy()
        row = np.repeat(np.arange(rows), lengths)
        return cls(rows, row, (home[row].astype(np.uint64) << _LIST) | entries.astype(np.uint64))

    def counted(self) -> pa.Table:
        """(key uint64, count int64), ascending by key."""
        key, count = np.unique(self.key, return_counts=True)
        return pa.table({"key": key, "count": count.astype(np.int64)})

    def texts(self) -> int:
        """Rows with a match."""
        return len(starts_of(self.row))


def added(tables: Iterable[pa.Table]) -> pa.Table:
    """The sum of tables of `counted`, one in memory at a time; of counters there is one an entry of a list."""
    totals: dict[int, np.ndarray] = {}
    for table in tables:
        key, count = table.column("key").to_numpy(), table.column("count").to_numpy()
        home = key >> _LIST
        starts = starts_of(home).tolist()
        for start, end in pairwise([*starts, len(home)]):
            entry = (key[start:end] & _ENTRY).astype(np.int64)
            have = totals.get(int(home[start]), np.zeros(0, np.int64))
            if len(have) <= entry[-1]:
                have = np.concatenate([have, np.zeros(entry[-1] + 1 - len(have), np.int64)])
            have[entry] += count[start:end]
            totals[int(home[start])] = have
    found = [np.flatnonzero(totals[n]) for n in sorted(totals)]
    keys = [(np.uint64(n) << _LIST) | e.astype(np.uint64) for n, e in zip(sorted(totals), found, strict=True)]
    counts = [totals[n][e] for n, e in zip(sorted(totals), found, strict=True)]
    return pa.table(
        {
            "key": np.concatenate([np.empty(0, np.uint64), *keys]),
            "count": np.concatenate([np.empty(0, np.int64), *counts]),
        }
    )


def by_list(counts: pa.Table, sizes: Sequence[int]) -> list[np.ndarray]:
    """int64 (entries of the list,) for each list: how many texts contain each entry."""
    key, count = counts.column("key").to_numpy(), counts.column("count").to_numpy()
    cuts = np.searchsorted(key, np.arange(len(sizes) + 1, dtype=np.uint64) << _LIST)
    dense = []
    for number, size in enumerate(sizes):
        mine = slice(cuts[number], cuts[number + 1])
        dense.append(np.zeros(size, np.int64))
        dense[-1][(key[mine] & _ENTRY).astype(np.int64)] = count[mine]
    return dense


# ---------------------------------------------------------------- thresholds and probabilities


def tail_share(counts: np.ndarray, t: int) -> float:
    """Share of the matches that fall on entries with fewer than `t`; 0 where nothing matches.

    Example: counts 1, 2, 3, 4, 10, 30, 50 and t 10 give 10 / 100.
    """
    total = int(counts.sum())
    return int(counts[counts < t].sum()) / total if total else 0.0


def threshold_of(counts: np.ndarray, share: float) -> int:
    """The t that leaves about `share` of the matches in the tail: the count at which the share below comes nearest.

    Counts of 0 take part, as in the published code; the answer is at least 1. Example: 1, 1, 1, 2, 5, 40, and 0.1: 2.
    """
    ascending = np.sort(counts)
    total = int(ascending.sum())
    if not total:
        return 1
    return max(1, int(ascending[np.argmin(np.abs(np.cumsum(ascending) / total - share))]))


def keep_probability(counts: np.ndarray, t: float) -> np.ndarray:
    """float64: t / max(count, t). Example: 5, 10, 100, 1000 and t 10 give 1, 1, 0.1, 0.01."""
    return t / np.maximum(counts, t)


@dataclass(frozen=True)
class Rule:
    """How t is found. `t`: that of the single list, or of English. `tail`: the share of the matches of the others that
    stays tail; None: as much as English has at `t`. Without `t`, all lists go by `tail`.
    """

    t: int | None
    tail: float | None = None
    english: str = "en"

    def thresholds(self, labels: Sequence[str], counts: Sequence[np.ndarray]) -> dict[str, int]:
        """t of each list, by label.

        Raises:
            ValueError: nothing says what the share is, and what to do.
        """
        given = dict(zip(labels, counts, strict=True))
        fixed = "" if list(labels) == [""] else self.english
        found = {} if self.t is None or fixed not in given else {fixed: self.t}
        if set(found) == set(given):
            return found
        share = self._english_share(given) if self.tail is None else self.tail
        return {label: threshold_of(c, share) for label, c in given.items()} | found

    def _english_share(self, given: Mapping[str, np.ndarray]) -> float:
        assert self.t is not None  # the owner sees to it that t or tail is there
        help_ = "the other lists take its share of the tail: give `tail:` (0.06 in the paper) instead"
        if self.english not in given:
            raise ValueError(f"metaclip: no list {self.english!r} among {', '.join(given)}; give `english:`; {help_}")
        if not given[self.english].any():
            raise ValueError(f"metaclip: no text contains an entry of the list {self.english!r}, and {help_}")
        return tail_share(given[self.english], self.t)


def head(counts: Sequence[np.ndarray], t: Sequence[int]) -> pa.Table:
    """(key uint64, p float64), ascending by key: the entries that are kept less often than always."""
    keys, ps = [np.empty(0, np.uint64)], [np.empty(0, np.float64)]
    for number, (count, limit) in enumerate(zip(counts, t, strict=True)):
        entry = np.flatnonzero(count > limit)
        keys.append((np.uint64(number) << _LIST) | entry.astype(np.uint64))
        ps.append(keep_probability(count[entry], limit))
    return pa.table({"key": np.concatenate(keys), "p": np.concatenate(ps)})


def told(labels: Sequence[str], counts: Sequence[np.ndarray], t: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """What a person wants to know of each list."""
    return {
        label: {
            "t": t[label],
            "entries": len(count),
            "matched_entries": int(np.count_nonzero(count)),
            "head_entries": int(np.count_nonzero(count > t[label])),
            "matches": int(count.sum()),
            "tail_share": tail_share(count, t[label]),
        }
        for label, count in zip(labels, counts, strict=True)
    }


def probability_of(matches: Matches, head: pa.Table) -> np.ndarray:
    """float64: p of each match."""
    hit, at = find(head.column("key").to_numpy(), matches.key)
    p = np.ones(len(matches.key))
    p[hit] = head.column("p").to_numpy()[at[hit]]
    return p


def chance(matches: Matches, p: np.ndarray) -> np.ndarray:
    """float64 (rows,): 1 - product of (1 - p) over the row's matches, multiplied in their order; 0 without any."""
    length = np.bincount(matches.row, minlength=matches.rows)
    first = np.cumsum(length) - length
    lost = np.ones(matches.rows)
    order = np.argsort(-length, kind="stable")
    descending = -length[order]
    for nth in range(int(length.max(initial=0))):
        some = order[: np.searchsorted(descending, -nth, side="left")]  # rows with more than nth matches
        lost[some] *= 1.0 - p[first[some] + nth]
    return 1.0 - lost
