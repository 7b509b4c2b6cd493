"""Worker that makes a pick: per sample who dropped it, or in how many copies and with which texts it goes on.

dropped_by, reason, times, emit: list<struct<copies, texts: list<struct<source, index, p>>>>
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.pool.columns import read_table, write_parquet
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.account import Account
from curate.run.reader import Places, ShardReader
from stages.base import Column

CHOICE = pa.struct([("source", pa.string()), ("index", pa.int32()), ("p", pa.float32())])
EMIT = pa.struct([("copies", pa.int32()), ("texts", pa.list_(CHOICE))])
PICK = pa.schema(
    [("dropped_by", pa.string()), ("reason", pa.string()), ("times", pa.int32()), ("emit", pa.list_(EMIT))]
)
REMOVED, NO_TEXT = "removed", "no_text"


@dataclass(frozen=True)
class Emit:
    """One way in which a sample goes on: so many copies, each with one of these texts (source, probability)."""

    copies: int
    texts: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class PickWork:
    """What the workers share: (id, verdict folder) in the recipe's order, and where texts come from."""

    pool: str
    folder: str
    steps: tuple[tuple[str, str], ...]
    emit: tuple[Emit, ...]
    sources: Mapping[str, Column]
    places: Places
    removed_digest: str


def pick(work: PickWork, item: str) -> dict[str, Any]:
    """Write the pick of one shard from its verdicts; opens no column but those that texts come from."""
    account = Account(Storage.at(work.pool))
    storage = account.storage
    reader = ShardReader(storage, int(item), work.places)
    dropped_by, reason, copies = _fates(work, reader, storage, item)
    columns = reader.columns(tuple(dict.fromkeys(work.sources.values())))
    texts = {name: columns[c] for name, c in work.sources.items()}
    emit, times, has_text = build_emit(work.emit, texts, dropped_by < 0, copies)
    names = [step for step, _ in work.steps] + [REMOVED, NO_TEXT]
    dropped_by[(dropped_by < 0) & ~has_text] = len(names) - 1
    by = pa.array(names, pa.string()).take(pa.array(dropped_by, mask=dropped_by < 0))
    table = pa.table([by, reason, times, emit], schema=PICK)
    counts = Counter(names[i] for i in dropped_by[dropped_by >= 0])
    kept = int((dropped_by < 0).sum())
    totals = {"kept": kept, "times": int(pc.sum(times).as_py() or 0), "dropped": dict(sorted(counts.items()))}
    storage.commit(part_file(work.folder, item), write_parquet(table, reader.footer | totals))
    return {"rows": reader.rows, **totals, **account.told("pick", reader.rows)}


def _fates(work: PickWork, reader: ShardReader, storage: Storage, item: str) -> tuple[np.ndarray, pa.Array, np.ndarray]:
    """(index of the step that dropped the row, or -1; its reason; copies that filters ask for)."""
    rows = reader.rows
    dropped_by, copies = np.full(rows, -1, np.int64), np.ones(rows, np.int64)
    reason = pa.nulls(rows, pa.string())
    for number, (_, folder) in enumerate(work.steps):
        rel = part_file(folder, item)
        table, footer = read_table(storage, rel, ["keep", "reason", "copies"])
        reader.check_aligned(rel, footer)
        keep = table.column("keep").fill_null(False).to_numpy()
        first = (dropped_by < 0) & ~keep
        dropped_by[first] = number
        reason = pc.if_else(pa.array(first), table.column("reason").combine_chunks(), reason)
        if "copies" in table.column_names:
            copies *= table.column("copies").fill_null(0).to_numpy()
    gone = pc.is_in(reader.uid, value_set=_removed(work.pool, work.removed_digest)).to_numpy(zero_copy_only=False)
    dropped_by[gone] = len(work.steps)
    return dropped_by, pc.if_else(pa.array(gone), pa.scalar(None, pa.string()), reason), copies


@lru_cache(maxsize=4)
def _removed(pool: str, digest: str) -> pa.Array:
    """Removed uids; `digest` only keys the cache."""
    del digest
    return Pool.open(pool).removed


def build_emit(
    emits: tuple[Emit, ...], texts: Mapping[str, pa.Array], alive: np.ndarray, copies: np.ndarray
) -> tuple[pa.Array, pa.Array, np.ndarray]:
    """(emit, times, has_text) for rows of one shard, all vectorised.

    Args:
        texts: source -> string array, or list<struct<source, text>> with several texts a row.
        alive: bool (rows,): rows that are kept. copies: int64 (rows,): factor on every emit's copies.

    A text that is null for a row is left out and the probabilities of the others grow in proportion; texts of
    a list share their source's probability; an emit without any text is left out.
    """
    rows, ways = len(alive), len(emits)
    parts = [
        _choices(way, order, list(texts).index(name), p, texts[name])
        for way, emit in enumerate(emits)
        for order, (name, p) in enumerate(emit.texts)
    ]
    row, way, order, index, p, source = (np.concatenate(part) for part in zip(*parts, strict=True))
    by = np.lexsort((index, order, way, row))
    by = by[alive[row[by]]]
    slot = row[by] * ways + way[by]  # one slot for each (row, emit)
    filled, text_starts = np.unique(slot, return_index=True)
    total = np.bincount(slot, weights=p[by], minlength=rows * ways)
    choices = pa.StructArray.from_arrays(
        [
            pa.array(list(texts), pa.string()).take(pa.array(source[by])),
            pa.array(index[by], pa.int32()),
            pa.array((p[by] / total[slot]).astype(np.float32)),
        ],
        fields=list(CHOICE),
    )
    lists = pa.ListArray.from_arrays(pa.array(np.append(text_starts, len(slot)), pa.int32()), choices)
    owner, base = filled // ways, np.array([e.copies for e in emits], np.int64)
    amount = base[filled % ways] * copies[owner]
    structs = pa.StructArray.from_arrays([pa.array(amount, pa.int32()), lists], fields=list(EMIT))
    starts = np.searchsorted(owner, np.arange(rows + 1))
    emit_array = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), structs)
    times = np.bincount(owner, weights=amount, minlength=rows).astype(np.int32)
    return emit_array, pa.array(times), np.bincount(owner, minlength=rows) > 0


def _choices(way: int, order: int, source: int, p: float, texts: pa.Array) -> tuple[np.ndarray, ...]:
    """Flat (row, emit, order, index, p, source) of one source of one emit: one entry a text that is there."""
    if pa.types.is_list(texts.type) or pa.types.is_large_list(texts.type):
        counts = pc.list_value_length(texts).fill_null(0).to_numpy()
        row = np.repeat(np.arange(len(texts)), counts)
        index = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        share = p / np.maximum(counts, 1)[row]
    else:
        row = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
        index, share = np.zeros(len(row), np.int64), np.full(len(row), p)
    constants = (np.full(len(row), c, np.int64) for c in (way, order))
    return (row, *constants, index, share, np.full(len(row), source, np.int64))
