"""Parquet files of a pool: written the same way everywhere, with a footer that says what they hold.

The footer (JSON under the key "curate") has at least `rows` and `uid_digest`: two files may be joined by
position only where both agree.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curate.errors import UserError
from curate.pool.storage import Storage

FOOTER = b"curate"


def uid_digest(uid: pa.Array | pa.ChunkedArray) -> str:
    """32 hex digits over the uids in row order: equal digests mean row-aligned files."""
    if isinstance(uid, pa.ChunkedArray):
        uid = uid.combine_chunks()
    start, size = 16 * uid.offset, 16 * len(uid)
    data = memoryview(uid.buffers()[1])[start : start + size] if size else b""
    return xxhash.xxh3_128_hexdigest(data)


def write_parquet(table: pa.Table, footer: Mapping[str, Any]) -> bytes:
    """The table as parquet (zstd), same table and footer in, same bytes out."""
    return write_groups([table], footer)


def write_groups(tables: Sequence[pa.Table], footer: Mapping[str, Any]) -> bytes:
    """One row group a non-empty table; the footer's `groups` says which (null: empty) if there are several."""
    notes = dict(footer)
    if len(tables) != 1:
        filled = iter(range(len(tables)))
        notes["groups"] = [next(filled) if t.num_rows else None for t in tables]
    schema = tables[0].schema.with_metadata({FOOTER: json.dumps(notes, sort_keys=True).encode()})
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd", store_schema=True) as writer:
        for table in tables:
            if table.num_rows or len(tables) == 1:
                whole = table.replace_schema_metadata(schema.metadata).combine_chunks()
                writer.write_table(whole, row_group_size=max(table.num_rows, 1))
    return sink.getvalue()


TAIL = 1 << 16  # bytes: nearly every footer of ours is shorter


def read_metadata(storage: Storage, rel: str) -> tuple[pq.FileMetaData, int]:
    """(parquet's metadata, bytes of the file), from the end of the file alone.

    Raises:
        UserError: it is not parquet, or is damaged.
    """
    metadata, end, total = _end(storage, rel)
    del end
    return metadata, total


def _end(storage: Storage, rel: str) -> tuple[pq.FileMetaData, bytes, int]:
    """(parquet's metadata, the end of the file that holds it, bytes of the file)."""
    data, total = storage.tail(rel, TAIL)
    length = int.from_bytes(data[-8:-4], "little") + 8
    if data[-4:] == b"PAR1" and len(data) < length <= total:
        data, _ = storage.tail(rel, length)
    try:
        return pq.read_metadata(io.BytesIO(data)), data, total
    except (pa.ArrowInvalid, OSError) as e:
        raise UserError(f"{storage}/{rel}: cannot be read as parquet: {e}; delete this file and run again") from e


def read_footer(storage: Storage, rel: str) -> dict[str, Any]:
    """The footer of a file of the pool.

    Raises:
        UserError: the file is not one of ours, or is damaged.
    """
    notes = read_metadata(storage, rel)[0].metadata
    if not notes or FOOTER not in notes:
        raise UserError(f"{storage}/{rel}: has no curate footer; was it written by another tool?")
    return dict(json.loads(notes[FOOTER]))


def read_table(
    storage: Storage, rel: str, columns: Sequence[str] | None = None, group: int | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """(table, footer); only the named columns and, of a bucketed file, only one bucket, are read."""
    with _opened(storage, rel, group) as file:
        schema = file.schema_arrow
        footer = json.loads((schema.metadata or {}).get(FOOTER, b"{}"))
        wanted = None if columns is None else [c for c in columns if c in schema.names]
        if group is None or "groups" not in footer:
            table = file.read(columns=wanted)
        elif footer["groups"][group] is None:
            kept = schema if wanted is None else pa.schema([schema.field(c) for c in wanted])
            table = kept.empty_table()
        else:
            table = file.read_row_group(footer["groups"][group], columns=wanted)
    return table.replace_schema_metadata(None), footer


def _opened(storage: Storage, rel: str, group: int | None) -> pq.ParquetFile:
    """The file; of one on an object store whose bucket is asked for, no more than that bucket and the end."""
    if storage.is_local:
        return pq.ParquetFile(storage.local(rel))
    if group is None:
        return pq.ParquetFile(io.BytesIO(storage.read(rel)))
    metadata, end, total = _end(storage, rel)
    groups = json.loads((metadata.metadata or {}).get(FOOTER, b"{}")).get("groups")
    if groups is None:
        return pq.ParquetFile(io.BytesIO(storage.read(rel)))
    parts = {total - len(end): end}
    if groups[group] is not None:
        start, size = _extent(metadata.row_group(groups[group]))
        parts[start] = storage.read_range(rel, start, size)
    return pq.ParquetFile(_Parts(parts, total), metadata=metadata)


def _extent(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """(first byte, bytes) of a row group's columns, which lie one after another."""
    columns = [group.column(i) for i in range(group.num_columns)]
    starts = [c.dictionary_page_offset or c.data_page_offset for c in columns]
    ends = [start + c.total_compressed_size for start, c in zip(starts, columns, strict=True)]
    return min(starts), max(ends) - min(starts)


class _Parts(io.RawIOBase):
    """A file of which only some parts are here, by their offsets."""

    def __init__(self, parts: Mapping[int, bytes], total: int) -> None:
        self._parts, self._total, self._at = dict(parts), total, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._total}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        size = self._total - self._at if size < 0 else min(size, self._total - self._at)
        for start, data in self._parts.items():
            if start <= self._at and self._at + size <= start + len(data):
                self._at += size
                return data[self._at - size - start : self._at - start]
        raise OSError(f"bytes {self._at} to {self._at + size} of the file were not fetched")
