"""All that a pool knows of single samples: facts, columns, downloads, verdicts, duplicates.

told = tell(handle, find(handle, ["48026dc9"]))      # uids in full, or their first digits where those are unique
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.ask.funnel import pick_folders
from curate.ask.sources import FACTS_KEY, Source, refuse_misaligned
from curate.ask.types import quoted
from curate.errors import UserError
from curate.pool.columns import read_table
from curate.pool.facts import UID
from curate.pool.layout import PIXELS, fetch_log, marker, part_file
from curate.pool.lists import RETRY, Claim
from curate.pool.pool import Pool
from filters.base import sql_string
from stages.base import shard_name

if TYPE_CHECKING:
    from curate.ask.handle import Handle

CANDIDATES = 8  # uids that an error names when the first digits are not enough
TWINS = 20  # other members of a group that are named

IN_POOL, REMOVED, NO_IMAGE, LISTED = "in the pool", "removed", "no image", "not fetched yet"


@dataclass(frozen=True)
class Found:
    """A uid (32 hex digits), what it is to the pool, and where its row is."""

    uid: str
    state: str
    shard: int = -1
    row: int = -1


@dataclass(frozen=True)
class Verdict:
    """What a filter said: keep None where it was not asked. more: what else stands in its verdict (dup_of, ...)."""

    id: str
    filter: str
    keep: bool | None
    reason: str | None
    more: dict[str, Any]


@dataclass(frozen=True)
class Fate:
    """What became of a sample in a pick. times None: the pick was made before its shard was there."""

    pick: str
    times: int | None
    dropped_by: str | None
    reason: str | None
    verdicts: tuple[Verdict, ...]


@dataclass
class Told:
    """A sample. columns: folder -> {name in SQL: value}. twins: column of a group -> uids of its other members."""

    uid: str
    state: str
    shard: int = -1
    row: int = -1
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    fetches: list[dict[str, Any]] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)
    twins: dict[str, list[str]] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        return self.columns.get(PIXELS, {})


# ---------------------------------------------------------------- which sample is meant


def find(handle: Handle, asked: Iterable[str]) -> list[Found]:
    """The samples that a person names, in that order, each once.

    Raises:
        UserError: naming what is no uid, is unknown to the pool, or begins several uids (and those).
    """
    return list(dict.fromkeys(_find_one(handle, word.strip()) for word in asked))


def _find_one(handle: Handle, word: str) -> Found:
    digits = word.lower()
    if digits and set(digits) <= set(string.hexdigits) and len(digits) <= 32:
        found = _beginning(handle, digits)
        if not found and len(digits) < 32:
            found = _beginning(handle, digits.zfill(32))  # short uids of the input are padded on the left
    else:
        found = []
    found = found or _by_source_id(handle, word)
    if len(found) == 1:
        return found[0]
    where = f"{handle.pool.storage}: "
    if not found:
        raise UserError(f"{where}no sample, download or list has the uid {word[:80]!r} (32 hex digits, or the first)")
    names = ", ".join(f"{f.uid} ({f.state})" for f in found[:CANDIDATES])
    more = ", and more" if len(found) > CANDIDATES else ""
    raise UserError(f"{where}{word!r} begins several uids: {names}{more}; give more digits")


def _beginning(handle: Handle, digits: str) -> list[Found]:
    """Known uids that begin so; of samples, removed and failed ones, and only else of lists."""
    matches = f"uid = '{digits}'" if len(digits) == 32 else f"starts_with(uid, '{digits}')"
    limit = f"WHERE {matches} LIMIT {CANDIDATES + 1}"
    removed = [Found(u, REMOVED) for (u,) in handle.sql(f"SELECT uid FROM removed {limit}").fetchall()]
    if removed and len(digits) == 32:
        return removed
    rows = handle.sql(f"SELECT uid, shard, row FROM samples {limit}").fetchall()
    found = {u: Found(u, IN_POOL, shard, row) for u, shard, row in rows} | {f.uid: f for f in removed}
    if not found or len(digits) < 32:
        for uid, shard in handle.sql(
            f"SELECT uid, max(shard) FROM fetches WHERE {matches} GROUP BY uid LIMIT {CANDIDATES + 1}"
        ).fetchall():
            found.setdefault(uid, Found(uid, NO_IMAGE, shard))
    return sorted(found.values(), key=lambda f: f.uid) or _listed(handle, matches)


def _by_source_id(handle: Handle, word: str) -> list[Found]:
    """By the input's own name of a sample, where that was no uid."""
    query = f"SELECT uid, shard, row FROM samples WHERE source_id = {sql_string(word)} LIMIT {CANDIDATES + 1}"
    return [Found(uid, IN_POOL, shard, row) for uid, shard, row in handle.sql(query).fetchall()]


