"""Sorted runs of the uids that a list added: what a later list is compared with, a range at a time.

``uids/<list>@<hash>.<digest8>/<low>-<high>.parquet``: uid and check (uint64 over text and url), sorted by the mixed
hash of the uid; low and high are the first and last of 256 ranges of that hash that the file covers, in hex.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curate.pool.facts import UID
from curate.pool.spill import Spill, kept_only, mark_known, uids_of
from curate.pool.storage import Storage

SCHEMA = pa.schema([pa.field("uid", UID, nullable=False), ("check", pa.uint64())])
ROW_GROUP = 1 << 18


class Runs:
    """The runs of one claim."""

    def __init__(self, storage: Storage, files: tuple[str, ...]) -> None:
        self.storage = storage
        self.files = [(rel, *_bounds(rel)) for rel in files]

    def read(self, low: int, high: int) -> Iterator[tuple[pa.Array, np.ndarray]]:
        """(uids, checks) of the files that touch ranges low..high, a row group at a time."""
        for rel, first, last in self.files:
            if first <= high and low <= last:
                with pq.ParquetFile(self.storage.local(rel)) as file:
                    for group in range(file.num_row_groups):
                        table = file.read_row_group(group)
                        check = table.column("check").combine_chunks().to_numpy()
                        yield table.column("uid").combine_chunks(), check


def _bounds(rel: str) -> tuple[int, int]:
    """First and last range of a run, which its name says: ``.../00-7f.parquet``."""
    first, last = Path(rel).stem.split("-")
    return int(first, 16), int(last, 16)


def mark_known_by(runs: Runs, low: int, high: int, found: np.ndarray, fates: np.ndarray) -> None:
    """Rows of `found` (sorted, of ranges low..high) that the runs have become KNOWN. Raises: Clash."""
    if len(found):
        for uid, check in runs.read(low, high):
            mark_known(found, uid, check, fates)


def write_runs(storage: Storage, prefix: str, spill: Spill, fates: np.ndarray) -> tuple[str, ...]:
    """Write the uids that stay; returns the files' names. Same uids, same names, same bytes."""
    digest = xxhash.xxh3_64()
    written: list[tuple[str, Path]] = []
    for low, high, found in spill.groups():
        kept = kept_only(found, fates)
        table = pa.table([uids_of(kept), pa.array(kept["check"])], schema=SCHEMA)
        digest.update(memoryview(table.column("uid").chunk(0).buffers()[1]) if len(kept) else b"")
        path = storage.scratch()
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP, use_dictionary=False)
        written.append((f"{low:02x}-{high:02x}.parquet", path))
    folder = f"{prefix}.{digest.hexdigest()[:8]}"
    for name, path in written:
        storage.commit(f"{folder}/{name}", path)
    return tuple(f"{folder}/{name}" for name, _ in written)
