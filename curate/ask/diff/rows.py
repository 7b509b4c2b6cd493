"""One shard, row by row, as both sides have it: who dropped what, which copies and texts differ.

    found = compare_shard(ground, shard)      # arrays no longer than the shard; only sums of it are kept

Verdicts are those of the picks: the first filter that dropped a row, and its reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.ask.diff.facts import Tallies, tallies
from curate.ask.diff.shard import Shard
from curate.ask.diff.sides import Side
from curate.ask.diff.texts import other_texts
from curate.ask.report.candidates import Candidate, Rows
from curate.errors import UserError
from curate.pool.pool import Pool
from curate.run.pick import PICK
from curate.subset import times_named

ONLY_A, ONLY_B = "only A", "only B"
OTHER_COPIES, OTHER_TEXTS = "other copies", "other texts"
Sheet = tuple[str, int]
"""(ONLY_A, number of the filter of B that dropped it), (ONLY_B, of A), (OTHER_COPIES or OTHER_TEXTS, 0)."""


@dataclass(frozen=True)
class Ground:
    """What is compared, and how many samples of each kind are shown."""

    pool: Pool
    a: Side
    b: Side
    samples: int

    @cached_property
    def removed(self) -> pa.Array:
        return self.pool.removed


@dataclass
class Fate:
    """What one side made of the rows of a shard.

    by: int (rows,), number of the fate that dropped it, or that of all fates where it is kept. times: int64 (rows,).
    reason: string, null where kept or not given. emit: as in picks; None for a file, which has no texts.
    """

    by: np.ndarray
    reason: pa.Array
    times: np.ndarray
    emit: pa.Array | None


@dataclass
class Compared:
    """Sums over rows; those of shards add up.

    fates: int64 (fates of A + 1, fates of B + 1), the last of each: kept. reasons_a: (fate of A, its reason) -> rows
    that only B keeps; reasons_b: (fate of B, its reason) -> rows that only A keeps. copies: (in A, in B) -> rows kept
    by both in another number of copies. times: copies in A and in B. removed: rows left out.
    """

    fates: np.ndarray
    removed: int = 0
    times: tuple[int, int] = (0, 0)
    reasons_a: Counter[tuple[int, str]] = field(default_factory=Counter)
    reasons_b: Counter[tuple[int, str]] = field(default_factory=Counter)
    copies: Counter[tuple[int, int]] = field(default_factory=Counter)
    other_texts: int = 0
    tallies: Tallies = field(default_factory=dict)
    candidates: dict[Sheet, list[Candidate]] = field(default_factory=dict)

    def add(self, other: Compared) -> None:
        """Sum up all but tallies and candidates, which are bounded elsewhere."""
        self.fates = self.fates + other.fates
        self.removed += other.removed
        self.times = (self.times[0] + other.times[0], self.times[1] + other.times[1])
        self.reasons_a.update(other.reasons_a)
        self.reasons_b.update(other.reasons_b)
        self.copies.update(other.copies)
        self.other_texts += other.other_texts


def compare_shard(ground: Ground, number: int) -> Compared:
    """Raises: UserError if a file of a pick is missing or does not belong to the shard."""
    shard = Shard(ground.pool, number)
    a, b = (_fate(side, shard) for side in (ground.a, ground.b))
    there = shard.there(ground.removed)
    kept_a, kept_b = len(ground.a.fates), len(ground.b.fates)
    fates = np.bincount((a.by * (kept_b + 1) + b.by)[there], minlength=(kept_a + 1) * (kept_b + 1))
    found = Compared(fates.reshape(kept_a + 1, kept_b + 1), int((~there).sum()))
    in_a, in_b = (a.by == kept_a) & there, (b.by == kept_b) & there
    found.times = (int(a.times[in_a].sum()), int(b.times[in_b].sum()))
    only_a, only_b, both = np.flatnonzero(in_a & ~in_b), np.flatnonzero(in_b & ~in_a), np.flatnonzero(in_a & in_b)
    found.reasons_b, found.reasons_a = _reasons(b, only_a), _reasons(a, only_b)
    same_times = a.times[both] == b.times[both]
    copies, texts = both[~same_times], both[:0]
    if a.emit is not None and b.emit is not None:
        texts = both[other_texts(a.emit.take(both), b.emit.take(both), same_times)]
    found.copies = _pairs(a.times[copies], b.times[copies])
    found.other_texts = len(texts)
    found.tallies = tallies(shard, (ground.a, ground.b), (both, only_a, only_b))
    if ground.samples:
        rows = Rows(number, shard.uid)
        sheets = {(OTHER_COPIES, 0): copies, (OTHER_TEXTS, 0): texts}
        sheets |= {(ONLY_A, int(j)): only_a[b.by[only_a] == j] for j in np.unique(b.by[only_a])}
        sheets |= {(ONLY_B, int(i)): only_b[a.by[only_b] == i] for i in np.unique(a.by[only_b])}
        found.candidates = {s: rows.drawn(_salt(ground, s), r, ground.samples) for s, r in sheets.items() if len(r)}
    return found


def _salt(ground: Ground, sheet: Sheet) -> str:
    kind, fate = sheet
    names = {ONLY_A: ground.b.fates, ONLY_B: ground.a.fates}.get(kind, [""])
    return f"diff:{kind}:{names[fate]}"


def _fate(side: Side, shard: Shard) -> Fate:
    if side.pick is None:
        assert side.named is not None
        times = times_named(side.named, shard.uid)
        return Fate((times > 0).astype(np.int64), pa.nulls(len(times), pa.string()), times, None)
    dropped_by, reason, times, emit = (c.combine_chunks() for c in shard.aligned(side.pick, PICK.names).columns)
    by = pc.index_in(dropped_by, value_set=pa.array(side.fates, pa.string()))
    if by.null_count != dropped_by.null_count:
        strange = set(pc.unique(dropped_by).to_pylist()) - {None, *side.fates}
        raise UserError(f"{side.pick}: shard {shard.number} names {sorted(strange)}, which its about.json does not")
    number = by.fill_null(len(side.fates)).to_numpy(zero_copy_only=False).astype(np.int64)
    return Fate(number, reason, times.to_numpy(zero_copy_only=False).astype(np.int64), emit)


def _reasons(fate: Fate, rows: np.ndarray) -> Counter[tuple[int, str]]:
    table = pa.table({"by": fate.by[rows], "reason": fate.reason.take(rows)})
    grouped = table.group_by(["by", "reason"]).aggregate([([], "count_all")])
    keys = zip(grouped.column("by").to_pylist(), grouped.column("reason").to_pylist(), strict=True)
    counts = grouped.column("count_all").to_pylist()
    return Counter({(by, reason or ""): n for (by, reason), n in zip(keys, counts, strict=True)})


def _pairs(a: np.ndarray, b: np.ndarray) -> Counter[tuple[int, int]]:
    pairs, counts = np.unique(np.stack([a, b], axis=1), axis=0, return_counts=True)
    return Counter({(int(x), int(y)): int(n) for (x, y), n in zip(pairs, counts, strict=True)})