def _listed(handle: Handle, matches: str) -> list[Found]:
    """Samples that were listed, but of which no download is noted."""
    rows = handle.listed(f"SELECT uid, shard FROM listed WHERE {matches} LIMIT {CANDIDATES + 1}")
    removed = {u.hex() for u in handle.pool.removed.to_pylist()}
    return [Found(uid, REMOVED if uid in removed else LISTED, shard) for uid, shard in rows]


@dataclass(frozen=True)
class Stored:
    """The stored bytes of a picture; format: jpg, png or webp."""

    data: bytes
    format: str


def stored(pool: Pool, found: Found) -> Stored:
    """The picture's stored bytes.

    Raises:
        UserError: why it has none.
    """
    if found.state != IN_POOL:
        why = {
            REMOVED: "was removed from the pool",
            NO_IMAGE: "has no image: its download failed; `curate show` says why",
            LISTED: "was listed, but not fetched yet",
        }[found.state]
        raise UserError(f"{pool.storage}: {found.uid} {why}")
    facts, footer = read_table(pool.storage, marker(found.shard), ["tar_offset", "bytes", "format"])
    if not footer.get("tar"):
        raise UserError(f"{pool.storage}: {found.uid} has no picture: {marker(found.shard)} names no tar")
    fact, tar = facts.slice(found.row, 1).to_pylist()[0], f"{PIXELS}/{footer['tar']}"
    try:
        data = pool.storage.read_range(tar, fact["tar_offset"], fact["bytes"])
    except FileNotFoundError:
        raise UserError(f"{pool.storage}: {found.uid} has no picture any more: {tar} is gone") from None
    if not data.strip(b"\x00"):
        raise UserError(f"{pool.storage}: {found.uid} has no picture any more: its bytes were purged")
    return Stored(data, fact["format"] if fact["format"] in ("jpg", "png", "webp") else "bin")


# ---------------------------------------------------------------- what is known of it


def tell(handle: Handle, found: Sequence[Found]) -> list[Told]:
    """Everything about them, but nothing about removed ones."""
    told = [Told(f.uid, f.state, f.shard, f.row) for f in found]
    picks = [handle.pick] if handle.pick else pick_folders(handle.pool)
    for t in told:
        if t.state in (NO_IMAGE, LISTED):
            rows = handle.listed(f"SELECT url, text FROM listed WHERE uid = '{t.uid}'", t.shard)
            t.columns["lists"] = dict(zip(("url", "text"), rows[0], strict=True)) if rows else {}
        if t.state in (IN_POOL, NO_IMAGE):
            t.fetches = _fetches(handle.pool, t)
        if t.state == IN_POOL:
            _tell_columns(handle, t)
            t.fates = [_fate(handle.pool, folder, t) for folder in picks]
    _tell_twins(handle, [t for t in told if t.state == IN_POOL])
    return told


def _tell_columns(handle: Handle, told: Told) -> None:
    """Reads the files of the sample's shard, not the view: that would open every shard."""
    views, pool = handle.known, handle.pool
    facts, _ = read_table(pool.storage, marker(told.shard))
    told.columns[PIXELS] = _plain(facts.slice(told.row, 1).to_pylist()[0])
    names = {place: name for name, place in views.names.items()}
    for source in views.sources.values():
        if source.folder == FACTS_KEY or source.folder.startswith("picks/") or told.shard not in source.shards:
            continue
        refuse_misaligned(views.facts, source, [told.shard])
        row = _row_of(pool, source, told)
        if row is not None:
            told.columns[source.folder] = {names.get((source.folder, n), n): v for n, v in row.items()}


