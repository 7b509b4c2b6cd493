"""One shard of a pick as the report walks over it: who dropped whom, who was kept, and what filters measured.

for found in walk(ground, look): ...      # look(Sight) of each shard, in threads, in the order of the shards

Each file is read once a walk, and of each only the columns that are needed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.ask.report.margins import Asked, Values
from curate.errors import UserError
from curate.pool.columns import read_table
from curate.pool.layout import PIXELS, marker, part_file
from curate.pool.pool import Pool
from stages.base import shard_name

THREADS = 8  # at most: each holds one shard's columns

T = TypeVar("T")


@dataclass
class Ground:
    """What the report walks over: a finished pick, its filters, its shards in ascending order."""

    pool: Pool
    pick: str
    steps: Sequence[Asked]
    shards: Sequence[int]
    _mine: threading.local = field(default_factory=threading.local)

    @cached_property
    def removed(self) -> pa.Array:
        return self.pool.removed

    @cached_property
    def names(self) -> pa.Array:
        return pa.array([s.id for s in self.steps], pa.string())

    def values(self, step: Asked) -> Values:
        """This thread's."""
        if not hasattr(self._mine, "values"):
            self._mine.values = [Values(s) for s in self.steps]
        found: Values = self._mine.values[step.number]
        return found


def walk(ground: Ground, look: Callable[[Sight], T], shards: Sequence[int] | None = None) -> Iterator[T]:
    """`look` at each shard, some at a time; the answers come in the order of the shards."""
    workers = min(THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(workers) as threads:
        yield from threads.map(lambda s: look(Sight(ground, s)), ground.shards if shards is None else shards)


class Sight:
    """One shard. Arrays are in shard order, one value a row."""

    def __init__(self, ground: Ground, shard: int) -> None:
        self.ground, self.shard = ground, shard
        self._read: dict[str, pa.Table] = {}

    @cached_property
    def _head(self) -> tuple[pa.Array, Mapping[str, Any]]:
        """The uids, and beside them the facts that filters measure: read at once."""
        table, footer = read_table(self.ground.pool.storage, marker(self.shard), ["uid", *self._wanted(PIXELS)])
        self._read[PIXELS] = table
        return table.column("uid").combine_chunks(), footer

    @property
    def uid(self) -> pa.Array:
        """binary(16)."""
        return self._head[0]

    @cached_property
    def shown(self) -> np.ndarray:
        """bool: may be shown; removed samples may not."""
        return ~pc.is_in(self.uid, value_set=self.ground.removed).to_numpy(zero_copy_only=False)

    @cached_property
    def _pick(self) -> pa.Table:
        return self._aligned(part_file(self.ground.pick, shard_name(self.shard)), ["dropped_by", "times"])

    @cached_property
    def first(self) -> np.ndarray:
        """int: the number of the filter that dropped the row first; as many as there are where none did."""
        step = pc.index_in(self._pick.column("dropped_by").combine_chunks(), value_set=self.ground.names)
        return np.asarray(step.fill_null(len(self.ground.steps)).to_numpy(zero_copy_only=False))

    @cached_property
    def kept(self) -> np.ndarray:
        """bool: is in the final pick."""
        return np.asarray(self._pick.column("times").to_numpy() > 0)

    def keep(self, step: Asked) -> tuple[np.ndarray, np.ndarray]:
        """(bool: the filter was asked, bool: it kept the row)."""
        keep = self._table(step.folder).column("keep").combine_chunks()
        asked = keep.is_valid().to_numpy(zero_copy_only=False)
        return asked, keep.fill_null(False).to_numpy(zero_copy_only=False)

    def values(self, step: Asked) -> list[pa.Array]:
        """Of each margin of a filter its values, numbers or null."""
        _ = self._head
        columns = {
            name: self._table(folder).column(column).combine_chunks() for name, (folder, column) in step.places.items()
        }
        return self.ground.values(step).of(columns)

    def verdict(self, step: Asked, columns: Sequence[str]) -> pa.Table:
        """Those of the verdict's columns that it has."""
        return self._aligned(part_file(step.folder, shard_name(self.shard)), columns)

    def columns(self, folder: str, names: Sequence[str]) -> pa.Table:
        """Columns of any folder with files row-aligned with shards, or with parts of a sparse stage; PIXELS has the
        facts."""
        rel = part_file(folder, shard_name(self.shard))
        if folder.startswith("columns/") and not self.ground.pool.storage.exists(rel):
            return self._sparse(folder, names).select(list(names))
        return self._aligned(rel, names)

    def _wanted(self, folder: str) -> list[str]:
        """The columns of a folder that all margins together name."""
        places = [place for s in self.ground.steps for place in s.places.values()]
        return list(dict.fromkeys(column for home, column in places if home == folder))

    def _table(self, folder: str) -> pa.Table:
        if folder not in self._read:
            wanted = self._wanted(folder)
            wanted += ["keep"] if folder.startswith("verdicts/") else []
            rel = part_file(folder, shard_name(self.shard))
            sparse = folder.startswith("columns/") and not self.ground.pool.storage.exists(rel)
            self._read[folder] = self._sparse(folder, wanted) if sparse else self._aligned(rel, wanted)
        return self._read[folder]

    def _aligned(self, rel: str, columns: Sequence[str]) -> pa.Table:
        table, footer = read_table(self.ground.pool.storage, rel, columns)
        mine = self._head[1]
        if (footer.get("rows"), footer.get("uid_digest")) != (mine.get("rows"), mine.get("uid_digest")):
            raise UserError(
                f"{self.ground.pool.storage}/{rel}: does not belong to shard {self.shard} as it is now "
                "(rows or uids differ); delete this file and run again"
            )
        return table

    def _sparse(self, folder: str, columns: Sequence[str]) -> pa.Table:
        """What parts of a sparse stage know of the shard's rows: null where it was never asked."""
        storage = self.ground.pool.storage
        names = [e.name for e in storage.list(folder, f"{shard_name(self.shard)}.") if e.name.endswith(".parquet")]
        if not names:
            return pa.table({c: pa.nulls(len(self.uid)) for c in columns})
        have = pa.concat_tables([read_table(storage, f"{folder}/{n}", ["uid", *columns])[0] for n in sorted(names)])
        place = pc.index_in(self.uid, value_set=have.column("uid").combine_chunks())
        return have.select(list(columns)).take(place)
