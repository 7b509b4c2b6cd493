"""The last attempt at every URL of a pool that has no image, from the logs of fetches.

    with Tries(pool, spec, outcomes, claims(pool.storage)) as tries:
        for origin, attempt in tries.groups(now):
            for uids, shards, rows in tries.due(now, origin, attempt): ...

In a scratch database on disk: a gigabyte of memory, however long the logs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.pool.columns import read_table
from curate.pool.layout import fetch_log, marker
from curate.pool.lists import RETRY, Claim
from curate.pool.pool import Pool
from curate.run.fetch.spec import IngestSpec

THREADS = 16  # logs that are read at a time
MEMORY = "1GB"  # more goes to the pool's scratch folder
LONGEST_WAIT_S = 90 * 86400.0  # however often it was tried

TABLES = """
CREATE TABLE tries (uid BLOB, origin INTEGER, shard INTEGER, row INTEGER, attempt INTEGER, outcome VARCHAR,
    time DOUBLE, retry_at DOUBLE);
CREATE TABLE settled (uid BLOB);
"""
"""tries: rows of the logs; settled: uids with an image, on their way in a shard, or taken out of the pool."""

LAST = """
CREATE TABLE last AS SELECT uid, unnest(f) FROM (
    SELECT uid, arg_max({'origin': origin, 'shard': shard, 'row': row, 'attempt': attempt, 'outcome': outcome,
        'time': time, 'retry_at': retry_at}, {'shard': shard, 'attempt': attempt}) AS f
    FROM tries WHERE outcome <> 'ok' AND uid NOT IN (SELECT uid FROM settled) GROUP BY uid
) WHERE list_contains($1, f.outcome)
"""
"""A shard that a dead worker began has several logs, and one of them may say ok without the image having come."""

DUE = "{left} AND due_at <= $1 AND origin = $2 AND attempt = $3"


class Tries:
    """The last attempt at every URL that has no image, in tables of a scratch database."""

    def __init__(self, pool: Pool, spec: IngestSpec, outcomes: Sequence[str], known: list[Claim]) -> None:
        import duckdb

        self.pool, self.spec, self.known = pool, spec, known
        self._folder = pool.storage.scratch()
        self._folder.mkdir(parents=True)
        self._db = duckdb.connect(str(self._folder / "tries.db"))
        self._db.execute(f"SET memory_limit = '{MEMORY}'; SET threads = 2; SET enable_progress_bar = false")
        self._db.execute(TABLES)
        self._outcomes = list(outcomes)

    def __enter__(self) -> Tries:
        try:
            self._fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # ---- reading

    @cached_property
    def _origins(self) -> dict[int, int]:
        """Shard -> index of the list's claim, also of shards that were a retry themselves."""
        names = {f"{c.list}@{c.hash}": i for i, c in enumerate(self.known)}
        return {s: names[c.origin] for i, c in enumerate(self.known) for s in c.numbers}

    def _fill(self) -> None:
        logs = self.pool.fetch_logs()
        finished = set(self.pool.shards())
        again = {s for c in self.known if c.kind == RETRY for s in c.numbers}
        looked = [s for s in sorted(finished) if s in logs]
        with ThreadPoolExecutor(THREADS) as threads:
            for some in _chunks(looked, 4 * THREADS):
                for tables in threads.map(lambda s: self._of_shard(s, logs[s], s in again), some):
                    for table in tables:
                        self._insert("tries", table)
        for shard in sorted((again | {s for s in looked if len(logs[s]) > 1}) & finished):
            self._insert("settled", read_table(self.pool.storage, marker(shard), ["uid"])[0])
        for shard in sorted(again - finished):
            claim = claim_of(self.known, shard)
            self._insert("settled", read_table(self.pool.storage, claim.file(shard), ["uid"])[0])
        self._insert("settled", pa.table({"uid": self.pool.removed}))
        self._db.execute(LAST, [self._outcomes])
        waits = [wait_s(self.spec, made) for made in range(1, 129)]
        self._db.execute("ALTER TABLE last ADD COLUMN due_at DOUBLE")
        self._db.execute("UPDATE last SET due_at = greatest(time + $1[attempt + 1], coalesce(retry_at, 0))", [waits])

    def _of_shard(self, shard: int, attempts: Sequence[int], again: bool) -> list[pa.Table]:
        """Rows of a shard's logs. Of a list's only log, failures that may pass suffice: no other log knows these uids
        but those of a retry, of which every row is taken."""
        found = []
        for attempt in attempts:
            log, _ = read_table(self.pool.storage, fetch_log(shard, attempt), ["uid", "outcome", "time", "retry_at"])
            outcomes = log.column("outcome").to_numpy(zero_copy_only=False)
            rows = np.arange(len(log))
            if not again and len(attempts) == 1:
                rows = np.flatnonzero(np.isin(outcomes.astype(str), self._outcomes))
            if len(rows):
                rows = self._from_the_web(shard, log.column("uid"), rows)
            if len(rows):
                found.append(self._tries_of(log, rows, shard, attempt))
        return found

    def _from_the_web(self, shard: int, uids: pa.ChunkedArray, rows: np.ndarray) -> np.ndarray:
        """Without the rows whose bytes lie in files: another look at those finds the same."""
        claim = claim_of(self.known, shard)
        if claim.kind == RETRY or claim.source.get("kind") == "urls":
            return rows
        table, _ = read_table(self.pool.storage, claim.file(shard), ["uid", "place"])
        remote = table.column("uid").filter(pc.is_null(table.column("place")))
        return rows[pc.is_in(uids.take(pa.array(rows)), remote.combine_chunks()).to_numpy()]

    def _tries_of(self, log: pa.Table, rows: np.ndarray, shard: int, attempt: int) -> pa.Table:
        taken = log.take(pa.array(rows))
        n = len(rows)
        return pa.table(
            {
                "uid": taken.column("uid"),
                "origin": pa.array(np.full(n, self._origins[shard]), pa.int32()),
                "shard": pa.array(np.full(n, shard), pa.int32()),
                "row": pa.array(rows, pa.int32()),
                "attempt": pa.array(np.full(n, attempt), pa.int32()),
                "outcome": taken.column("outcome"),
                "time": _seconds(taken, "time"),
                "retry_at": _seconds(taken, "retry_at"),
            }
        )

    def _insert(self, name: str, table: pa.Table) -> None:
        if table.num_rows:
            at = table.schema.get_field_index("uid")
            table = table.set_column(at, "uid", table.column("uid").cast(pa.binary()))
            self._db.register("given", table)
            self._db.execute(f"INSERT INTO {name} SELECT * FROM given")
            self._db.unregister("given")

    # ---- asking

    @property
    def _left(self) -> str:
        return f"attempt + 1 < {self.spec.attempts}"

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self._db.execute(sql, list(values)).fetchall())

    def groups(self, now: float) -> list[tuple[int, int]]:
        """(index of the list's claim, last attempt) of what is due."""
        sql = f"SELECT DISTINCT origin, attempt FROM last WHERE {self._left} AND due_at <= $1 ORDER BY ALL"
        return [(origin, attempt) for origin, attempt in self._rows(sql, [now])]

    def due(self, now: float, origin: int, attempt: int) -> Iterator[tuple[list[bytes], list[int], list[int]]]:
        """(uids, shards, rows) in the order of shards and rows, a part of a shard at a time."""
        sql = f"SELECT shard, uid, row FROM last WHERE {DUE.format(left=self._left)} ORDER BY shard, row"
        cursor = self._db.cursor().execute(sql, [now, origin, attempt])
        while rows := cursor.fetchmany(10_000):
            yield [u for _, u, _ in rows], [s for s, _, _ in rows], [r for _, _, r in rows]

    def outcomes_of(self, now: float, origin: int, attempt: int) -> dict[str, int]:
        sql = f"SELECT outcome, count(*) FROM last WHERE {DUE.format(left=self._left)} GROUP BY 1 ORDER BY 1"
        return dict(self._rows(sql, [now, origin, attempt]))

    def not_now(self, now: float) -> tuple[int, float, float, int]:
        """(URLs that wait, the time of the first and of the last of them, URLs without an attempt left)."""
        times = f"SELECT count(*), min(due_at), max(due_at) FROM last WHERE {self._left} AND due_at > $1"
        waiting, first, last = self._rows(times, [now])[0]
        spent = self._rows(f"SELECT count(*) FROM last WHERE NOT ({self._left})")[0][0]
        return waiting, first or 0.0, last or 0.0, spent


def _seconds(table: pa.Table, name: str) -> pa.Array:
    """Timestamps as seconds since 1970, null where the column is not there."""
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.float64())
    values = table.column(name).cast(pa.int64()).cast(pa.float64())
    return pc.divide(values, 1000.0)


def _chunks(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def wait_s(spec: IngestSpec, made: int) -> float:
    """Seconds between the last of `made` attempts and the next."""
    return float(min(spec.retry_backoff_s * 4.0 ** (made - 1), LONGEST_WAIT_S))


def claim_of(known: Sequence[Claim], shard: int) -> Claim:
    """The claim that has a shard."""
    return next(c for c in known if shard in c.numbers)
