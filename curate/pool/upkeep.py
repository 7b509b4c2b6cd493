"""Taking things away: `gc` removes left-overs of dead processes, `purge` blanks the bytes of removed uids.

Nothing else in curate deletes or changes a committed file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.columns import read_footer
from curate.pool.facts import UID
from curate.pool.layout import PIXELS, RUNS, folder_name, marker
from curate.pool.lists import RETRY
from curate.pool.pool import Pool
from curate.pool.posix import TMP, PosixStorage
from stages.base import shard_name

DEFAULT_AGE_S = 2 * 3600.0  # longer than any shard may take
FRESH_S = 600.0  # a file committed later than this may be about to be named, whatever age was asked for
FAILED = ".failed.json"
TAR = re.compile(r"(\d{8})\.[0-9a-f]+\.tar")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing refers to, and why it may go."""

    rel: str
    size: int
    why: str


def leftovers(pool: Pool, older_than_s: float = DEFAULT_AGE_S) -> list[Leftover]:
    """What `gc` would remove: temporaries, tars and uid runs that lost a race or whose writer died, overcome failures.

    A run that finds a dead one's tar or uid run takes it over as it is, whatever its age; so, while a run is alive,
    what it may yet name stays.
    """
    temporaries, living = _temporaries(pool, older_than_s)
    busy = living or _running(pool)
    age = max(older_than_s, FRESH_S)
    orphans = [
        *_orphan_tars(pool, age, busy),
        *([] if busy else [*_orphan_runs(pool, age), *_orphan_retries(pool, age)]),
    ]
    return [*temporaries, *orphans, *_overcome(pool)]


def collect(pool: Pool, found: list[Leftover]) -> None:
    """Remove them, but for what has come into use since they were found."""
    runs, lists = _claimed_runs(pool), _claimed_lists(pool)
    for item in found:
        if item.rel.startswith(f"{TMP}/") and isinstance(pool.storage, PosixStorage):
            if (folder := pool.storage.path(item.rel)).exists():
                shutil.rmtree(folder)
        elif item.rel not in runs and item.rel.rpartition("/")[0] not in lists and not _is_named(pool, item.rel):
            pool.storage.delete(item.rel)


def _temporaries(pool: Pool, age: float) -> tuple[list[Leftover], bool]:
    """Folders that processes left behind; and is there one of a process that lives?"""
    if not isinstance(pool.storage, PosixStorage):
        return [], False
    found, living = [], False
    for name in pool.storage.folders(TMP):
        size, newest = _contents(pool.storage.path(f"{TMP}/{name}"))
        pid = _pid(name)
        if (pid is not None and not _alive(pid)) or (pid is None and time.time() - newest > age):
            found.append(Leftover(f"{TMP}/{name}", size, "temporary files of a dead process"))
        else:
            living |= pid != os.getpid()
    return found, living


def _contents(folder: Path) -> tuple[int, float]:
    """(bytes, time of the newest change); files may come and go meanwhile."""
    size, newest = 0, 0.0
    for root, _, names in os.walk(folder):
        for name in (".", *names):
            try:
                stat = Path(root, name).lstat()
            except FileNotFoundError:
                continue
            size += 0 if name == "." else stat.st_size
            newest = max(newest, stat.st_mtime)
    return size, newest


def _pid(name: str) -> int | None:
    """The process that made the folder `<host>-<pid>-<random>`; None if it ran on another machine."""
    host, _, pid = name.rpartition("-")[0].rpartition("-")
    return int(pid) if host == socket.gethostname() and pid.isdecimal() else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _running(pool: Pool) -> bool:
    """Does the status of some run say that it goes on, was it written of late, and is its process there?"""
    for run in pool.storage.folders(RUNS):
        rel = f"{RUNS}/{run}/status.json"
        status = json.loads(pool.storage.read(rel)) if pool.storage.exists(rel) else {}
        recent = status.get("state") == "running" and time.time() - status["updated"] < FRESH_S
        if recent and (status["host"] != socket.gethostname() or _alive(status["pid"])):
            return True
    return False


def _orphan_tars(pool: Pool, age: float, busy: bool) -> Iterator[Leftover]:
    """Tars that their shard's marker does not name; where there is no marker yet, a living run may name them."""
    entries = pool.storage.list(PIXELS)
    tars = [(e, int(number[1])) for e in entries if (number := TAR.fullmatch(e.name))]
    marked, of_shard = {e.name for e in entries}, Counter(shard for _, shard in tars)
    for entry, shard in tars:
        has_marker = f"{shard_name(shard)}.parquet" in marked
        if time.time() - entry.mtime < age or (busy and not has_marker) or (has_marker and of_shard[shard] == 1):
            continue
        if not _is_named(pool, f"{PIXELS}/{entry.name}"):
            yield Leftover(f"{PIXELS}/{entry.name}", entry.size, "a tar that no marker names")


