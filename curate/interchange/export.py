"""A pool in the layout of img2dataset, for tools that read that: tars, tables, statistics.

    for line in export_folder("pools/laion", "laion-data"): print(line)

Each shard of the pool is NNNNN.tar (000170003.jpg, .json, .txt), NNNNN.parquet with a row a URL, and NNNNN_stats.json,
which comes last: without it, or where the pool has changed since, the shard is written again. Of a URL that was tried
again only the last state is there, in the shard of that attempt. Taken-down samples are left out altogether. The column
`uid` makes an import of the folder give the same samples.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.interchange.img2dataset import SAID
from curate.pool.columns import read_table, uid_digest, write_parquet
from curate.pool.facts import LISTED
from curate.pool.layout import PIXELS, fetch_log, marker, short_hash
from curate.pool.lists import RETRY, Claim, claims, listed
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.pool.tar import TarWriter
from curate.run.progress import Progress, Telling
from curate.run.tries import claim_of
from stages.draws import uid_halves

VERSION = 1  # rises when the same shard would give other bytes
DIGITS = 5  # of a shard's number, as img2dataset has them
TAKEN = frozenset(
    {"uid", "url", "caption", "key", "status", "error_message", "width", "height", "original_width", "original_height"}
    | {"sha256"}
)
"""Its own columns: a further column of the list with such a name gets the prefix `source_`."""
RESIZE = frozenset({"not_image", "decode_error", "bomb", "too_small"})
"""Outcomes that it counts as failed_to_resize."""


@dataclass(frozen=True)
class Again:
    """Uids that were tried again, 24 bytes each, sorted: their halves, and the first shard of that attempt."""

    high: np.ndarray
    low: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, attempts: Iterable[tuple[int, pa.ChunkedArray]]) -> Again:
        """attempts: first shard of a retry, and uids of one of its shards."""
        found = [(*uid_halves(uids), np.full(len(uids), first)) for first, uids in attempts]
        none = (np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))
        high, low, first = (np.concatenate(parts) for parts in zip(none, *found, strict=True))
        order = np.argsort(high, kind="stable")
        return cls(high[order], low[order], first[order])

    def after(self, shard: int, uids: pa.ChunkedArray) -> np.ndarray:
        """bool (n,): which uids were tried again after a shard."""
        high, low = uid_halves(uids)
        at, end = np.searchsorted(self.high, high, "left"), np.searchsorted(self.high, high, "right")
        again = np.zeros(len(uids), bool)
        rows = np.flatnonzero(at < end)
        while len(rows):  # as often as one was tried again
            here = at[rows]
            again[rows] |= (self.low[here] == low[rows]) & (self.first[here] > shard)
            at[rows] += 1
            rows = rows[at[rows] < end[rows]]
        return again


@dataclass
class Exporter:
    """Writes shards of one pool into one folder."""

    pool: Pool
    target: Storage
    known: list[Claim]
    logs: dict[int, list[int]]

    @property
    def digits(self) -> int:
        """Of a row's number in a key."""
        return max(1, math.ceil(math.log10(max(2, int(self.pool.settings["shard_size"])))))

    def shard(self, shard: int) -> bool:
        """Write one shard; False where it is there already."""
        name = f"{shard:0{DIGITS}d}"
        table = listed(self.pool.storage, claim_of(self.known, shard), shard)
        uids = table.column("uid")
        gone = pc.is_in(uids, self.pool.removed).to_numpy() | self._again.after(shard, uids)
        table = table.filter(pa.array(~gone))
        facts, footer = self.pool.facts(shard)
        digest = short_hash([VERSION, footer["uid_digest"], uid_digest(table.column("uid"))])
        if self._there(name, digest):
            return False
        for file in (f"{name}_stats.json", f"{name}.tar", f"{name}.parquet"):
            self.target.delete(file)
        began = time.time()
        rows = list(self._rows(shard, table, facts, name))
        self._tar(name, footer["tar"], rows)
        self.target.commit(f"{name}.parquet", write_parquet(_table(rows, table.schema), {"rows": len(rows)}))
        stats = _stats([row for row, _ in rows], began) | {"curate": digest}
        self.target.commit(f"{name}_stats.json", json.dumps(stats, indent=4).encode())
        return True

    def _there(self, name: str, digest: str) -> bool:
        rel = f"{name}_stats.json"
        return self.target.exists(rel) and json.loads(self.target.read(rel)).get("curate") == digest

    @cached_property
    def _again(self) -> Again:
        """Read once: every shard asks."""
        done = [
            (c, s)
            for c in self.known
            if c.kind == RETRY
            for s in c.numbers
            if s in self.logs and self.pool.storage.exists(marker(s))
        ]
        return Again.of((c.first, read_table(self.pool.storage, c.file(s), ["uid"])[0].column("uid")) for c, s in done)

    def _rows(
        self, shard: int, table: pa.Table, facts: pa.Table, name: str
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
        """(row of the table, facts of its image) in list order."""
        of_uid = {row["uid"]: row for row in facts.to_pylist()}
        said = self._said(shard)
        for number, row in enumerate(table.to_pylist()):
            fact = of_uid.get(row["uid"])
            outcome, error = said.get(row["uid"], ("gave_up", "gave_up"))
            failed = "failed_to_resize" if outcome in RESIZE else "failed_to_download"
            yield (
                {
                    "uid": row["uid"].hex(),
                    **{_free(n): v for n, v in row.items() if n not in LISTED.names and n != SAID},
                    "caption": row["text"],
                    "url": row["url"],
                    "key": f"{name}{number:0{self.digits}d}",
                    "status": "success" if fact else failed,
                    "error_message": None if fact else error,
                    **{n: fact[n] if fact else None for n in ("width", "height", "original_width", "original_height")},
                    "sha256": fact["sha256"] if fact else None,
                },
                fact,
            )

    def _said(self, shard: int) -> dict[bytes, tuple[str, str]]:
        """Last outcome of each uid in the shard's logs, and the words of its error message."""
        found: dict[bytes, tuple[str, str]] = {}
        for attempt in self.logs.get(shard, ()):
            log, _ = read_table(self.pool.storage, fetch_log(shard, attempt), ["uid", "outcome", "status", "detail"])
            found |= {row["uid"]: (row["outcome"], error_message(row)) for row in log.to_pylist()}
        return found

    def _tar(self, name: str, tar: str, rows: Sequence[tuple[dict[str, Any], dict[str, Any] | None]]) -> None:
        path = self.target.scratch()
        with path.open("wb") as out, TarWriter(out) as written, self.pool.storage.open(f"{PIXELS}/{tar}") as images:
            for row, fact in rows:
                if fact is not None:
                    _sample(written, row, fact, images)
        self.target.commit(f"{name}.tar", path)


def _sample(tar: TarWriter, row: dict[str, Any], fact: dict[str, Any], images: BinaryIO) -> None:
    """Its three members, in the order in which webdataset writes them."""
    images.seek(fact["tar_offset"])
    tar.add(f"{row['key']}.{fact['format']}", images.read(fact["bytes"]))
    tar.add(f"{row['key']}.json", json.dumps(row, indent=4, default=str).encode())
    tar.add(f"{row['key']}.txt", (row["caption"] or "").encode())


def error_message(row: dict[str, Any]) -> str:
    """Outcome, status and detail of a row of a log in one line, which an import understands."""
    detail, status = row["detail"] or "", row["status"]
    code = str(status) if status is not None and not detail.startswith(str(status)) else ""
    more = f"{code} {detail}".strip()
    return f"{row['outcome']}: {more}" if more else str(row["outcome"])


def _free(name: str) -> str:
    """A further column's name beside those of img2dataset."""
    return f"source_{name}" if name in TAKEN else name


def _table(rows: Sequence[tuple[dict[str, Any], dict[str, Any] | None]], listed: pa.Schema) -> pa.Table:
    text, number = pa.string(), pa.int32()
    own = [("caption", text), ("url", text), ("key", text), ("status", text), ("error_message", text)]
    own += [(n, number) for n in ("width", "height", "original_width", "original_height")]
    further = [pa.field(_free(f.name), f.type) for f in listed if f.name not in LISTED.names and f.name != SAID]
    schema = pa.schema([("uid", text), *further, *own, ("sha256", text)])
    return pa.Table.from_pylist([row for row, _ in rows], schema=schema)


def _stats(rows: Sequence[dict[str, Any]], began: float) -> dict[str, Any]:
    """As img2dataset counts them: its status_dict has the words of failures, here their outcomes."""
    status = np.array([row["status"] for row in rows], str)
    words = ["success" if r["status"] == "success" else r["error_message"].partition(":")[0] for r in rows]
    ended = time.time()
    return {
        "count": len(rows),
        "successes": int((status == "success").sum()),
        "failed_to_download": int((status == "failed_to_download").sum()),
        "failed_to_resize": int((status == "failed_to_resize").sum()),
        "duration": ended - began,
        "start_time": began,
        "end_time": ended,
        "status_dict": {w: words.count(w) for w in sorted(set(words))},
    }


def clean(target: Storage) -> None:
    """Leave no folder for temporaries among the shards."""
    own = target.scratch().parent
    shutil.rmtree(own, ignore_errors=True)
    if target.is_local:
        with suppress(OSError):  # another export may go on in it
            own.parent.rmdir()


def export_folder(
    pool_url: str, folder: str, *, telling: Telling | None = None, command: str = "curate export-img2dataset"
) -> list[str]:
    """Write the finished shards of a pool into a folder, local or of any scheme that the pool may have.

    Killed half-way, the same call goes on. Returns what was done, in words.

    Raises:
        UserError: no pool there, nothing fetched, or the folder is a pool itself.
    """
    pool = Pool.open(pool_url)
    target = Storage.at(folder)
    if target.exists("pool.json"):
        raise UserError(f"{folder}: this is a pool; give a folder of its own")
    known = claims(pool.storage)
    shards = pool.shards()
    if not shards:
        raise UserError(f"{pool_url}: nothing has been fetched yet; first: curate run")
    exporter = Exporter(pool, target, known, pool.fetch_logs())
    written = 0
    try:
        with Progress(None, command, telling=telling or Telling()) as progress:
            for number, shard in enumerate(shards, 1):
                written += exporter.shard(shard)
                if number % 100 == 0:
                    progress.say(f"{number:,} of {len(shards):,} shards")
    finally:
        clean(target)
    images = sum(json.loads(target.read(f"{s:0{DIGITS}d}_stats.json"))["successes"] for s in shards)
    claimed = sum(c.shards for c in known)
    lines = [f"{folder}: {len(shards):,} shards, {written:,} of them written now; {images:,} images"]
    if claimed > len(shards):
        lines.append(f"{claimed - len(shards):,} shards are not fetched yet; once they are, the same command adds them")
    return lines
