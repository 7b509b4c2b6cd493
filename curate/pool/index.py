"""What is in a folder of shards: listed, or read from the folder's index once it is finished.

    index = FolderIndex.load(storage, "pixels")
    missing = index.missing(range(100_000))       # no listing where the index covers them

An index is a cache: one parquet with (shard, rows, uid_digest, bytes, low, high). Delete it and it is made anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import xxhash

from curate.pool.columns import FOOTER, read_metadata, read_table, write_groups, write_parquet
from curate.pool.layout import part_file
from curate.pool.storage import Storage
from stages.base import shard_name

INDEX_FROM = 64  # shards: below it a listing is as quick as an index
COMPACT_FROM = 1000  # shards: from here on, finished folders get compacted copies
COMPACT = 256  # shards in a compacted file
COMPACT_BYTES = 1 << 29  # files of vectors are large enough as they are, and 256 of them would not fit into memory
SHARD_FILE = re.compile(r"\d{8}\.parquet")

SCHEMA = pa.schema(
    [
        ("shard", pa.int64()),
        ("rows", pa.int64()),
        ("uid_digest", pa.string()),
        ("bytes", pa.int64()),
        ("low", pa.string()),  # JSON {column: smallest value}, where parquet knows it
        ("high", pa.string()),
    ]
)


@dataclass
class FolderIndex:
    """Finished shards of one folder; `known` has (rows, uid_digest, bytes) of those that the index covers."""

    storage: Storage
    folder: str
    known: dict[int, tuple[int, str, int]] = field(default_factory=dict)
    listed: set[int] | None = None

    @classmethod
    def load(cls, storage: Storage, folder: str) -> FolderIndex:
        """The newest index, or an empty one. Lists only the folder of indexes."""
        index = cls(storage, folder)
        found = storage.list(f"{folder}/_index")
        if found:
            newest = max(found, key=lambda e: (int(e.name.split(".")[0]), e.name))
            table, _ = read_table(storage, f"{folder}/_index/{newest.name}", ["shard", "rows", "uid_digest", "bytes"])
            columns = [table.column(n).to_pylist() for n in ("shard", "rows", "uid_digest", "bytes")]
            index.known = {s: (r, d, b) for s, r, d, b in zip(*columns, strict=True)}
        return index

    def finished(self, shards: Iterable[int]) -> set[int]:
        """Those of `shards` whose file exists; the folder is listed only if the index does not cover all."""
        wanted = set(shards)
        if wanted <= self.known.keys():
            return wanted
        if self.listed is None:
            names = (e.name for e in self.storage.list(self.folder))
            self.listed = {int(n[:8]) for n in names if SHARD_FILE.fullmatch(n)}
        return {s for s in wanted if s in self.known or s in self.listed}

    def missing(self, shards: Sequence[int]) -> list[int]:
        done = self.finished(shards)
        return [s for s in shards if s not in done]

    def describe(self, shards: Sequence[int]) -> dict[int, tuple[int, str, int]]:
        """(rows, uid_digest, bytes) of finished shards; footers that the index lacks are read, 32 at a time."""
        unknown = [s for s in shards if s not in self.known]
        if unknown:
            with ThreadPoolExecutor(32) as pool:
                for s, row in zip(unknown, pool.map(self._look, unknown), strict=True):
                    self.known[s] = row[:3]
        return {s: self.known[s] for s in shards}

    def _look(self, shard: int) -> tuple[int, str, int, str, str]:
        metadata, size = read_metadata(self.storage, part_file(self.folder, shard_name(shard)))
        footer = json.loads(metadata.metadata[FOOTER])
        low, high = _bounds(metadata)
        return metadata.num_rows, footer.get("uid_digest", ""), size, json.dumps(low), json.dumps(high)

    def save(self, shards: Sequence[int]) -> None:
        """Write the index of a finished folder that has many shards."""
        if len(shards) < INDEX_FROM:
            return
        with ThreadPoolExecutor(32) as pool:
            rows = list(pool.map(self._look, shards))
        columns = [list(shards), *(list(c) for c in zip(*rows, strict=True))]
        table = pa.table([pa.array(c, t.type) for c, t in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
        digest = xxhash.xxh3_64_hexdigest("".join(table.column("uid_digest").to_pylist()).encode())[:8]
        name = f"{self.folder}/_index/{len(shards):08d}.{digest}.parquet"
        self.storage.commit(name, write_parquet(table, {"rows": len(shards)}))
        self.known = {s: (r[0], r[1], r[2]) for s, r in zip(shards, rows, strict=True)}

    def uncompacted(self, shards: Sequence[int]) -> list[list[int]]:
        """Runs of shards that have no compacted copy yet; none where there are too few shards to need them."""
        if len(shards) < COMPACT_FROM:
            return []
        present = {e.name for e in self.storage.list(f"{self.folder}/_compact")}
        small = [g for g in _groups(shards) if sum(self.known[s][2] for s in g) <= COMPACT_BYTES]
        return [g for g in small if self.compact_name(g).rsplit("/", 1)[1] not in present]

    def compact(self, group: Sequence[int]) -> int:
        """Write one compacted copy, a row group a shard; returns its rows."""
        tables = [read_table(self.storage, part_file(self.folder, shard_name(s)))[0] for s in group]
        digests = {str(s): self.known[s][1] for s in group}
        footer = {"rows": sum(t.num_rows for t in tables), "shards": list(group), "uid_digests": digests}
        self.storage.commit(self.compact_name(group), write_groups(tables, footer))
        return int(footer["rows"])

    def compact_name(self, group: Sequence[int]) -> str:
        digest = xxhash.xxh3_64_hexdigest("".join(f"{s}:{self.known[s][1]}," for s in group).encode())[:8]
        return f"{self.folder}/_compact/{shard_name(group[0])}-{shard_name(group[-1])}.{digest}.parquet"

    def compacted(self, shards: Sequence[int]) -> dict[str, list[int]]:
        """Compacted files that hold exactly consecutive runs of finished `shards`: name -> its shards."""
        if len(shards) < COMPACT_FROM:
            return {}
        self.describe(shards)  # names are made of digests
        present = {e.name for e in self.storage.list(f"{self.folder}/_compact")}
        names = {self.compact_name(g): g for g in _groups(shards)}
        return {n: g for n, g in names.items() if n.rsplit("/", 1)[1] in present}


def _groups(shards: Sequence[int]) -> list[list[int]]:
    return [list(shards[i : i + COMPACT]) for i in range(0, len(shards), COMPACT)]


def _bounds(metadata: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Smallest and largest value of the numeric columns, from parquet's own statistics."""
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    for group in range(metadata.num_row_groups):
        for i in range(metadata.num_columns):
            column = metadata.row_group(group).column(i)
            stats = column.statistics
            if stats is not None and stats.has_min_max and isinstance(stats.min, int | float):
                name = column.path_in_schema
                low[name] = min(stats.min, low.get(name, stats.min))
                high[name] = max(stats.max, high.get(name, stats.max))
    return low, high