def _row_of(pool: Pool, source: Source, told: Told) -> dict[str, Any] | None:
    """The sample's row of a folder; None: a sparse stage was never asked about it."""
    if source.parts is None:
        table, _ = read_table(pool.storage, part_file(source.folder, shard_name(told.shard)))
        return _plain(table.slice(told.row, 1).to_pylist()[0])
    uid = pa.scalar(bytes.fromhex(told.uid), UID)
    for rel in source.parts[told.shard]:
        table, _ = read_table(pool.storage, rel)
        hit = table.filter(pc.equal(table["uid"], uid))
        if hit.num_rows:
            return _plain({k: v for k, v in hit.slice(0, 1).to_pylist()[0].items() if k != "uid"})
    return None


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in row.items()}


def _fetches(pool: Pool, told: Told) -> list[dict[str, Any]]:
    """All attempts at its URL, in their order."""
    uid, rows = pa.scalar(bytes.fromhex(told.uid), UID), []
    for shard in _shards_of(pool, told.shard):
        for attempt in pool.fetch_logs().get(shard, ()):
            table, _ = read_table(pool.storage, fetch_log(shard, attempt))
            rows += table.filter(pc.equal(table["uid"], uid)).drop_columns(["uid"]).to_pylist()
    return sorted(rows, key=lambda r: (r["attempt"] or 0, str(r["time"])))


def _shards_of(pool: Pool, shard: int) -> list[int]:
    """The shards in which a sample of this one may have been tried: itself or, where there was a retry, its list's."""
    claims = [Claim.model_validate(c) for c in pool.claims() if "hash" in c]
    own = next((c for c in claims if shard in c.numbers), None)
    if own is None or not any(c.kind == RETRY and c.origin == own.origin for c in claims):
        return [shard]
    return [n for c in claims if c.origin == own.origin for n in c.numbers if n <= shard or c.kind == RETRY]


def _fate(pool: Pool, folder: str, told: Told) -> Fate:
    about, name = pool.about(folder), folder.removeprefix("picks/")
    row = _row_in(pool, folder, told)
    if row is None:
        return Fate(name, None, None, None, ())
    verdicts = []
    for step in about.get("steps", ()):
        said = _row_in(pool, step["folder"], told) or {}
        more = {k: v for k, v in said.items() if k not in ("keep", "reason") and v is not None}
        verdicts.append(Verdict(step["id"], step["filter"], said.get("keep"), said.get("reason"), more))
    return Fate(name, row["times"], row["dropped_by"], row["reason"], tuple(verdicts))


def _row_in(pool: Pool, folder: str, told: Told) -> dict[str, Any] | None:
    rel = part_file(folder, shard_name(told.shard))
    if not pool.storage.exists(rel):
        return None
    return _plain(read_table(pool.storage, rel)[0].slice(told.row, 1).to_pylist()[0])


def _tell_twins(handle: Handle, told: Sequence[Told]) -> None:
    """Who else is in their groups of duplicates: one query a column for all of them."""
    wanted: dict[str, dict[str, list[Told]]] = {}
    for t in told:
        for values in t.columns.values():
            for name, value in values.items():
                if name.split("@")[0].endswith("_group") and isinstance(value, str):
                    wanted.setdefault(name, {}).setdefault(value, []).append(t)
    for name, groups in wanted.items():
        listed = ", ".join(map(sql_string, groups))
        query = f"SELECT {quoted(name)} AS g, uid FROM samples WHERE {quoted(name)} IN ({listed}) ORDER BY uid"
        members: dict[str, list[str]] = {}
        for group, uid in handle.sql(query).fetchall():
            members.setdefault(group, []).append(uid)
        for group, owners in groups.items():
            for t in owners:
                t.twins[name] = [u for u in members.get(group, ()) if u != t.uid]
