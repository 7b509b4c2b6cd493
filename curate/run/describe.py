"""Workers that compute columns: dense stages shard by shard, sparse ones for the survivors only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import UserError
from curate.pool.columns import write_parquet
from curate.pool.layout import part_file
from curate.pool.storage import Storage
from curate.run.account import OPEN, WAIT, Account, called
from curate.run.parts import Parts
from curate.run.reader import AFAR, BATCH, Places, ShardReader, output_schema, removed
from curate.run.sparse import is_sparse
from stages.base import ERROR, UID, Batch, Column, Stage
from stages.clip_ahead import Ahead

_OPENED: dict[Stage, Stage] = {}
_KEEP_OPEN = 8  # stages with weights that one worker process holds at most


def opened(stage: Stage) -> Stage:
    """The stage, with `open()` called once in this process."""
    if stage not in _OPENED:
        while len(_OPENED) >= _KEEP_OPEN:
            _OPENED.pop(next(iter(_OPENED)))
        # A copy: what is opened holds weights, and no longer equals or pickles as the recipe's own object.
        ready = stage.model_copy()
        ready.open()
        _OPENED[stage] = ready
    return _OPENED[stage]


@dataclass(frozen=True)
class Describe:
    """What the workers of one pass share: stages in an order in which each finds what it reads."""

    pool: str
    stages: tuple[Stage, ...]
    places: Places


def describe(work: Describe, item: str) -> dict[str, Any]:
    """Compute the columns of the stages that lack this shard; images are decoded once for all of them."""
    account = Account(Storage.at(work.pool))
    storage = account.storage
    reader = ShardReader(storage, int(item), work.places)
    missing = [s for s in work.stages if not storage.exists(part_file(work.places[s], item))]
    if not missing:
        return {"rows": reader.rows, "stages": 0}
    _open_all(missing, account)
    outputs: dict[Stage, list[pa.Table]] = {s: [] for s in missing}
    own = set(missing)
    wanted = dict.fromkeys(c for s in missing for c in s.reads() if c.owner not in own)
    for batch in _prepared(reader.batches(tuple(wanted)), missing, account):
        for stage in missing:
            with account.spent(called(stage), batch.num_rows):  # who asks first for an image pays for its decoding
                table = run_stage(stage, batch)
            outputs[stage].append(table)
            batch.add({Column(stage, n): table.column(n).combine_chunks() for n in table.column_names})
    errors = 0
    for stage, tables in outputs.items():
        whole = pa.concat_tables(tables) if tables else output_schema(stage).empty_table()
        errors += len(whole) - whole.column(ERROR).null_count
        storage.commit(part_file(work.places[stage], item), write_parquet(whole, reader.footer))
    return {"rows": reader.rows, "stages": len(missing), "errors": errors, **account.told(rows=reader.rows)}


def _prepared(batches: Iterator[Batch], stages: Sequence[Stage], account: Account) -> Iterator[Batch]:
    """The batches; beside a GPU or another machine prepared ahead of it, in as many threads as the worker has CPUs."""
    ready = [opened(stage) for stage in stages if stage.need().gpus or stage.ahead]
    if not ready:
        yield from batches
        return

    def prepare(batch: Batch) -> None:
        for stage in ready:
            stage.prepare(batch)

    threads = int(max(stage.need().cpus for stage in ready))
    coming = iter(Ahead(batches, prepare, threads))
    while True:
        with account.spent(WAIT):
            batch = next(coming, None)
        if batch is None:
            return
        yield batch


def _open_all(stages: Sequence[Stage], account: Account) -> None:
    """Load weights before the clock of the stages runs: that is paid once a worker, whatever the rows."""
    with account.spent(OPEN):
        for stage in stages[:_KEEP_OPEN]:
            opened(stage)


def run_stage(stage: Stage, batch: Batch) -> pa.Table:
    """The stage's output for a batch, checked against what it promised.

    Raises:
        UserError: another number of rows, or another schema.
    """
    table = opened(stage).run(batch)
    if table.num_rows != batch.num_rows:
        raise UserError(f"{stage.import_path()}: gave {table.num_rows} rows for a batch of {batch.num_rows}")
    if ERROR not in table.column_names:
        table = table.append_column(ERROR, pa.nulls(table.num_rows, pa.string()))
    schema = output_schema(stage)
    if set(table.column_names) != set(schema.names):
        raise UserError(f"{stage.import_path()}: gave columns {table.column_names}, promised {schema.names}")
    table = table.select(schema.names)
    for i, f in enumerate(schema):  # a column of nulls alone has no type of its own yet
        if pa.types.is_null(table.schema.field(i).type):
            table = table.set_column(i, f, pa.nulls(table.num_rows, f.type))
    if not table.schema.equals(schema):
        differ = [f"{a.name}: {b.type}, promised {a.type}" for a, b in zip(schema, table.schema, strict=True) if a != b]
        raise UserError(f"{stage.import_path()}: " + "; ".join(differ))
    return table


@dataclass(frozen=True)
class DescribeSparse:
    """A stage for survivors and the verdict folders whose survivors it is asked about, but for removed ones."""

    pool: str
    stage: Stage
    places: Places
    above: tuple[str, ...]
    removed_digest: str = ""


def describe_sparse(work: DescribeSparse, item: str) -> dict[str, Any]:
    """Ask the stage about survivors that no part has yet; each batch is a part of its own, kept at once."""
    account = Account(Storage.at(work.pool))
    storage, stage = account.storage, work.stage
    reader = ShardReader(storage, int(item), work.places)
    parts = Parts(storage, work.places[stage], reader.shard)
    alive = reader.survivors(work.above)
    gone = reader.among(removed(work.pool, work.removed_digest))  # nobody is shown what somebody took down
    rows = np.flatnonzero(alive & ~gone & _to_ask(stage, reader))
    if len(rows):
        _open_all([stage], account)
    errors, size = 0, AFAR if stage.ahead else BATCH
    for batch in _prepared(reader.batches((*stage.reads(), UID), rows, size), [stage], account):
        with account.spent(called(stage), batch.num_rows):
            table = run_stage(stage, batch)
        kept = parts.commit(_with_uid(table, batch), {"shard": reader.shard})
        errors += kept.num_rows - kept.column(ERROR).null_count
    counts = {"rows": len(rows), "kept": int(alive.sum()), "parts": -(-len(rows) // size), "errors": errors}
    return {**counts, **account.told(rows=len(rows))}


def _to_ask(stage: Stage, reader: ShardReader) -> np.ndarray:
    """bool (rows,): no part has the row, and the stages for survivors that this one reads were asked about it.

    Without these a null would be taken for their answer, and what is made of it would stay.
    """
    asked = ~reader.asked(stage)
    for other in {c.owner for c in stage.reads() if isinstance(c.owner, Stage) and is_sparse(c.owner)}:
        asked &= reader.asked(other)
    return asked


def _with_uid(table: pa.Table, batch: Batch) -> pa.Table:
    return pa.table({"uid": batch[UID]} | {n: table.column(n) for n in table.column_names})
