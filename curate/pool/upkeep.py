"""Taking things away: `gc` removes left-overs of dead processes, `purge` blanks the bytes of removed uids.

Nothing else in curate deletes or changes a committed file.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.columns import read_footer
from curate.pool.facts import UID
from curate.pool.layout import CLAIMS, PIXELS, marker
from curate.pool.pool import Pool
from curate.pool.posix import TMP, PosixStorage

DEFAULT_AGE_S = 2 * 3600.0  # longer than any shard may take


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing refers to, and why it may go."""

    rel: str
    size: int
    why: str


def leftovers(pool: Pool, older_than_s: float = DEFAULT_AGE_S) -> list[Leftover]:
    """What `gc` would remove: temporaries, tars and uid runs that lost a race or whose writer died."""
    return [*_temporaries(pool, older_than_s), *_orphan_tars(pool, older_than_s), *_orphan_runs(pool, older_than_s)]


def collect(pool: Pool, found: list[Leftover]) -> None:
    """Remove them."""
    for item in found:
        if item.rel.startswith(f"{TMP}/") and isinstance(pool.storage, PosixStorage):
            path = pool.storage.path(item.rel)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        else:
            pool.storage.delete(item.rel)


def _temporaries(pool: Pool, age: float) -> Iterator[Leftover]:
    if not isinstance(pool.storage, PosixStorage):
        return
    for name in pool.storage.folders(TMP):
        folder = pool.storage.path(f"{TMP}/{name}")
        files = [f for f in folder.rglob("*") if f.is_file()]
        newest = max((f.stat().st_mtime for f in files), default=folder.stat().st_mtime)
        if _dead(name) or time.time() - newest > age:
            yield Leftover(f"{TMP}/{name}", sum(f.stat().st_size for f in files), "temporary files of a dead process")


def _dead(name: str) -> bool:
    """Was the folder `<host>-<pid>-<random>` made by a process of this machine that is no more?"""
    host, _, rest = name.rpartition("-")[0].rpartition("-")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    return not Path(f"/proc/{rest}").exists() if Path("/proc").exists() else not _alive(int(rest))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _orphan_tars(pool: Pool, age: float) -> Iterator[Leftover]:
    for entry in pool.storage.list(PIXELS):
        if not entry.name.endswith(".tar") or time.time() - entry.mtime < age:
            continue
        shard = int(entry.name[:8])
        named = read_footer(pool.storage, marker(shard))["tar"] if pool.storage.exists(marker(shard)) else None
        if named != entry.name:
            yield Leftover(f"{PIXELS}/{entry.name}", entry.size, "a tar that no marker names")


def _orphan_runs(pool: Pool, age: float) -> Iterator[Leftover]:
    claims = [json.loads(pool.storage.read(f"{CLAIMS}/{e.name}")) for e in pool.storage.list(CLAIMS)]
    used = {run for claim in claims for run in claim.get("uid_runs", ())}
    for folder in pool.storage.folders("uids"):
        for entry in pool.storage.list(f"uids/{folder}"):
            rel = f"uids/{folder}/{entry.name}"
            if rel not in used and time.time() - entry.mtime > age:
                yield Leftover(rel, entry.size, "uids of a list that lost its claim")


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
        text = line.strip().lower()
        if not text:
            continue
        if len(text) > 32 or any(c not in "0123456789abcdef" for c in text):
            raise UserError(f"line {number}: {line.strip()[:60]!r} is not a uid (up to 32 hex digits)")
        found.append(bytes.fromhex(text.zfill(32)))
    return pa.array(found, UID)


def purge(pool: Pool, uids: pa.Array, why: str) -> Purged:
    """Take uids out of every view, pick and pack to come, and blank their images; their rows stay."""
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
