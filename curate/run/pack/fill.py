"""Second pass of a pack: some consecutive files, filled by reading each source of images front to back.

The files of a task are cut into blocks (a file, or some hundreds of samples of a large one), and blocks into
sweeps that fit in memory. While one sweep is read, the one before is hashed and written by threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.layout import PIXELS
from curate.pool.storage import Storage
from curate.run.account import Account
from curate.run.pack.cuts import Cuts, in_order, keys_of
from curate.run.pack.members import read_members
from curate.run.pack.origin import Origin
from curate.run.pack.spec import PackSpec
from curate.run.pack.write import NOTES, FileWriters
from stages.base import shard_name

GROUP = 100  # samples that no block splits; the row group of a parquet
SWEEP = 32 << 20  # bytes read at once from a local pool: two are in memory
REMOTE_SWEEP = 512 << 20  # fewer and longer requests
OVERHEAD = 3072  # bytes of a sample besides image and texts, about


@dataclass(frozen=True)
class FillWork:
    """What the workers of the second pass share. `members`: names of the members files, in order."""

    pool: str
    folder: str
    spec: PackSpec
    origin: Origin
    members: tuple[str, ...]
    cuts: Cuts


@dataclass(frozen=True)
class Block:
    """Consecutive samples of one file: rows [start, stop) of the task's members."""

    file: int
    start: int
    stop: int
    last: bool


@dataclass(frozen=True)
class Gathered:
    """Members of the files of a task. `order` (int64) puts the rows of `table` into the order of the pack.

    sources: files that hold images; the column `source` is an index into them. The table itself is not
    reordered: the copy of a block is short-lived, and its memory is used again.
    """

    sources: list[str]
    table: pa.Table
    order: np.ndarray

    def rows(self, block: Block) -> pa.Table:
        """The rows of a block, in order."""
        return self.table.take(pa.array(self.order[block.start : block.stop]))

    def values(self, column: str, block: Block) -> np.ndarray:
        return np.asarray(self.table.column(column).to_numpy()[self.order[block.start : block.stop]])

    def weights(self) -> np.ndarray:
        """About how many bytes each copy takes in a tar, in order."""
        texts = self.table.column("texts").combine_chunks()
        length = pc.binary_length(pc.struct_field(texts.values, "text")).to_numpy()
        total = np.concatenate([[0], np.cumsum(length)])
        offsets = texts.offsets.to_numpy()
        words = total[offsets[1:]] - total[offsets[:-1]]
        return np.asarray((self.table.column("bytes").to_numpy() + 2 * words + OVERHEAD)[self.order])


def task_name(first: int, last: int) -> str:
    return f"{shard_name(first)}-{shard_name(last)}"


def note_name(folder: str, file: int) -> str:
    """Samples, bytes and sha256 of a committed file: what the manifest is made of."""
    return f"{folder}/{NOTES}/{shard_name(file)}.json"


def fill(work: FillWork, item: str) -> dict[str, Any]:
    """Write and commit those of the files ``first-last`` that have no note yet."""
    account = Account(Storage.at(work.pool))
    storage = account.storage
    first, last = (int(n) for n in item.split("-"))
    todo = [k for k in range(first, last + 1) if not storage.exists(note_name(work.folder, k))]
    if not todo:
        return {"files": 0}
    gathered = gather_members(storage, work, todo[0], todo[-1])
    weights = gathered.weights()
    blocks = list(_blocks(work.cuts, weights, todo))
    with FileWriters(storage, work.folder, work.spec, work.origin) as writers:
        for sweep in _sweeps(blocks, weights, SWEEP if storage.is_local else REMOTE_SWEEP):
            contents, readers = writers.prepare([gathered.rows(b) for b in sweep])
            read_images(storage, gathered, sweep, [(c.buffer, c.image_at) for c in contents])
            for block, content in zip(sweep, contents, strict=True):
                writers.write(block.file, content, readers, last=block.last)
    samples = sum(work.cuts.size(k) for k in todo)
    if storage.is_local:  # read in pieces, behind the back of the storage
        storage.was_read(sum(int(gathered.values("bytes", block).sum()) for block in blocks))
    return {"rows": samples, "files": len(todo), "samples": samples, **account.told("pack fill", samples)}