def _is_named(pool: Pool, rel: str) -> bool:
    """Is this a tar that the marker of its shard names?"""
    folder, _, name = rel.rpartition("/")
    number = TAR.fullmatch(name)
    if folder != PIXELS or number is None or not pool.storage.exists(marker(int(number[1]))):
        return False
    return bool(read_footer(pool.storage, marker(int(number[1])))["tar"] == name)


def _overcome(pool: Pool) -> Iterator[Leftover]:
    """Notes of failures whose part has come since."""
    folders = [PIXELS]
    for kind in ("columns", "verdicts", "picks"):
        folders += [f"{kind}/{name}" for name in pool.storage.folders(kind)]
    for name in pool.storage.folders("barriers"):
        folders += [f"barriers/{name}/{phase}" for phase in pool.storage.folders(f"barriers/{name}")]
    for folder in folders:
        entries = pool.storage.list(folder)
        notes = [e for e in entries if e.name.endswith(FAILED)]
        there = {e.name for e in entries} if notes else set()
        for entry in notes:
            if f"{entry.name.removesuffix(FAILED)}.parquet" in there:
                yield Leftover(f"{folder}/{entry.name}", entry.size, "a failure that was overcome")


def _orphan_runs(pool: Pool, age: float) -> Iterator[Leftover]:
    used = _claimed_runs(pool)
    for folder in pool.storage.folders("uids"):
        for entry in pool.storage.list(f"uids/{folder}"):
            rel = f"uids/{folder}/{entry.name}"
            if rel not in used and time.time() - entry.mtime > age:
                yield Leftover(rel, entry.size, "uids of a list that lost its claim")


def _orphan_retries(pool: Pool, age: float) -> Iterator[Leftover]:
    """Shards of a retry are written before its claim: those that no claim names are a dead driver's."""
    used = _claimed_lists(pool)
    for name in pool.storage.folders("lists"):
        folder = f"lists/{name}"
        if name.startswith(f"{RETRY}-") and "@" in name and folder not in used:
            for entry in pool.storage.list(folder):
                if time.time() - entry.mtime > age:
                    yield Leftover(f"{folder}/{entry.name}", entry.size, "rows of a retry that lost its claim")


def _claimed_lists(pool: Pool) -> set[str]:
    return {folder_name("lists", c["list"], c["hash"]) for c in pool.claims() if "hash" in c}


def _claimed_runs(pool: Pool) -> set[str]:
    return {run for claim in pool.claims() for run in claim.get("uid_runs", ())}


@dataclass
class Purged:
    """What a purge did: uids asked for, images blanked, packs that still hold some of them."""

    asked: int
    blanked: int
    not_in_pool: int
    packs: list[str]


def parse_uids(lines: list[str]) -> pa.Array:
    """Uids as hex, one a line: binary(16).

    Raises:
        UserError: naming the line that is not 1 to 32 hex digits.
    """
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip("\ufeff \t\r\n").lower()
        if not text:
            continue
        if len(text) > 32 or any(c not in "0123456789abcdef" for c in text):
            raise UserError(f"line {number}: {line.strip()[:60]!r} is not a uid (up to 32 hex digits)")
        found.append(bytes.fromhex(text.zfill(32)))
    return pa.array(found, UID)


def purge(pool: Pool, uids: pa.Array, why: str) -> Purged:
    """Take uids out of every view, pick and pack to come, and blank their images; their rows stay.

    Safe to repeat: a purge that was cut short is finished by the same call.
    """
    if not len(uids):
        return Purged(0, 0, 0, [])
    pool.remove(uids, why)
    blanked = 0
    for shard in pool.shards():
        facts, footer = pool.facts(shard, ["uid", "tar_offset", "bytes"])
        hit = facts.filter(pc.is_in(facts["uid"], value_set=uids))
        if hit.num_rows:
            spans = list(zip(hit["tar_offset"].to_pylist(), hit["bytes"].to_pylist(), strict=True))
            pool.storage.blank(f"{PIXELS}/{footer['tar']}", spans)
            blanked += len(spans)
    distinct = len(set(uids.to_pylist()))
    return Purged(distinct, blanked, distinct - blanked, pool.storage.folders("packs"))
