"""Parts of a stage for survivors, in the order in which they were committed: no two of them have the same sample.

    parts = Parts(storage, "columns/caption@0123456789ab", shard=17)   # before one looks who has no answer yet
    kept = parts.commit(table, footer)                                 # without rows that another part has by now

Two runs may ask about the same samples at the same time, and captioners do not say the same twice. What was read of
one answer (a score, a condition, a pick) must never stand beside another. So parts have numbers, `<shard>.<number>`,
and the commit of a number is exclusive: who finds its number taken drops what that part has and tries the next. An
answer that is there stays the one that everybody reads.

Parts of older pools have eight hex digits for a number; they may overlap each other, and the first by name counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.pool.columns import read_table, write_parquet
from curate.pool.layout import part_file
from curate.pool.storage import Storage
from stages.base import shard_name

_PART = re.compile(r"(?P<shard>\d{8})\.(?P<number>[0-9a-f]+)\.parquet")
"""What a part's file is called; `<shard>.parquet` has values of all samples, by position, and no uid."""
_DIGITS = 6


def part_files(storage: Storage, folder: str, shard: int) -> list[str]:
    """All parts that the folder has of a shard, in the order in which they count."""
    found = storage.list(folder, f"{shard_name(shard)}.")
    return [f"{folder}/{e.name}" for e in found if _PART.fullmatch(e.name)]


def parts_by_shard(storage: Storage, folder: str) -> dict[int, list[str]]:
    """The same of every shard that the folder has parts of."""
    found: dict[int, list[str]] = {}
    for entry in storage.list(folder):
        if match := _PART.fullmatch(entry.name):
            found.setdefault(int(match["shard"]), []).append(f"{folder}/{entry.name}")
    return found


class Parts:
    """Where one worker puts parts of one shard.

    Make it before you look which rows have no answer yet: what others commit from then on is seen by `commit`.
    """

    def __init__(self, storage: Storage, folder: str, shard: int) -> None:
        self._storage, self._folder, self._shard = storage, folder, shard
        self._next = max(_numbers(part_files(storage, folder, shard)), default=-1) + 1
        self._others: list[pa.Array] = []  # uids of parts that were committed since

    def commit(self, table: pa.Table, footer: Mapping[str, Any]) -> pa.Table:
        """Make the rows (uid and values) a part, but for those that another part has.

        Returns: the rows that are in the part; where there is none, there is no part either.
        """
        left = self._left(table)
        while left.num_rows:
            rel = part_file(self._folder, f"{shard_name(self._shard)}.{self._next:0{_DIGITS}d}")
            self._next += 1
            if self._storage.commit(rel, write_parquet(left, {**footer, "rows": left.num_rows})):
                break
            self._others.append(read_table(self._storage, rel, ["uid"])[0].column("uid").combine_chunks())
            left = self._left(left)
        return left

    def _left(self, table: pa.Table) -> pa.Table:
        for uids in self._others:
            table = table.filter(pc.invert(pc.is_in(table.column("uid"), value_set=uids)))
        return table


def _numbers(files: Iterable[str]) -> Iterator[int]:
    """Those of parts that have one; older ones have digits of a digest in its place."""
    for file in files:
        match = _PART.fullmatch(file.rpartition("/")[2])
        if match and match["number"].isdecimal() and len(match["number"]) == _DIGITS:
            yield int(match["number"])
