"""Groups of duplicates: for every filter that names the sample that stayed, who was dropped for whom.

largest, sizes = largest_groups(session, ground)       # counted in SQL, whatever their number
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.ask.report.candidates import Place, Rows, Smallest
from curate.ask.report.found import GroupSizes
from curate.ask.report.margins import Asked
from curate.ask.report.shards import Ground, Sight, walk
from curate.ask.sources import find_source
from curate.ask.sql import Session
from curate.pool.facts import UID

GROUPS = 12  # shown, over all filters
MEMBERS = 12  # shown of a group, beside the one that stayed


@dataclass
class Members:
    """A group: its filter, the uid that stayed for the others, how many they are with it, and some of the others."""

    step: Asked
    keeper: bytes
    size: int
    lost: Smallest = field(default_factory=lambda: Smallest(MEMBERS))


def largest_groups(session: Session, ground: Ground) -> tuple[list[Members], list[GroupSizes]]:
    """(the largest groups, filter by filter; how many groups of each size each filter found)."""
    found: list[list[Members]] = []
    sizes: list[GroupSizes] = []
    for step in ground.steps:
        source = find_source(ground.pool, session.views.facts, step.folder)
        if not ground.shards or "dup_of" not in {f.name for f in source.fields}:
            continue
        cursor = session.connection.cursor()
        rows = f"FROM {session.views.read(source, ground.shards)} WHERE NOT keep AND dup_of IS NOT NULL"
        cursor.execute(f"CREATE TEMP TABLE members AS SELECT dup_of, count(*) + 1 AS size {rows} GROUP BY dup_of")
        asked = "SELECT size, count(*) FROM members GROUP BY size ORDER BY size"
        sizes.append(GroupSizes(step.id, tuple(cursor.execute(asked).fetchall())))
        asked = f"SELECT dup_of, size FROM members ORDER BY size DESC, dup_of LIMIT {GROUPS}"
        found.append([Members(step, bytes(keeper), size) for keeper, size in cursor.execute(asked).fetchall()])
        cursor.close()
    return _in_share(found), sizes


def _in_share(found: Sequence[Sequence[Members]]) -> list[Members]:
    """Each filter's largest, an even share of what is shown; what one does not fill goes to the largest of others."""
    share = max(GROUPS // max(len(found), 1), 1)
    more = [(-m.size, rank, i, m) for i, of_step in enumerate(found) for rank, m in enumerate(of_step) if rank >= share]
    chosen = [m for of_step in found for m in of_step[:share]]
    chosen += [m for *_, m in sorted(more, key=lambda r: r[:3])][: max(GROUPS - len(chosen), 0)]
    return sorted(chosen, key=lambda m: (m.step.number, -m.size, m.keeper))


def find_samples(ground: Ground, uids: set[bytes], groups: Sequence[Members]) -> dict[bytes, Place]:
    """Where the samples with these uids lie; and the members of the groups, those least alike first.

    Removed samples are not found.
    """
    wanted = pa.array(sorted(uids), UID)
    found: dict[bytes, Place] = {}
    if not uids and not groups:
        return found
    for places, members in walk(ground, lambda sight: _look(sight, wanted, groups)):
        found |= places
        for group, more in zip(groups, members, strict=True):
            group.lost.add(more.found)
    return found


def _look(sight: Sight, wanted: pa.Array, groups: Sequence[Members]) -> tuple[dict[bytes, Place], list[Smallest]]:
    here = np.flatnonzero(pc.is_in(sight.uid, value_set=wanted).to_numpy(zero_copy_only=False) & sight.shown)
    places = {uid: (sight.shard, int(row)) for uid, row in zip(sight.uid.take(here).to_pylist(), here, strict=True)}
    members = [Smallest(MEMBERS) for _ in groups]
    rows = Rows(sight.shard, sight.uid)
    for step in {g.step.number: g.step for g in groups}.values():
        verdict = sight.verdict(step, ["dup_of", "distance"])
        keepers = pa.array([g.keeper for g in groups if g.step.number == step.number], UID)
        mine = [m for g, m in zip(groups, members, strict=True) if g.step.number == step.number]
        group = pc.index_in(verdict.column("dup_of").combine_chunks(), value_set=keepers).fill_null(-1)
        number = group.to_numpy(zero_copy_only=False)
        apart = np.zeros(len(number))
        if "distance" in verdict.column_names:
            apart = verdict.column("distance").cast(pa.float64()).fill_null(0).to_numpy()
        for i, smallest in enumerate(mine):
            at = np.flatnonzero((number == i) & sight.shown)
            smallest.add(rows.nearest(-apart[at], at, MEMBERS))
    return places, members
