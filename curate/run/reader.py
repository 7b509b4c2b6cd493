"""One shard as its workers see it: facts, columns of any stage by position, and images by offset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.columns import read_table
from curate.pool.layout import PIXELS, marker, part_file
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.parts import part_files
from curate.run.sparse import is_sparse
from stages.base import ERROR, IMAGE, UID, Barrier, Batch, Column, Stage, fact, shard_name

BATCH = 256  # rows that a stage sees at once; fixed, so that its output cannot depend on memory
AFAR = 64  # the same of a stage that waits for another machine, of which four parts are under way at once

Places = Mapping[Stage | Barrier, str]
"""Owner -> the folder that has one row-aligned file a shard (or parts, where the stage is sparse)."""


def output_schema(stage: Stage) -> pa.Schema:
    """What is stored: the stage's columns, and `error`."""
    schema = stage.writes()
    return schema if ERROR in schema.names else schema.append(pa.field(ERROR, pa.string()))


@lru_cache(maxsize=4)
def removed(pool: str, digest: str) -> pa.Array:
    """Removed uids, read once a worker; `digest` only keys the cache."""
    del digest
    return Pool.open(pool).removed


@dataclass
class ShardReader:
    """Reads what is asked for and nothing else: only the named columns of only the named files."""

    storage: Storage
    shard: int
    places: Places

    @cached_property
    def _head(self) -> tuple[pa.Array, dict[str, Any]]:
        table, footer = read_table(self.storage, marker(self.shard), ["uid"])
        return table.column("uid").combine_chunks(), footer

    @property
    def uid(self) -> pa.Array:
        """binary(16), one a row."""
        return self._head[0]

    @property
    def rows(self) -> int:
        return len(self.uid)

    def among(self, uids: pa.Array) -> np.ndarray:
        """bool (rows,): whose uid is one of these."""
        found: np.ndarray = pc.is_in(self.uid, value_set=uids).to_numpy(zero_copy_only=False)
        return found

    @property
    def footer(self) -> dict[str, Any]:
        """Footer for a file that is row-aligned with the shard."""
        return {"rows": self.rows, "uid_digest": self._head[1]["uid_digest"]}

    def columns(self, wanted: Sequence[Column]) -> dict[Column, pa.Array]:
        """The columns, each of `rows` values; each file is opened once.

        Raises:
            UserError: a file is not row-aligned with the shard, or has no such column.
        """
        by_owner: dict[Stage | Barrier | None, list[Column]] = {}
        for c in wanted:
            if c != IMAGE:
                by_owner.setdefault(c.owner, []).append(c)
        found: dict[Column, pa.Array] = {}
        for owner, columns in by_owner.items():
            table = self._table(owner, [c.field for c in columns])
            for c in columns:
                if c.field not in table.column_names:
                    raise UserError(f"shard {self.shard}: no column {c.field!r}; there are {table.column_names}")
                found[c] = table.column(c.field).combine_chunks()
        return found

    def _table(self, owner: Stage | Barrier | None, fields: list[str]) -> pa.Table:
        if owner is None:
            return read_table(self.storage, marker(self.shard), fields)[0]
        if isinstance(owner, Stage) and is_sparse(owner):
            return self.sparse_table(owner, fields)
        rel = part_file(self.places[owner], shard_name(self.shard))
        table, footer = read_table(self.storage, rel, fields)
        self.check_aligned(rel, footer)
        return table

    def check_aligned(self, rel: str, footer: Mapping[str, Any]) -> None:
        if (footer.get("rows"), footer.get("uid_digest")) != (self.rows, self._head[1]["uid_digest"]):
            raise UserError(
                f"{self.storage}/{rel}: does not belong to shard {self.shard} as it is now (rows or uids differ); "
                "delete this file and run again"
            )

    def sparse_table(self, stage: Stage, fields: list[str] | None = None) -> pa.Table:
        """Values of a sparse stage at the shard's rows: null, and `asked` false, where it was never asked."""
        parts = part_files(self.storage, self.places[stage], self.shard)
        schema = pa.schema([f for f in output_schema(stage) if fields is None or f.name in fields])
        if not parts:
            found = {f.name: pa.nulls(self.rows, f.type) for f in schema}
            return pa.table({**found, "asked": pa.array(np.zeros(self.rows, bool))})
        have = pa.concat_tables([read_table(self.storage, p, ["uid", *schema.names])[0] for p in parts])
        place = pc.index_in(self.uid, value_set=have.column("uid").combine_chunks())
        return have.take(place).drop_columns("uid").append_column("asked", pc.is_valid(place))

    def asked(self, stage: Stage) -> np.ndarray:
        """bool (rows,): which rows a part of the sparse stage has, with a value or with an error."""
        asked: np.ndarray = self.sparse_table(stage, []).column("asked").to_numpy()
        return asked

    def survivors(self, above: Sequence[str]) -> np.ndarray:
        """bool (rows,): which rows every verdict folder of `above` keeps."""
        alive = np.ones(self.rows, bool)
        for folder in above:
            rel = part_file(folder, shard_name(self.shard))
            table, footer = read_table(self.storage, rel, ["keep"])
            self.check_aligned(rel, footer)
            alive &= table.column("keep").fill_null(False).to_numpy()
        return alive

    def batches(self, wanted: Sequence[Column], rows: np.ndarray | None = None, size: int = BATCH) -> Iterator[Batch]:
        """The shard, or the given row numbers of it, in batches of `size` rows."""
        columns = self.columns([*wanted, UID])
        images = _Images(self) if IMAGE in wanted else None
        numbers = np.arange(self.rows) if rows is None else rows
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            taken = {c: _take(a, chosen, whole=rows is None) for c, a in columns.items()}
            yield Batch(taken, len(chosen), images.of(chosen) if images else None)
        if images:
            images.close()


def _take(array: pa.Array, rows: np.ndarray, *, whole: bool) -> pa.Array:
    return array.slice(rows[0], len(rows)) if whole else array.take(pa.array(rows))


class _Images:
    """Encoded images of a shard, read from its tar by offset."""

    def __init__(self, reader: ShardReader) -> None:
        footer = reader._head[1]
        self._spans = reader.columns([fact("tar_offset"), fact("bytes")])
        self._offset, self._size = (self._spans[fact(n)].to_numpy() for n in ("tar_offset", "bytes"))
        self._opened = ExitStack()
        self._file: BinaryIO = self._opened.enter_context(reader.storage.open(f"{PIXELS}/{footer['tar']}"))

    def of(self, rows: np.ndarray) -> Any:
        def read(i: int) -> bytes:
            row = int(rows[i])
            self._file.seek(int(self._offset[row]))
            return self._file.read(int(self._size[row]))

        return read

    def close(self) -> None:
        self._opened.close()
