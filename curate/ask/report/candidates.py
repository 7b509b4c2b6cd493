"""Which samples the report shows: drawn by their uids, or nearest to a bound.

The draw is keyed (hash64 of a salt and the uid), and ties go to the smaller uid, so the same pick shows the same
pictures in any order of shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from curate.ask.report.margins import in_words
from filters.base import Bound, Margin
from stages.draws import hash64_halves, uid_halves

Place = tuple[int, int]
"""(shard, row)."""

Key = tuple[float, ...]


@dataclass(order=True)
class Candidate:
    """A sample that may be shown; the smallest keys are. values: of each margin of the filter, NaN where none."""

    key: Key
    shard: int
    row: int
    values: tuple[float, ...] = field(default=(), compare=False)

    @property
    def place(self) -> Place:
        return self.shard, self.row


@dataclass
class Smallest:
    """The `size` candidates with the smallest keys seen so far."""

    size: int
    found: list[Candidate] = field(default_factory=list)

    def add(self, candidates: Iterable[Candidate]) -> None:
        self.found = sorted([*self.found, *candidates])[: self.size]


@dataclass
class Rows:
    """One shard's rows to choose from: uid halves, and per margin the values."""

    shard: int
    uid: pa.Array
    values: Sequence[np.ndarray] = ()

    def __post_init__(self) -> None:
        self.high, self.low = uid_halves(self.uid)

    def drawn(self, salt: str, rows: np.ndarray, size: int) -> list[Candidate]:
        """Those of `rows` (row numbers) with the smallest draws."""
        draws = hash64_halves(0, salt, self.high[rows], self.low[rows])
        first = np.argsort(draws, kind="stable")[:size]
        return [self._candidate((int(draws[i]),), rows[i]) for i in first]

    def nearest(self, distance: np.ndarray, rows: np.ndarray, size: int, rank: int = 0) -> list[Candidate]:
        """Those of `rows` with the smallest distance (one a row number), then the smallest uid; `rank` goes first."""
        if len(rows) > size:  # the smallest, and all that tie with the last of them
            rows, distance = (a[distance <= np.partition(distance, size - 1)[size - 1]] for a in (rows, distance))
        first = np.lexsort((self.low[rows], self.high[rows], distance))[:size]
        keys = [(rank, float(distance[i]), int(self.high[rows[i]]), int(self.low[rows[i]])) for i in first]
        return [self._candidate(key, rows[i]) for key, i in zip(keys, first, strict=True)]

    def _candidate(self, key: Key, row: np.integer) -> Candidate:
        return Candidate(key, self.shard, int(row), tuple(float(v[row]) for v in self.values))


def in_turn(lists: Sequence[Sequence[Candidate]], size: int) -> list[Candidate]:
    """One of each list after another, each place once: so that no bound crowds out the others."""
    found: dict[Place, Candidate] = {}
    for turn in range(max((len(x) for x in lists), default=0)):
        for candidates in lists:
            if turn < len(candidates) and len(found) < size:
                found.setdefault(candidates[turn].place, candidates[turn])
    return list(found.values())


def satisfies(values: np.ndarray, bound: Bound) -> np.ndarray:
    """bool: on the side that stays. NaN is on neither side."""
    at, side, _ = bound
    return np.asarray(values >= at if side == "above" else values <= at)


def score(margins: Sequence[Margin], values: Sequence[float], *, lost: bool) -> str:
    """What a filter measured, in words: of a lost sample, where some bounds are violated, those alone."""
    said: list[str] = []
    violated: list[str] = []
    for margin, value in zip(margins, values, strict=True):
        if np.isnan(value):
            continue
        broken = [b for b in margin.bounds if not satisfies(np.array(value), b)]
        for bounds, found in ((margin.bounds, said), (broken, violated)):
            if bounds:
                found.append(f"{margin.name} {in_words(value)} ({', '.join(label for *_, label in bounds)})")
    return ", ".join(violated if lost and violated else said)
