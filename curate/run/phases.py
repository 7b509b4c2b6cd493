"""Worker for one part of one phase of a barrier or of a global filter."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curate.errors import Refusal, UserError
from curate.pool.columns import read_footer, read_table, write_groups
from curate.pool.layout import part_file
from curate.pool.storage import Storage
from curate.run.account import Account, called
from curate.run.reader import Places, ShardReader
from curate.run.sparse import over_survivors
from curate.run.survivors import asked_of
from curate.run.verdict import verdict_file
from filters.base import VERDICT, GlobalFilter
from stages.base import Barrier, Column, Input, Inputs, Output, Phase, ShardColumns


@dataclass(frozen=True)
class PhaseWork:
    """What the workers of one phase share. `folders` are those of the owner's phases, by name.

    above: verdict folders whose survivors the owner is asked about; None: about every row. removed_digest: of those
    uids that are left out of them; "": none are.
    """

    pool: str
    owner: Barrier | GlobalFilter
    phase: Phase
    reads: tuple[Column, ...]
    folders: Mapping[str, str]
    last: bool
    places: Places
    others: Mapping[Barrier, Mapping[str, str]] = field(default_factory=dict)
    above: tuple[str, ...] | None = None
    removed_digest: str = ""


def run_phase(work: PhaseWork, part: str) -> dict[str, Any]:
    """Load the part's inputs one by one, run the owner, commit its file; returns the part's statistics."""
    account = Account(Storage.at(work.pool))
    storage = account.storage
    rel = part_file(work.folders[work.phase.name], part)
    output = _worked(work, storage, part)
    storage.commit(rel, _final_file(work, storage, part, output) if work.last else _part_file(output))
    rows = _rows(output)
    told = account.told(f"{called(work.owner)} {work.phase.name}", rows)
    return {"stats": dict(output.stats or {}), "rows": rows, **told}


def phase_stats(storage: Storage, folder: str) -> dict[str, dict[str, Any]]:
    """What each part of a phase left in its footer."""
    names = [e.name.removesuffix(".parquet") for e in storage.list(folder)]
    parts = [n for n in names if not n.endswith(".json")]
    return {n: read_footer(storage, part_file(folder, n)).get("stats", {}) for n in parts}


def _worked(work: PhaseWork, storage: Storage, part: str) -> Output:
    """What the owner makes of the part's inputs.

    Raises:
        Refusal: the owner raises a plain ValueError. It is a function of its inputs, so it will do so again; what comes
            of reading them (storage, a file that is cut off) is another's error, and goes up as it is.
    """
    unread: list[Input] = []

    def load(key: Input) -> pa.Table:
        try:
            return _load(work, storage, key)
        except Exception:
            unread.append(key)
            raise

    try:
        return work.owner.run(work.phase.name, part, Inputs(work.phase.inputs(part), load))
    except ValueError as e:
        if unread or type(e) is not ValueError:  # those of Arrow, of decoders and of parsers may be a file's
            raise
        raise Refusal(f"phase {work.phase.name}, part {part}: {e}", traceback.format_exc()) from e


def _rows(output: Output) -> int:
    tables = [output.tables] if isinstance(output.tables, pa.Table) else output.tables
    return sum(t.num_rows for t in tables)


def _part_file(output: Output) -> bytes:
    tables: Sequence[pa.Table] = [output.tables] if isinstance(output.tables, pa.Table) else output.tables
    return write_groups(tables, {"rows": _rows(output), "stats": dict(output.stats or {})})


def _final_file(work: PhaseWork, storage: Storage, part: str, output: Output) -> bytes:
    """The last phase is row-aligned with the shard and has the promised schema, or it is not committed."""
    reader = ShardReader(storage, int(part), work.places)
    name = f"{work.owner.import_path()}, phase {work.phase.name}, shard {part}"
    if not isinstance(output.tables, pa.Table):
        raise UserError(f"{name}: the last phase gives one table, not buckets")
    table = output.tables
    if isinstance(work.owner, Barrier):
        promised = work.owner.writes()
    else:
        promised = pa.schema([*VERDICT, *work.owner.extra_verdicts()])
    if table.num_rows != reader.rows or not table.schema.equals(promised):
        raise UserError(
            f"{name}: gave {table.num_rows} rows of {table.schema.names}, promised {reader.rows} of {promised.names}"
            + "".join(
                f"; {f.name} is {table.schema.field(f.name).type}, promised {f.type}"
                for f in promised
                if f.name in table.schema.names and table.schema.field(f.name).type != f.type
            )
        )
    footer = reader.footer | {"stats": dict(output.stats or {})}
    return write_groups([table], footer) if isinstance(work.owner, Barrier) else verdict_file(table, footer)


def _load(work: PhaseWork, storage: Storage, key: Input) -> pa.Table:
    if isinstance(key, ShardColumns):
        return _shard_table(work, storage, key.shard)
    folders = work.folders if key.owner is None else work.others[key.owner]
    return read_table(storage, part_file(folders[key.phase], key.part), group=key.bucket)[0]


def _shard_table(work: PhaseWork, storage: Storage, shard: int) -> pa.Table:
    """uid and the columns of `reads()` by field name; for a global filter, or one over survivors, also `asked`."""
    reader = ShardReader(storage, shard, work.places)
    table = {"uid": reader.uid} | {c.field: a for c, a in reader.columns(work.reads).items()}
    if isinstance(work.owner, GlobalFilter) or over_survivors(work.owner):
        asked = asked_of(work.pool, reader, work.reads, work.above or (), work.removed_digest)
        table["asked"] = pa.array(asked, pa.bool_())
    return pa.table(table)
