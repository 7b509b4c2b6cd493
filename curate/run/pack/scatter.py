"""A pass for packs from an object store: images of some shards at a time, sorted into one segment in pack order.

A task of the second pass then reads one contiguous range of each segment, instead of each tar of the pool
again and again. A segment is bare image bytes; its members file says where each lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.pool.storage import Storage
from curate.run.pack.cuts import in_order, keys_of
from curate.run.pack.fill import SWEEP, Block, Gathered, read_images
from curate.run.pack.members import MEMBERS, read_members, write_members

SEGMENTS = "segments"


@dataclass(frozen=True)
class ScatterWork:
    """`groups`: name of a segment -> members files of the shards whose images it takes."""

    pool: str
    folder: str
    groups: Mapping[str, tuple[str, ...]]


def groups_of(members: Sequence[str], sizes: Sequence[int], limit: int) -> dict[str, tuple[str, ...]]:
    """Neighbours of at most `limit` bytes together; the name says first and last."""
    groups: list[list[str]] = []
    room = 0
    for name, size in zip(members, sizes, strict=True):
        if not groups or size > room:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= size
    stems = [[m.rsplit("/", 1)[1].removesuffix(".arrow") for m in g] for g in groups]
    return {f"{s[0]}-{s[-1]}": tuple(g) for s, g in zip(stems, groups, strict=True)}


def scatter(work: ScatterWork, item: str) -> dict[str, Any]:
    """Write one segment, then its members file, which is the marker."""
    storage = Storage.at(work.pool)
    marker = f"{work.folder}/{MEMBERS}/{item}.arrow"
    if storage.exists(marker):
        return {}
    sources: list[str] = []
    tables: list[pa.Table] = []
    for name in work.groups[item]:
        table, file = read_members(storage, name)
        number = pa.array(np.full(table.num_rows, len(sources), np.int32))
        tables.append(table.append_column("source", number))
        sources.append(file)
    members = pa.concat_tables(tables).combine_chunks()
    members = members.take(pa.array(in_order(keys_of(members)))).combine_chunks()
    segment = f"{work.folder}/{SEGMENTS}/{item}.bin"
    size = members.column("bytes").to_numpy().astype(np.int64)
    ends = np.cumsum(size)
    path = storage.scratch()
    try:
        _write_images(storage, Gathered(sources, members, np.arange(len(size))), ends - size, path)
        storage.commit(segment, path)
    finally:
        path.unlink(missing_ok=True)
    placed = members.set_column(members.column_names.index("offset"), "offset", pa.array(ends - size))
    write_members(storage, marker, placed.drop_columns(["source"]), segment)
    return {"samples": members.num_rows, "bytes": int(ends[-1])}


def _write_images(storage: Storage, gathered: Gathered, starts: np.ndarray, path: Path) -> None:
    """The images in the order of the rows, a sweep at a time; image i begins at byte starts[i]."""
    ends = np.append(starts[1:], starts[-1] + gathered.table.column("bytes")[-1].as_py())
    with path.open("wb") as out:
        for first, stop in _stretches(ends, SWEEP):
            buffer = memoryview(bytearray(int(ends[stop - 1] - starts[first])))
            targets = starts[first:stop] - starts[first]
            read_images(storage, gathered, [Block(0, first, stop, last=False)], [(buffer, targets)])
            out.write(buffer)


def _stretches(ends: np.ndarray, limit: int) -> list[tuple[int, int]]:
    """Row ranges of at most `limit` bytes each, or of one row."""
    found, start = [], 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        found.append((start, stop))
        start = stop
    return found
