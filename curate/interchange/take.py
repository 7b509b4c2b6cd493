"""What img2dataset fetched becomes shards of a pool: its failures a log, its images pixels.

for line in import_folder("laion400m-data", "pools/laion", name=None, spec=spec, ...): print(line)
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.interchange.img2dataset import SAID, Output
from curate.interchange.said import outcome_of
from curate.pool.columns import read_table, uid_digest, write_parquet
from curate.pool.facts import FETCHES, TRANSIENT
from curate.pool.layout import PIXELS, POOL, failure, fetch_log, marker
from curate.pool.lists import Claim, listed, register
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.choice import ExecutorChoice
from curate.run.engine import Engine, Pass, Rules
from curate.run.fetch.spec import IngestSpec
from curate.run.ingest import ingest_shard
from curate.run.progress import Progress, Telling
from curate.run.sources.spec import SourceSpec
from stages.base import Need, shard_name


def take_shard(storage: Storage, claim: Claim, shard: int, spec: IngestSpec) -> dict[str, Any]:
    """Make one shard of an imported list; nothing is downloaded. Returns what `ingest_shard` does.

    Its first log is what img2dataset said of every URL; the second, what became of its images here.
    """
    table = listed(storage, claim, shard)
    if not storage.exists(marker(shard)):
        said = [outcome_of(w) for w in _words(table, SAID)]
        commit_log(storage, shard, claim.attempt, table, said, _words(table, SAID))
    images = table.filter(pc.is_valid(table.column("place")))
    return ingest_shard(storage, images, shard, claim.origin, spec, claim.bytes_column, claim.attempt)


def commit_log(
    storage: Storage,
    shard: int,
    attempt: int,
    table: pa.Table,
    said: Sequence[tuple[str, int | None]],
    words: Sequence[str | None],
) -> bool:
    """Write the log of all rows; False where there is one. said: (outcome, HTTP status) of each; words: the detail."""
    now = datetime.datetime.now(datetime.UTC)
    rows = [
        {
            "uid": uid,
            "url": url,
            "outcome": outcome,
            "status": status,
            "attempt": attempt,
            "time": now,
            "detail": detail,
        }
        for uid, url, (outcome, status), detail in zip(
            table.column("uid").to_pylist(), table.column("url").to_pylist(), said, words, strict=True
        )
    ]
    log = pa.Table.from_pylist(rows, schema=FETCHES)
    footer = {"rows": log.num_rows, "uid_digest": uid_digest(table.column("uid"))}
    return storage.commit(fetch_log(shard, attempt), write_parquet(log, footer))


def _words(table: pa.Table, name: str) -> list[str | None]:
    return list(table.column(name).to_pylist())


def import_folder(
    folder: str,
    pool_url: str,
    *,
    name: str | None = None,
    spec: IngestSpec | None = None,
    shard_size: int = 10_000,
    executor: str | None = None,
    workers: int | None = None,
    telling: Telling | None = None,
    command: str = "curate import-img2dataset",
) -> list[str]:
    """Make a pool of the output of img2dataset, or add it to one. Killed half-way, the same call goes on.

    Args:
        name: of the list; default: made of the folder's.
        spec: of what the pool stores; default: what it has, or the bytes as they are.

    Returns:
        What was done, in words.

    Raises:
        UserError: no finished output there, the pool has other settings. PartialFailure: shards failed for good.
    """
    from curate.run.job import Ingest, describe_claim, ingest

    output = Output(folder, SourceSpec(path=folder, name=name).list_name)
    _ = output.shards  # refuses what is no output of it before there is a pool
    chosen, size = (spec, shard_size) if spec is not None else _settings(pool_url, shard_size)
    pool = Pool.create(pool_url, chosen.pixels(), size)
    choice = ExecutorChoice(executor or "auto", workers)
    with Progress(pool.storage, command, telling=telling or Telling()) as progress:
        claim = register(pool.storage, output, size)
        progress.say(describe_claim(claim, new=True))
        missing = [shard_name(s) for s in pool.index(PIXELS).missing(list(claim.numbers))]
        work = Pass(
            "ingest", ingest, Ingest(pool.storage.url, (claim,), chosen), missing, pure=False,
            need=Need(memory_gb=2, deadline_s=chosen.shard_deadline_s + 600),
            on_failure=lambda item, text: pool.storage.put(failure(PIXELS, item), text.encode()[-20000:]),
        )  # fmt: skip
        try:
            if missing:
                Engine([work], choice([work], claim.rows * SECONDS_A_ROW), progress, Rules()).run()
        finally:
            choice.close()
    return _told(pool, claim, output)


SECONDS_A_ROW = 0.003  # of one worker: read, decode, digest


def _settings(pool_url: str, shard_size: int) -> tuple[IngestSpec, int]:
    """Those of the pool, where there is one."""
    storage = Storage.at(pool_url)
    if not storage.exists(POOL):
        return IngestSpec(resize="none"), shard_size
    settings = Pool.open(pool_url).settings
    return IngestSpec(**settings["pixels"]), int(settings["shard_size"])


def _told(pool: Pool, claim: Claim, output: Output) -> list[str]:
    """What the pool now has of the folder, and how to go on."""
    outcomes: Counter[str] = Counter()
    for shard in claim.numbers:
        rows: dict[bytes, str] = {}
        for attempt in pool.fetch_logs().get(shard, ()):
            log, _ = read_table(pool.storage, fetch_log(shard, attempt), ["uid", "outcome"])
            rows.update(zip(log.column("uid").to_pylist(), log.column("outcome").to_pylist(), strict=True))
        outcomes.update(rows.values())
    kinds = ", ".join(f"{outcome} {n:,}" for outcome, n in outcomes.most_common())
    lines = [f"{output.name}: {claim.rows:,} URLs of {len(output.shards):,} shards ({kinds})"]
    if output.unfinished:
        lines.append(
            f"not taken, as img2dataset has not finished them: {', '.join(output.unfinished[:10])}"
            f"{' and others' * (len(output.unfinished) > 10)}; once it has, the same command adds what is new"
        )
    pixels = {k: v for k, v in pool.settings["pixels"].items() if v != IngestSpec.model_fields[k].default}
    if pixels.get("resize") == "none":
        pixels.pop("format", None)  # null then, too
    said = ", ".join(f"{k}: {json.dumps(v)}" for k, v in pixels.items())
    lines.append(
        f"a recipe for it needs no `source:`, but `pool: {pool.storage.url}`"
        + (f" and `ingest: {{{said}}}`" * bool(said))
    )
    later = sum(n for outcome, n in outcomes.items() if outcome in TRANSIENT)
    if later:
        lines.append(f"{later:,} URL{'s' * (later != 1)} may be had later: `curate run RECIPE --retry transient`")
    return lines
