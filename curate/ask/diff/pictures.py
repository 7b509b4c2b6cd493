"""The samples that the page shows: looked up, with the reason of the filter that dropped them and what stayed instead.

shown = sheets(pool, diff)
shown.of[("only A", 3)], shown.keepers[uid]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.ask.diff.numbers import Diff
from curate.ask.diff.rows import ONLY_A, ONLY_B, Sheet
from curate.ask.diff.shard import Shard
from curate.ask.diff.sides import NOT_NAMED, Side
from curate.ask.diff.texts import in_words
from curate.ask.pictures import Shown, look_up, of_shard
from curate.ask.report.candidates import Place
from curate.pool.pool import Pool


@dataclass(frozen=True)
class Sheets:
    """Samples of each sheet, and the samples for which the duplicates among them were dropped."""

    of: dict[Sheet, list[Shown]]
    keepers: dict[bytes, Shown]


def sheets(pool: Pool, diff: Diff) -> Sheets:
    """Look up what was drawn; of a lost duplicate also the sample that stays."""
    found = {sheet: _shown(pool, diff, sheet, places) for sheet, places in diff.shown.items()}
    wanted = {s.dup_of for samples in found.values() for s in samples if s.dup_of}
    return Sheets(found, _keepers(pool, wanted, set(diff.a.shards) | set(diff.b.shards)))


def _shown(pool: Pool, diff: Diff, sheet: Sheet, places: Sequence[Place]) -> list[Shown]:
    kind, fate = sheet
    side = {ONLY_A: diff.b, ONLY_B: diff.a}.get(kind)
    if side is None:
        words = _both_ways(pool, diff, places)
        return [replace(s, reason=words[s.shard, s.row]) for s in look_up(pool, places)]
    step = side.step(fate)
    if step is not None:
        return look_up(pool, places, step["folder"])
    reason = "not in the file" if side.fates[fate] == NOT_NAMED else side.fates[fate]
    return [replace(s, reason=reason) for s in look_up(pool, places)]


def _both_ways(pool: Pool, diff: Diff, places: Iterable[Place]) -> dict[Place, str]:
    """How both sides send a sample on: "A 1x web; B 2x web"."""
    by_shard: dict[int, list[int]] = {}
    for shard, row in places:
        by_shard.setdefault(shard, []).append(row)
    found: dict[Place, str] = {}
    for number, rows in by_shard.items():
        told = [_sends(Shard(pool, number), side, rows) for side in (diff.a, diff.b)]
        found |= {(number, row): f"A {x}; B {y}" for row, x, y in zip(rows, *told, strict=True)}
    return found


def _sends(shard: Shard, side: Side, rows: list[int]) -> list[str]:
    if side.named is not None:
        from curate.subset import times_named

        return [f"{n}×" for n in times_named(side.named, shard.uid.take(pa.array(rows)))]
    emit = shard.aligned(f"{side.pick}", ["emit"]).column("emit")
    return [in_words(e) for e in emit.take(rows).to_pylist()]


def _keepers(pool: Pool, wanted: set[bytes], shards: Iterable[int]) -> dict[bytes, Shown]:
    values = pa.array(sorted(wanted - set(pool.removed.to_pylist())), pa.binary(16)) if wanted else pa.array([])
    found: dict[bytes, Shown] = {}
    for number in sorted(shards):
        if len(found) == len(values):
            break
        rows = np.flatnonzero(pc.is_in(Shard(pool, number).uid, value_set=values).to_numpy(zero_copy_only=False))
        if len(rows):
            found |= {s.uid: s for s in of_shard(pool, number, rows.tolist(), None)}
    return found
