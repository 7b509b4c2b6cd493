"""Which samples the report shows: per filter some that it dropped and some that it kept, drawn by their uids.

The draw is keyed (hash64 of filter and uid), so the same pick shows the same pictures in any order of shards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.ask.funnel import Funnel
from curate.pool.columns import read_table
from curate.pool.layout import PIXELS, marker, part_file
from curate.pool.pool import Pool
from stages.base import shard_name
from stages.draws import hash64

SHEET = 24  # samples on a contact sheet
SIDE = 176  # pixels of the longer side of a thumbnail
FACTS_SHOWN = ["uid", "url", "text", "width", "height", "tar_offset", "bytes"]


@dataclass(frozen=True)
class Shown:
    """A sample on the page. `thumbnail`: WebP bytes, or None and `why_not`."""

    uid: bytes
    shard: int
    row: int
    reason: str | None
    dup_of: bytes | None = None
    text: str | None = None
    url: str | None = None
    width: int = 0
    height: int = 0
    thumbnail: bytes | None = None
    why_not: str = ""


@dataclass
class Sheets:
    """Contact sheets by step id."""

    lost: dict[str, list[Shown]]
    kept: dict[str, list[Shown]]
    keepers: dict[bytes, Shown]  # uid -> the sample that stayed for a duplicate


class _Smallest:
    """The SHEET samples with the smallest draws seen so far."""

    def __init__(self, salt: str) -> None:
        self.salt = salt
        self.found: list[tuple[int, int, int]] = []  # (draw, shard, row)

    def add(self, shard: int, uid: pa.Array, rows: np.ndarray) -> None:
        if not len(rows):
            return
        draws = hash64(0, self.salt, uid)[rows]
        first = np.argsort(draws, kind="stable")[:SHEET]
        new = [(int(draws[i]), shard, int(rows[i])) for i in first]
        self.found = sorted(self.found + new)[:SHEET]


def choose(pool: Pool, pick: Funnel, shards: list[int]) -> Sheets:
    """Walk the pick once, remembering positions only; then read what is shown of the chosen."""
    ids = [s.id for s in pick.steps if s.folder]
    lost = {i: _Smallest(f"report:lost:{i}") for i in ids}
    kept = {i: _Smallest(f"report:kept:{i}") for i in ids}
    for shard in shards:
        uid = pool.facts(shard, ["uid"])[0].column("uid").combine_chunks()
        table, _ = read_table(pool.storage, part_file(pick.folder, shard_name(shard)), ["dropped_by"])
        gone = pc.is_in(uid, value_set=pool.removed).to_numpy(zero_copy_only=False)
        step = pc.index_in(table.column("dropped_by").combine_chunks(), value_set=pa.array(ids, pa.string()))
        number = step.fill_null(len(ids)).to_numpy()  # beyond the last: kept, or dropped by no filter
        for i, name in enumerate(ids):
            lost[name].add(shard, uid, np.flatnonzero((number == i) & ~gone))
            kept[name].add(shard, uid, np.flatnonzero((number > i) & ~gone))
    folders = {s.id: s.folder for s in pick.steps if s.folder}
    sheets = Sheets(
        {i: _look_up(pool, lost[i].found, folders[i]) for i in ids},
        {i: _look_up(pool, kept[i].found, None) for i in ids},
        {},
    )
    sheets.keepers = _keepers(pool, shards, sheets)
    return sheets


def _look_up(pool: Pool, chosen: list[tuple[int, int, int]], verdicts: str | None) -> list[Shown]:
    """The chosen samples in the order of their draws."""
    by_shard: dict[int, list[int]] = {}
    for _, shard, row in chosen:
        by_shard.setdefault(shard, []).append(row)
    found = {(s.shard, s.row): s for shard, rows in by_shard.items() for s in _of_shard(pool, shard, rows, verdicts)}
    return [found[shard, row] for _, shard, row in chosen]


def _of_shard(pool: Pool, shard: int, rows: list[int], verdicts: str | None) -> list[Shown]:
    table, footer = read_table(pool.storage, marker(shard), FACTS_SHOWN)
    facts = table.take(rows).to_pylist()
    said: list[dict[str, Any]] = [{} for _ in rows]
    if verdicts:
        said = read_table(pool.storage, part_file(verdicts, shard_name(shard)))[0].take(rows).to_pylist()
    return [
        _with_thumbnail(
            pool,
            f"{PIXELS}/{footer.get('tar')}",
            fact,
            Shown(fact["uid"], shard, row, verdict.get("reason"), verdict.get("dup_of")),
        )
        for row, fact, verdict in zip(rows, facts, said, strict=True)
    ]


def _with_thumbnail(pool: Pool, tar: str, fact: dict[str, Any], bare: Shown) -> Shown:
    known = {n: fact[n] for n in ("text", "url", "width", "height")}
    try:
        stored = pool.storage.read_range(tar, fact["tar_offset"], fact["bytes"])
    except FileNotFoundError:
        return replace(bare, **known, why_not="its tar is gone")
    if not stored.strip(b"\x00"):
        return replace(bare, **known, why_not="purged")
    thumbnail, why_not = small(stored)
    return replace(bare, **known, thumbnail=thumbnail, why_not=why_not)


def small(stored: bytes) -> tuple[bytes | None, str]:
    """(a WebP of at most SIDE pixels a side, "") or (None, why there is none). Never the stored bytes themselves."""
    from PIL import Image

    from stages.decode import DecodeError, encode, open_image

    try:
        image = open_image(stored)
    except DecodeError as e:
        return None, str(e)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return encode(image.convert("RGB"), "webp", 60), ""


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
            found |= {s.uid: s for s in _of_shard(pool, shard, rows.tolist(), None)}
        if len(found) == len(wanted):
            break
    gone = set(pool.removed.to_pylist()) if found else set()
    return {u: s for u, s in found.items() if u not in gone}
