"""First pass of a pack: the copies of one shard's samples, in the order of the keyed hash that places them.

A copy's place in the pack is the rank of (hash64(seed, "pack/<copy>", uid), uid, copy) over the whole pick.
Each shard leaves two files: ``ranks/<shard>.parquet`` (hash, uid, copy), from which the driver finds where
tars begin, and ``members/<shard>.arrow`` (see `curate.run.pack.members`), of which the second pass reads slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.pool.columns import read_table, write_parquet
from curate.pool.layout import PIXELS, part_file
from curate.pool.storage import Storage
from curate.run.account import Account
from curate.run.pack.members import MEMBERS, describe_copies, write_members
from curate.run.pack.origin import census
from curate.run.reader import Places, ShardReader, removed
from stages.base import Column
from stages.draws import hash64, uid_halves

RANKS = "ranks"


@dataclass(frozen=True)
class PackWork:
    """What the workers of the first pass share; `folder` is the pack's, `pick` the pick's.

    lang: folder of the column `lang` that the recipe reads, to count languages by.
    """

    pool: str
    folder: str
    pick: str
    seed: int
    repeat: Literal["copies", "weight"]
    sources: Mapping[str, Column]
    places: Places
    removed_digest: str
    lang: str | None = None


@dataclass(frozen=True)
class Copies:
    """Copies of the samples of one shard, as parallel arrays.

    row: int64, of the shard. emit: int64, index into the flattened `emit` column. copy: int32, 0 and on
    within the sample. copies: int32, how many the sample has. weight: int32, how often the pick takes it.
    """

    row: np.ndarray
    emit: np.ndarray
    copy: np.ndarray
    copies: np.ndarray
    weight: np.ndarray

    def take(self, order: np.ndarray) -> Copies:
        return Copies(self.row[order], self.emit[order], self.copy[order], self.copies[order], self.weight[order])


def rank(work: PackWork, item: str) -> dict[str, Any]:
    """Write the ranks and the members of one shard; the ranks are the marker."""
    account = Account(Storage.at(work.pool))
    storage = account.storage
    marker = part_file(f"{work.folder}/{RANKS}", item)
    if storage.exists(marker):
        return {}
    reader = ShardReader(storage, int(item), work.places)
    picked = part_file(work.pick, item)
    table, footer = read_table(storage, picked, ["emit"])
    reader.check_aligned(picked, footer)
    emit = table.column("emit").combine_chunks()
    gone = reader.among(removed(work.pool, work.removed_digest))
    copies = copies_of(emit, gone, work.repeat)
    hashes = hash_copies(work.seed, reader.uid, copies)
    order = ranked(hashes, reader.uid.take(pa.array(copies.row)), copies.copy)
    copies, hashes = copies.take(order), hashes[order]
    facts, notes = read_table(storage, f"{PIXELS}/{item}.parquet")
    texts = dict(zip(work.sources, _source_columns(work, reader), strict=True))
    members = describe_copies(facts, emit, texts, copies, hashes, weighted=work.repeat == "weight")
    write_members(storage, f"{work.folder}/{MEMBERS}/{item}.arrow", members, f"{PIXELS}/{notes['tar']}")
    total = int(pc.sum(members.column("bytes")).as_py() or 0)
    ranks = members.select(["hash", "uid", "copy"])
    counts = {"samples": members.num_rows, "bytes": total, **{n: footer[n] for n in ("kept", "times", "dropped")}}
    counts["census"] = census(storage, facts, copies.row, work.lang, item)
    storage.commit(marker, write_parquet(ranks, reader.footer | counts))
    return {"rows": reader.rows, "samples": members.num_rows, "bytes": total, **account.told("pack rank", reader.rows)}


def _source_columns(work: PackWork, reader: ShardReader) -> list[pa.Array]:
    found = reader.columns(tuple(dict.fromkeys(work.sources.values())))
    return [found[c] for c in work.sources.values()]


def copies_of(emit: pa.ListArray, gone: np.ndarray, repeat: str) -> Copies:
    """The copies that a pick asks for, without removed samples; by weight, one for each way to emit.

    Args:
        emit: list<struct<copies, texts>>, one a row. gone: bool (rows,).
    """
    starts = emit.offsets.to_numpy().astype(np.int64)
    rows = len(emit)
    flat = np.arange(starts[0], starts[-1])
    row = np.repeat(np.arange(rows), np.diff(starts))
    asked = pc.struct_field(emit.values, "copies").to_numpy(zero_copy_only=False)[flat].astype(np.int64)
    asked[gone[row]] = 0
    written = np.minimum(asked, 1) if repeat == "weight" else asked
    total = np.bincount(row, weights=written, minlength=rows).astype(np.int64)
    row, before = np.repeat(row, written), np.cumsum(total) - total
    return Copies(
        row=row,
        emit=np.repeat(flat, written),
        copy=(np.arange(len(row)) - before[row]).astype(np.int32),
        copies=total[row].astype(np.int32),
        weight=np.repeat(asked, written).astype(np.int32),
    )


def hash_copies(seed: int, uid: pa.Array, copies: Copies) -> np.ndarray:
    """uint64, one a copy: ``hash64(seed, "pack/<copy>", uid)``."""
    hashes = np.empty(len(copies.row), np.uint64)
    by = np.argsort(copies.copy, kind="stable")
    numbers, starts = np.unique(copies.copy[by], return_index=True)
    for number, start, end in zip(numbers, starts, [*starts[1:], len(by)], strict=len(by) > 0):
        chosen = by[start:end]
        hashes[chosen] = hash64(seed, f"pack/{number}", uid.take(pa.array(copies.row[chosen])))
    return hashes


def ranked(hashes: np.ndarray, uid: pa.Array, copy: np.ndarray) -> np.ndarray:
    """The order of copies in a pack: by hash; equal hashes by uid, then by number of the copy."""
    high, low = uid_halves(uid)
    return np.lexsort((copy, low, high, hashes))