def gather_members(storage: Storage, work: FillWork, first: int, last: int) -> Gathered:
    """Members of the files first..last.

    Raises:
        UserError: the slices do not add up, as when a uid is in the pool twice.
    """
    sources: list[str] = []
    slices: list[pa.Table] = []
    for name in work.members:
        table, file = read_members(storage, name)
        keys = keys_of(table)
        start, stop = work.cuts.position(keys, first), work.cuts.position(keys, last + 1)
        if stop > start:
            source = pa.array(np.full(stop - start, len(sources), np.int32))
            slices.append(table.slice(start, stop - start).append_column("source", source))
            sources.append(file)
    members = pa.concat_tables(slices).combine_chunks()
    expected = work.cuts.start(last + 1) - work.cuts.start(first)
    keys = keys_of(members)
    order = in_order(keys)
    twice = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if len(twice) or members.num_rows != expected:
        which = members.column("uid")[order[twice[0]]].as_py().hex() if len(twice) else "a uid"
        raise UserError(
            f"{storage}/{work.folder}: files {first} to {last} should have {expected} samples, found "
            f"{members.num_rows}: {which} is in the pool twice; make the pool anew from its lists"
        )
    return Gathered(sources, members, order)


def _blocks(cuts: Cuts, weights: np.ndarray, todo: Sequence[int]) -> Iterator[Block]:
    """The files to do, each in as many blocks of whole groups as keep a block within a sweep."""
    for file in todo:
        begin, end = (cuts.start(k) - cuts.start(todo[0]) for k in (file, file + 1))
        groups = -(-(end - begin) // GROUP)
        parts = min(groups, -(-int(weights[begin:end].sum()) // SWEEP))
        edges = [min(begin + GROUP * (groups * part // parts), end) for part in range(parts + 1)]
        for start, stop in pairwise(edges):
            yield Block(file, start, stop, last=stop == end)


def _sweeps(blocks: Sequence[Block], weights: np.ndarray, limit: int) -> Iterator[list[Block]]:
    sweep: list[Block] = []
    size = 0
    for block in blocks:
        more = int(weights[block.start : block.stop].sum())
        if sweep and size + more > limit:
            yield sweep
            sweep, size = [], 0
        sweep.append(block)
        size += more
    if sweep:
        yield sweep


def read_images(
    storage: Storage,
    gathered: Gathered,
    sweep: Sequence[Block],
    into: Sequence[tuple[memoryview, np.ndarray]],
) -> None:
    """Read the images of the blocks' rows, each source once and front to back.

    Args:
        into: for each block its buffer, and int64 (rows,): where in it each image goes.
    """
    block = np.repeat(np.arange(len(sweep)), [b.stop - b.start for b in sweep])
    source, offset, size = (
        np.concatenate([gathered.values(n, b) for b in sweep]) for n in ("source", "offset", "bytes")
    )
    target = np.concatenate([at for _, at in into])
    order = np.lexsort((offset, source))
    ends = np.searchsorted(source[order], np.arange(len(gathered.sources) + 1))
    buffers = [buffer for buffer, _ in into]
    for number, (a, b) in enumerate(pairwise(ends.tolist())):
        if b > a:
            chosen = order[a:b]
            wanted = (offset[chosen].tolist(), size[chosen].tolist(), block[chosen].tolist(), target[chosen].tolist())
            _read_source(storage, gathered.sources[number], wanted, buffers)


def _read_source(storage: Storage, file: str, wanted: tuple[list[int], ...], buffers: Sequence[memoryview]) -> None:
    offsets, sizes, blocks, targets = wanted
    span = offsets[-1] + sizes[-1] - offsets[0]
    if not storage.is_local and not file.startswith(f"{PIXELS}/") and sum(sizes) * 2 > span:
        data = memoryview(storage.read_range(file, offsets[0], span))  # a segment: what is wanted lies together
        for offset, size, block, at in zip(offsets, sizes, blocks, targets, strict=True):
            buffers[block][at : at + size] = data[offset - offsets[0] : offset - offsets[0] + size]
        return
    handle = os.open(storage.local(file), os.O_RDONLY)
    try:
        for offset, size, block, at in zip(offsets, sizes, blocks, targets, strict=True):
            read = os.preadv(handle, [buffers[block][at : at + size]], offset)
            if read != size:
                raise UserError(f"{storage}/{file}: ends {size - read} bytes too soon, at byte {offset + read}")
    finally:
        os.close(handle)
