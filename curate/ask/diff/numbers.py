"""Two sides compared over all shards that both have seen.

found = compare(pool, a, b)
found.both, found.only_a, found.jaccard, found.filters
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from curate.ask.diff.facts import FactTable, Totals
from curate.ask.diff.matching import Change, Pair, pairs, reordered, settings
from curate.ask.diff.rows import Compared, Ground, Sheet, compare_shard
from curate.ask.diff.shard import Shard
from curate.ask.diff.sides import Side
from curate.ask.report.candidates import Place, Smallest
from curate.errors import UserError
from curate.pool.columns import read_footer
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from curate.subset import distinct, times_named
from stages.base import shard_name

THREADS = 4  # at most: each holds one shard


@dataclass(frozen=True)
class LeftOut:
    """Shards that only one side has seen, and what it keeps there."""

    shards: int
    rows: int
    kept: int


@dataclass(frozen=True)
class FilterDiff:
    """One filter, in A, in B or in both. Rows of the compared shards.

    first_a, first_b: dropped by it first. gained: only B keeps them, and in A this filter dropped them first. lost:
    only A keeps them, and in B it is this filter that dropped them first. So all gains add up to what only B keeps,
    all losses to what only A keeps. reasons_*: most frequent first.
    """

    pair: Pair
    first_a: int | None
    first_b: int | None
    gained: int
    lost: int
    reasons_gained: tuple[tuple[str, int], ...]
    reasons_lost: tuple[tuple[str, int], ...]


@dataclass
class Diff:
    """All that differs between two sides."""

    pool: str
    a: Side
    b: Side
    shards: int
    left_out: tuple[LeftOut, LeftOut]
    rows: Compared
    pairs: list[Pair]
    changes: list[Change]
    tables: list[FactTable]
    named: tuple[int | None, int | None]  # different uids that a file names
    shown: Mapping[Sheet, list[Place]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Rows compared, removed ones left out."""
        return int(self.rows.fates.sum())

    @property
    def kept_a(self) -> int:
        return int(self.rows.fates[-1].sum())

    @property
    def kept_b(self) -> int:
        return int(self.rows.fates[:, -1].sum())

    @property
    def both(self) -> int:
        return int(self.rows.fates[-1, -1])

    @property
    def only_a(self) -> int:
        return self.kept_a - self.both

    @property
    def only_b(self) -> int:
        return self.kept_b - self.both

    @property
    def either(self) -> int:
        return self.kept_a + self.only_b

    @property
    def jaccard(self) -> float | None:
        """|A and B| / |A or B|; None where both are empty."""
        return self.both / self.either if self.either else None

    @property
    def other_copies(self) -> int:
        return sum(self.rows.copies.values())

    @property
    def same_pick(self) -> bool:
        return self.a.pick is not None and self.a.pick == self.b.pick

    @property
    def same_samples(self) -> bool:
        """Nothing differs in what goes on: neither samples nor copies nor texts."""
        return not (self.only_a or self.only_b or self.other_copies or self.rows.other_texts)

    @property
    def reordered(self) -> bool:
        return reordered(self.pairs)

    @cached_property
    def filters(self) -> list[FilterDiff]:
        return [f for f in map(self._filter, self.pairs) if f.pair.method or f.first_a or f.first_b]

    def _filter(self, pair: Pair) -> FilterDiff:
        fates, a, b = self.rows.fates, pair.a, pair.b
        return FilterDiff(
            pair,
            None if a is None else int(fates[a].sum()),
            None if b is None else int(fates[:, b].sum()),
            0 if a is None else int(fates[a, -1]),
            0 if b is None else int(fates[-1, b]),
            _of(self.rows.reasons_a, a),
            _of(self.rows.reasons_b, b),
        )


def _of(reasons: Counter[tuple[int, str]], fate: int | None) -> tuple[tuple[str, int], ...]:
    found = [(reason, n) for (by, reason), n in reasons.items() if by == fate and reason]
    return tuple(sorted(found, key=lambda r: (-r[1], r[0])))


def compare(pool: Pool, a: Side, b: Side, *, samples: int = 0) -> Diff:
    """Walk the shards that both have seen, once, some at a time; memory holds a few shards and sums.

    Args:
        samples: places of so many samples are drawn for each sheet of the page.

    Raises:
        UserError: a pick is not finished, or its files do not fit the pool.
    """
    common = sorted(set(a.shards) & set(b.shards))
    ground = Ground(pool, a, b, samples)
    rows = Compared(np.zeros((len(a.fates) + 1, len(b.fates) + 1), np.int64))
    totals, sheets = Totals(), dict[Sheet, Smallest]()
    with ThreadPoolExecutor(min(THREADS, len(os.sched_getaffinity(0)))) as threads:
        for found in threads.map(lambda shard: compare_shard(ground, shard), common):
            rows.add(found)
            totals.add(found.tallies)
            for sheet, candidates in found.candidates.items():
                sheets.setdefault(sheet, Smallest(samples)).add(candidates)
    return Diff(
        pool=pool.storage.url,
        a=a,
        b=b,
        shards=len(common),
        left_out=(_left_out(pool, a, common), _left_out(pool, b, common)),
        rows=rows,
        pairs=pairs(pool, a, b),
        changes=settings(a, b),
        tables=totals.tables(),
        named=(_named(a), _named(b)),
        shown={sheet: [c.place for c in chosen.found] for sheet, chosen in sheets.items()},
    )


def _named(side: Side) -> int | None:
    return None if side.named is None else distinct(side.named)


def _left_out(pool: Pool, side: Side, common: Sequence[int]) -> LeftOut:
    alone = sorted(set(side.shards) - set(common))
    if side.named is not None:
        counts = [times_named(side.named, Shard(pool, s).uid) for s in alone]
        return LeftOut(len(alone), sum(map(len, counts)), sum(int((c > 0).sum()) for c in counts))
    try:
        footers = [read_footer(pool.storage, part_file(f"{side.pick}", shard_name(s))) for s in alone]
    except FileNotFoundError as e:
        raise UserError(f"{pool.storage}/{side.pick} is not finished ({e}); run its recipe again") from e
    return LeftOut(len(alone), sum(f["rows"] for f in footers), sum(f["kept"] for f in footers))
