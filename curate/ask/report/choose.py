"""Which samples the report shows: per filter some that it dropped and some that it kept, drawn by their uids.

The draw is keyed (hash64 of filter and uid), so the same pick shows the same pictures in any order of shards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.ask.funnel import Funnel
from curate.ask.pictures import Shown, look_up, of_shard
from curate.pool.columns import read_table
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from stages.base import shard_name
from stages.draws import hash64

SHEET = 24  # samples on a contact sheet, where nobody says how many


@dataclass
class Sheets:
    """Contact sheets by step id."""

    lost: dict[str, list[Shown]]
    kept: dict[str, list[Shown]]
    keepers: dict[bytes, Shown]  # uid -> the sample that stayed for a duplicate
    final: list[Shown]  # of what the pick kept


class _Smallest:
    """The `size` samples with the smallest draws seen so far."""

    def __init__(self, salt: str, size: int) -> None:
        self.salt, self.size = salt, size
        self.found: list[tuple[int, int, int]] = []  # (draw, shard, row)

    def add(self, shard: int, uid: pa.Array, rows: np.ndarray) -> None:
        if not len(rows):
            return
        draws = hash64(0, self.salt, uid)[rows]
        first = np.argsort(draws, kind="stable")[: self.size]
        new = [(int(draws[i]), shard, int(rows[i])) for i in first]
        self.found = sorted(self.found + new)[: self.size]

    @property
    def places(self) -> list[tuple[int, int]]:
        """(shard, row) of the chosen, in the order of their draws."""
        return [(shard, row) for _, shard, row in self.found]


def choose(pool: Pool, pick: Funnel, shards: list[int], samples: int = SHEET) -> Sheets:
    """Walk the pick once, remembering positions only; then read what is shown of the chosen."""
    ids = [s.id for s in pick.steps if s.folder]
    lost = {i: _Smallest(f"report:lost:{i}", samples) for i in ids}
    kept = {i: _Smallest(f"report:kept:{i}", samples) for i in ids}
    final = _Smallest("report:final", samples)
    for shard in shards:
        uid = pool.facts(shard, ["uid"])[0].column("uid").combine_chunks()
        table, _ = read_table(pool.storage, part_file(pick.folder, shard_name(shard)), ["dropped_by", "times"])
        gone = pc.is_in(uid, value_set=pool.removed).to_numpy(zero_copy_only=False)
        step = pc.index_in(table.column("dropped_by").combine_chunks(), value_set=pa.array(ids, pa.string()))
        number = step.fill_null(len(ids)).to_numpy()  # beyond the last: kept, or dropped by no filter
        for i, name in enumerate(ids):
            lost[name].add(shard, uid, np.flatnonzero((number == i) & ~gone))
            kept[name].add(shard, uid, np.flatnonzero((number > i) & ~gone))
        final.add(shard, uid, np.flatnonzero((table.column("times").to_numpy() > 0) & ~gone))
    folders = {s.id: s.folder for s in pick.steps if s.folder}
    sheets = Sheets(
        {i: look_up(pool, lost[i].places, folders[i]) for i in ids},
        {i: look_up(pool, kept[i].places) for i in ids},
        {},
        look_up(pool, final.places),
    )
    sheets.keepers = _keepers(pool, shards, sheets)
    return sheets


def _keepers(pool: Pool, shards: list[int], sheets: Sheets) -> dict[bytes, Shown]:
    """The samples for which the shown duplicates were dropped."""
    wanted = {s.dup_of for shown in sheets.lost.values() for s in shown if s.dup_of}
    if not wanted:
        return {}
    values = pa.array(sorted(wanted), pa.binary(16))
    found: dict[bytes, Shown] = {}
    for shard in shards:
        uid = pool.facts(shard, ["uid"])[0].column("uid")
        rows = np.flatnonzero(pc.is_in(uid, value_set=values).to_numpy())
        if len(rows):
            found |= {s.uid: s for s in of_shard(pool, shard, rows.tolist(), None)}
        if len(found) == len(wanted):
            break
    gone = set(pool.removed.to_pylist()) if found else set()
    return {u: s for u, s in found.items() if u not in gone}
