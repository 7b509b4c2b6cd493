"""How many samples filters leave over, by picks that are there: some of their footers are read, never their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.pool.columns import read_footer
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from curate.run.walk import Walk
from stages.base import shard_name

LOOKED = 8  # shards of a pick


@dataclass(frozen=True)
class Shares:
    """Of the rows of a pick: share kept, copies for each row, and share dropped first by each filter id."""

    kept: float
    copies: float
    dropped: Mapping[str, float]

    def after(self, ids: Sequence[str]) -> float:
        """Share that filters of these ids leave over."""
        return max(0.0, 1 - sum(self.dropped.get(i, 0.0) for i in ids))


def shares(pool: Pool, walk: Walk, pick: str) -> Shares | None:
    """By this pick, else by the pick of the same recipe that shares most filters with it; None without any."""
    todo = {int(name) for p in walk.planned if p.kind == "pick" for name in p.makes[0].todo}
    found = _of(pool, pick, [s for s in walk.shards if s not in todo])
    if found is not None:
        return found
    name = pick.removeprefix("picks/").rpartition("@")[0]
    others = [f"picks/{n}" for n in pool.storage.folders("picks") if n.rpartition("@")[0] == name]
    mine = {i for i, _ in walk.verdicts}
    notes = {f: pool.about(f) for f in others}
    alike = sorted(others, key=lambda f: (len(mine ^ _ids(notes[f])), -len(notes[f].get("shards", [])), f))
    for folder in alike:
        found = _of(pool, folder, notes[folder].get("shards", []))
        if found is not None:
            return found
    return None


def _ids(note: Mapping[str, Any]) -> set[str]:
    return {s["id"] for s in note.get("steps", [])}


def _of(pool: Pool, folder: str, shards: Sequence[int]) -> Shares | None:
    """Sums over the footers of some shards, spread over all."""
    step = max(1, len(shards) // LOOKED)
    footers = []
    for shard in list(shards)[::step][:LOOKED]:
        try:
            footers.append(read_footer(pool.storage, part_file(folder, shard_name(shard))))
        except FileNotFoundError:
            continue
    rows = sum(f["rows"] for f in footers)
    if not rows:
        return None
    dropped = {i: sum(f["dropped"].get(i, 0) for f in footers) / rows for f0 in footers for i in f0["dropped"]}
    return Shares(sum(f["kept"] for f in footers) / rows, sum(f["times"] for f in footers) / rows, dropped)
