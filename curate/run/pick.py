"""Worker that makes a pick: per sample who dropped it, or in how many copies and with which texts it goes on.

dropped_by, reason, times, emit: list<struct<copies, texts: list<struct<source, index, p>>>>
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.columns import read_footer, read_table, write_parquet
from curate.pool.layout import part_file
from curate.pool.storage import Storage
from curate.run.account import Account
from curate.run.conditions import Conditions, held
from curate.run.reader import Places, ShardReader, removed
from stages.base import Column, shard_name

CHOICE = pa.struct([("source", pa.string()), ("index", pa.int32()), ("p", pa.float32())])
EMIT = pa.struct([("copies", pa.int32()), ("texts", pa.list_(CHOICE))])
PICK = pa.schema(
    [("dropped_by", pa.string()), ("reason", pa.string()), ("times", pa.int32()), ("emit", pa.list_(EMIT))]
)
REMOVED, NO_TEXT = "removed", "no_text"


@dataclass(frozen=True)
class Emit:
    """One way in which a sample goes on: so many copies, each with one of these texts (source, probability).

    where: SQL that must hold of the sample, else it does not go on this way. wheres: of each text, in their order, SQL
    that must hold, else it counts as null; () where no text has any. See `curate.run.conditions`.
    each: of each text, is its probability that of every text of the source, not of them together? () where of none.
    """

    copies: int
    texts: tuple[tuple[str, float], ...]
    where: str | None = None
    wheres: tuple[str | None, ...] = ()
    each: tuple[bool, ...] = ()

    def conditions(self, number: int, holds: Mapping[str, pa.Array]) -> list[tuple[str, pa.Array]]:
        """What must hold for one of the texts to be there: each SQL with its answers."""
        own = self.wheres[number] if self.wheres else None
        return [(sql, holds[sql]) for sql in (self.where, own) if sql]

    def shares(self, number: int, row: np.ndarray) -> np.ndarray:
        """float64 (n,): of texts of one source, which are there in these rows, before they are made to sum to one."""
        p = self.texts[number][1]
        together = np.ones(1, np.int64) if self.each and self.each[number] else np.bincount(row)[row]
        return np.broadcast_to(p / together, len(row))

    def said(self) -> list[Any]:
        """As JSON, for fingerprints; what has no condition is said as if there were none."""
        more = zip_longest(self.texts, self.wheres, self.each)
        texts = [[*t, w, "each"] if each else [*t, w] if w else [*t] for t, w, each in more]
        return [self.copies, texts, *([self.where] if self.where else [])]


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
    conditions: Conditions = field(default_factory=dict)


def pick(work: PickWork, item: str) -> dict[str, Any]:
    """Write the pick of one shard from its verdicts; opens no column but those of texts and their conditions."""
    account = Account(Storage.at(work.pool))
    storage = account.storage
    reader = ShardReader(storage, int(item), work.places)
    dropped_by, reason, copies = _fates(work, reader, storage, item)
    asked = [*work.sources.values(), *(c for reads in work.conditions.values() for c in reads)]
    columns = reader.columns(tuple(dict.fromkeys(asked)))
    texts = {name: columns[c] for name, c in work.sources.items()}
    holds = held(work.conditions, columns)
    emit, times, has_text = build_emit(work.emit, texts, dropped_by < 0, copies, holds)
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
    gone = reader.among(removed(work.pool, work.removed_digest))
    dropped_by[gone] = len(work.steps)
    return dropped_by, pc.if_else(pa.array(gone), pa.scalar(None, pa.string()), reason), copies


def build_emit(
    emits: tuple[Emit, ...],
    texts: Mapping[str, pa.Array],
    alive: np.ndarray,
    copies: np.ndarray,
    holds: Mapping[str, pa.Array] | None = None,
) -> tuple[pa.Array, pa.Array, np.ndarray]:
    """(emit, times, has_text) for rows of one shard, all vectorised.

    Args:
        texts: source -> string array, or list<struct<source, text>> with several texts a row.
        alive: bool (rows,): rows that are kept. copies: int64 (rows,): factor on every emit's copies.
        holds: of each condition, bool (rows,), or list<bool> with one for each text of a list.

    A text that is null for a row, or whose condition does not hold, is left out and the probabilities of the others
    grow in proportion; texts of a list share their source's probability, or with `each` have as much each; an emit
    without any text is left out.

    Raises:
        UserError: a condition has another number of answers than there are texts.
    """
    rows, ways, answers = len(alive), len(emits), holds or {}
    parts = [
        (there, *_filled(len(there), way, order), number, emit.shares(order, there), *_filled(len(there), source))
        for way, emit in enumerate(emits)
        for order, (name, _) in enumerate(emit.texts)
        for source in (list(texts).index(name),)
        for there, number in (_there(texts[name], emit.conditions(order, answers)),)
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


def _filled(length: int, *values: int) -> Iterator[np.ndarray]:
    return (np.full(length, value, np.int64) for value in values)


def _there(texts: pa.Array, conditions: Sequence[tuple[str, pa.Array]]) -> tuple[np.ndarray, np.ndarray]:
    """(row, index) of each text that is there: not null, and all conditions hold; in the order of the rows."""
    if not _several(texts.type):
        there = _true(texts.is_valid())
        for sql, holds in conditions:
            if _several(holds.type):
                raise UserError(f"captions.emit: where: {sql}: says several things of the only text of a sample")
            there &= _true(holds)
        row = np.flatnonzero(there)
        return row, np.zeros(len(row), np.int64)
    counts = pc.list_value_length(texts).fill_null(0).to_numpy().astype(np.int64)
    row = np.repeat(np.arange(len(texts)), counts)
    index = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    flat = texts.flatten()
    there = _true((pc.struct_field(flat, "text") if pa.types.is_struct(flat.type) else flat).is_valid())
    for sql, holds in conditions:
        there &= _of_each(sql, holds, counts) if _several(holds.type) else _true(holds)[row]
    return row[there], index[there]


def _of_each(sql: str, holds: pa.Array, counts: np.ndarray) -> np.ndarray:
    """bool, one a text: a condition's answers for the texts of each row; where it has none at all, none holds."""
    answers = pc.list_value_length(holds).fill_null(-1).to_numpy()
    if ((answers >= 0) & (answers != counts)).any():
        row = int(np.flatnonzero((answers >= 0) & (answers != counts))[0])
        raise UserError(
            f"captions.emit: where: {sql}: {answers[row]} answers for {counts[row]} texts in row {row} of the shard; "
            "it must say true or false of each text"
        )
    found = np.zeros(int(counts.sum()), bool)
    found[np.repeat(answers >= 0, counts)] = _true(holds.flatten())
    return found


def _several(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _true(array: pa.Array) -> np.ndarray:
    """bool (n,): null is false; writable."""
    return np.array(array.fill_null(False).to_numpy(zero_copy_only=False), bool)


def totals(storage: Storage, folder: str, shards: Sequence[int]) -> tuple[int, int, int, dict[str, int]]:
    """(kept, times, rows, dropped by id) of a pick, from its footers."""
    with ThreadPoolExecutor(16) as threads:
        names = [part_file(folder, shard_name(s)) for s in shards]
        footers = list(threads.map(lambda n: read_footer(storage, n), names))
    dropped = {i: sum(f["dropped"].get(i, 0) for f in footers) for f0 in footers for i in f0["dropped"]}
    kept, times, rows = (sum(f[k] for f in footers) for k in ("kept", "times", "rows"))
    return kept, times, rows, dropped
