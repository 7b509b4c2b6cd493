"""One shard of a list becomes pixels and facts: fetch, verify, decode, describe, shrink, commit.

    result = ingest_shard(storage, listed, 17, "laion@0123456789ab", spec, bytes_column=None)
    result["outcomes"]["ok"]

Data before marker: tar, fetch log, then `pixels/<shard>.parquet`. Whoever commits the marker first has made the
shard; the others remove what they wrote.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.pool import layout
from curate.pool.columns import read_footer, uid_digest, write_parquet
from curate.pool.facts import FACTS, FETCHES, LISTED
from curate.pool.storage import Storage, full_disk
from curate.run.account import Account
from curate.run.fetch.decoder import decoders
from curate.run.fetch.examine import Examined, by_header
from curate.run.fetch.gate.lists import Refusals
from curate.run.fetch.loop import run_async
from curate.run.fetch.spec import IngestSpec
from curate.run.fetch.spool import OrderedTar
from stages import fingerprint
from stages.base import shard_name

if TYPE_CHECKING:
    from curate.run.fetch.gate.doorman import GateHandle
    from curate.run.fetch.http import Fetch


@dataclass(slots=True)
class Taken:
    """What became of one row: its entry in the fetch log, and the image if there is one."""

    image: Examined
    size: int = 0
    status: int | None = None
    final_url: str | None = None
    content_type: str | None = None
    elapsed_ms: int | None = None
    retry_at: float | None = None


def ingest_shard(
    storage: Storage,
    listed: pa.Table,
    shard: int,
    list_name: str,
    spec: IngestSpec,
    bytes_column: str | None,
    attempt: int = 0,
    gates: Sequence[GateHandle] | None = None,
) -> dict[str, Any]:
    """Make the shard, or find that it is made.

    Args:
        listed: rows of LISTED and further columns, which are carried into the facts.
        list_name: stands in the column `list`.
        bytes_column: of parquet files that `place` points to.
        attempt: which attempt at these URLs this is; if the log of it exists already, the next free number.
        gates: who may ask a host, over all workers; default: gates of this call's own.

    Returns:
        rows (listed), images, outcomes {outcome: rows}, received_bytes, tar_bytes; where this call made the shard also
        what `Account.told` says, with the bytes that came from outside as read.

    Raises:
        UserError: URLs and no contact in the spec; this machine ran out of sockets or disk.
    """
    account = Account(storage)
    if storage.exists(layout.marker(shard)):
        return _counts(storage, shard)
    try:
        _make(account.storage, listed, shard, list_name, spec, bytes_column, attempt, gates)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise full_disk(e, str(storage)) from e
        raise
    counts = _counts(storage, shard)
    return {**counts, **account.told("ingest", counts["rows"]), "bytes_read": counts["received_bytes"]}


def _make(
    storage: Storage,
    listed: pa.Table,
    shard: int,
    list_name: str,
    spec: IngestSpec,
    bytes_column: str | None,
    attempt: int,
    gates: Sequence[GateHandle] | None,
) -> None:
    uids: list[bytes] = listed.column("uid").to_pylist()
    log: list[dict[str, Any]] = []
    images: dict[int, Examined] = {}
    with OrderedTar(storage.scratch(), storage.scratch()) as tar:

        def done(row: int, taken: Taken) -> None:
            log.append(_log_row(row, taken))
            facts, stored = taken.image.facts, taken.image.stored
            if facts is None or stored is None:
                tar.skip(row)
            else:
                tar.put(row, f"{uids[row].hex()}.{facts['format']}", stored)
                images[row] = Examined("ok", None, facts)

        _take_all(listed, spec, bytes_column, gates, done)
        tar.close()
        name = f"{shard_name(shard)}.{tar.digest8}.tar"
        storage.commit(f"{layout.PIXELS}/{name}", tar.path)
    _commit_log(storage, shard, attempt, listed, log)
    facts = _facts(listed, list_name, images, tar.offsets)
    footer = {
        "rows": facts.num_rows,
        "uid_digest": uid_digest(facts.column("uid")),
        "tar": name,
        "tar_bytes": tar.size,
        "settings": spec.pixels(),
        "listed": listed.num_rows,
        "outcomes": dict(sorted(Counter(entry["outcome"] for entry in log).items())),
        "received_bytes": sum(entry["bytes"] for entry in log),
        "fingerprint": {"phash": fingerprint.VERSION, **fingerprint.decoders()} if spec.phash else None,
    }
    if not storage.commit(layout.marker(shard), write_parquet(facts, footer)):
        _make_way(storage, shard, name)


def _take_all(
    listed: pa.Table,
    spec: IngestSpec,
    bytes_column: str | None,
    gates: Sequence[GateHandle] | None,
    done: Callable[[int, Taken], None],
) -> None:
    """Call `done` once for every row: first those of local files, in list order, then those of the web."""
    expected: list[str | None] = listed.column("sha256").to_pylist()
    places: list[dict[str, Any] | None] = listed.column("place").to_pylist()
    urls: list[str | None] = listed.column("url").to_pylist()
    local = {row: place for row, place in enumerate(places) if place is not None}
    remote = {row: url for row, url in enumerate(urls) if row not in local and url is not None}
    for row in sorted(set(range(listed.num_rows)) - set(local) - set(remote)):
        done(row, Taken(Examined("unreadable", "neither a url nor a place")))
    refusals = Refusals.load(spec)
    pool = decoders(spec)

    async def look(data: bytes, row: int) -> Examined:
        if why := refusals.image(data):
            return Examined("refused_list", why)
        # A header is read here: no codec to be afraid of.
        found = by_header(data, expected[row], spec) if spec.decode == "header" else None
        return found or await pool.examine(data, expected[row], spec)

    if local:
        run_async(_from_files(local, look, spec, bytes_column, pool.ahead, done))
    if not remote:
        return
    from curate.run.fetch.http import download

    async def work(row: int, fetch: Fetch) -> Taken:
        image = Examined(fetch.outcome, fetch.detail)
        if fetch.body is not None:
            image = await look(fetch.body, row)
        return Taken(
            image, fetch.size, fetch.status, fetch.final_url, fetch.content_type, fetch.elapsed_ms, fetch.retry_at
        )

    for row in download(remote, spec, work, done, gates):
        done(row, Taken(Examined("gave_up", f"not done when the shard's {spec.shard_deadline_s:g} s were over")))


async def _from_files(
    places: dict[int, dict[str, Any]],
    look: Callable[[bytes, int], Coroutine[Any, Any, Examined]],
    spec: IngestSpec,
    bytes_column: str | None,
    ahead: int,
    done: Callable[[int, Taken], None],
) -> None:
    """Local rows in list order; read here, decoded in other processes, a few ahead."""
    from curate.run.fetch.local import LocalReader, Unreadable

    waiting: deque[tuple[int, int, asyncio.Task[Examined]]] = deque()

    async def oldest() -> None:
        row, size, image = waiting.popleft()
        done(row, Taken(await image, size))

    async def known(outcome: str, detail: str) -> Examined:
        return Examined(outcome, detail)

    with LocalReader(bytes_column, spec.max_bytes) as files:
        async with asyncio.TaskGroup() as tasks:
            for row, place in places.items():
                try:
                    data = files.read(place)
                except Unreadable as e:
                    waiting.append((row, 0, tasks.create_task(known(e.outcome, e.detail))))
                else:
                    waiting.append((row, len(data), tasks.create_task(look(data, row))))
                await asyncio.sleep(0)  # so that it is on its way while the next one is read
                if len(waiting) > ahead:
                    await oldest()
            while waiting:
                await oldest()


def _log_row(row: int, taken: Taken) -> dict[str, Any]:
    return {
        "row": row,
        "outcome": taken.image.outcome,
        "status": taken.status,
        "final_url": taken.final_url,
        "content_type": taken.content_type,
        "bytes": taken.size,
        "elapsed_ms": taken.elapsed_ms,
        "retry_at": None if taken.retry_at is None else datetime.datetime.fromtimestamp(taken.retry_at, datetime.UTC),
        "time": datetime.datetime.now(datetime.UTC),
        "detail": taken.image.detail,
    }


def _commit_log(storage: Storage, shard: int, attempt: int, listed: pa.Table, log: list[dict[str, Any]]) -> None:
    """Write the fetch log, in list order, under the first free number from `attempt` on."""
    log.sort(key=lambda entry: entry["row"])
    columns = {field.name: [entry.get(field.name) for entry in log] for field in FETCHES}
    while True:
        columns |= {"uid": listed.column("uid"), "url": listed.column("url"), "attempt": [attempt] * len(log)}
        table = _as_schema(columns, FETCHES)
        footer = {"rows": table.num_rows, "uid_digest": uid_digest(table.column("uid"))}
        if storage.commit(layout.fetch_log(shard, attempt), write_parquet(table, footer)):
            return
        attempt += 1


def _facts(listed: pa.Table, list_name: str, images: dict[int, Examined], offsets: dict[int, int]) -> pa.Table:
    """The pixel table: FACTS and the list's further columns, one row an image, in list order."""
    rows = sorted(images)
    kept = listed.take(pa.array(rows, pa.int64()))
    columns: dict[str, Any] = {name: kept.column(name) for name in ("uid", "source_id", "url", "text")}
    columns["list"] = [list_name] * len(rows)
    columns["tar_offset"] = [offsets[row] for row in rows]
    for field in FACTS:
        if field.name not in columns:
            columns[field.name] = [(images[row].facts or {})[field.name] for row in rows]
    table = _as_schema(columns, FACTS)
    for name in listed.column_names:
        if name not in LISTED.names:
            table = table.append_column(listed.schema.field(name), kept.column(name))
    return table


def _as_schema(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = []
    for field in schema:
        values = columns[field.name]
        arrays.append(pa.array(values, field.type) if isinstance(values, list) else values.cast(field.type))
    return pa.table(arrays, schema=schema)


def _make_way(storage: Storage, shard: int, name: str) -> None:
    """Somebody's marker was first: our tar goes, unless it is the one that the marker names."""
    if read_footer(storage, layout.marker(shard))["tar"] != name:
        storage.delete(f"{layout.PIXELS}/{name}")


def _counts(storage: Storage, shard: int) -> dict[str, Any]:
    footer = read_footer(storage, layout.marker(shard))
    return {
        "rows": footer["listed"],
        "images": footer["rows"],
        "outcomes": footer["outcomes"],
        "received_bytes": footer["received_bytes"],
        "tar_bytes": footer["tar_bytes"],
    }
