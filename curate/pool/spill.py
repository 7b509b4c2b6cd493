"""Uids of a list of any length on disk: find what recurs, in it or in the pool, holding a million at a time.

Records are spread over 256 buckets by a mixed hash of the uid, not by its first byte: given uids that count from 1
would all fall into bucket 0. Everything "sorted" here is sorted by that hash, then by uid.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from curate.pool.uids import Uids
from stages.draws import hash64_halves, uid_halves

BUCKETS = 256
AT_ONCE = 1_000_000  # records held and sorted together: about 200 MB
RECORD = np.dtype([("high", "u8"), ("low", "u8"), ("position", "u8"), ("check", "u8"), ("given", "?")])

KEPT, DUPLICATE, KNOWN = 0, 1, 2
"""What became of a row: `fates` holds one of these for each position."""


class Clash(Exception):
    """A given uid that stands for two samples: positions in the list; `other` is a run's row if `in_pool`."""

    def __init__(self, uid: bytes, position: int, other: int | None) -> None:
        super().__init__(uid.hex())
        self.uid, self.position, self.other = uid, position, other


def mixed(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """uint64 (n,): the order in which uids are sorted and spread."""
    return hash64_halves(0, "uids", high, low)


class Spill:
    """The uids of one list in list order (`uid_slice`) and in buckets (`groups`), in files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = 0
        self.sizes = np.zeros(BUCKETS, np.int64)
        self._buckets: dict[int, BinaryIO] = {}
        self._order = (folder / "order").open("wb")

    def add(self, uids: Uids) -> None:
        """Append rows."""
        high, low = uid_halves(uids.uid)
        records = np.empty(len(high), RECORD)
        records["high"], records["low"], records["check"], records["given"] = high, low, uids.check, uids.given
        records["position"] = np.arange(self.rows, self.rows + len(high), dtype=np.uint64)
        self._order.write(_big_endian(high, low))
        bucket = (mixed(high, low) >> np.uint64(56)).astype(np.int64)
        by_bucket = np.argsort(bucket, kind="stable")
        edges = np.searchsorted(bucket[by_bucket], np.arange(BUCKETS + 1))
        for b in np.unique(bucket).tolist():
            self._file(b).write(records[by_bucket[edges[b] : edges[b + 1]]].tobytes())
        self.sizes += np.diff(edges)
        self.rows += len(high)

    def finish(self) -> np.ndarray:
        """Close the files; returns `fates`: uint8 (rows,) on disk, all KEPT."""
        for f in (self._order, *self._buckets.values()):
            f.close()
        (self.folder / "fates").write_bytes(b"")
        if not self.rows:
            return np.zeros(0, np.uint8)
        return np.memmap(self.folder / "fates", np.uint8, "w+", shape=(self.rows,))

    def uid_slice(self, start: int, rows: int) -> pa.Array:
        """Uids at positions start .. start + rows: fixed_size_binary(16)."""
        with (self.folder / "order").open("rb") as f:
            f.seek(16 * start)
            return pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(f.read(16 * rows))])

    def groups(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """(first bucket, last bucket, records sorted by (hash, uid, position)), at most AT_ONCE together."""
        first, held = 0, 0
        for b in range(BUCKETS):
            if held and held + self.sizes[b] > AT_ONCE:
                yield first, b - 1, self._load(first, b - 1)
                first, held = b, 0
            held += self.sizes[b]
        yield first, BUCKETS - 1, self._load(first, BUCKETS - 1)

    def _load(self, first: int, last: int) -> np.ndarray:
        parts = [np.fromfile(self.folder / f"{b:02x}", RECORD) for b in range(first, last + 1) if self.sizes[b]]
        found = np.concatenate(parts) if parts else np.empty(0, RECORD)
        order = np.lexsort((found["position"], found["low"], found["high"], mixed(found["high"], found["low"])))
        return found[order]

    def _file(self, bucket: int) -> BinaryIO:
        if bucket not in self._buckets:
            self._buckets[bucket] = (self.folder / f"{bucket:02x}").open("wb")
        return self._buckets[bucket]


def tally(fates: np.ndarray) -> tuple[int, int, int]:
    """How many rows are KEPT, DUPLICATE and KNOWN; looks at a few million at a time."""
    parts = (fates[i : i + 4 * AT_ONCE] for i in range(0, len(fates), 4 * AT_ONCE))
    counts = sum((np.bincount(p, minlength=3) for p in parts), np.zeros(3, np.int64))
    return int(counts[KEPT]), int(counts[DUPLICATE]), int(counts[KNOWN])


def mark_duplicates(spill: Spill, fates: np.ndarray) -> None:
    """Within the list: the first of equal uids stays KEPT, the others become DUPLICATE.

    Raises:
        Clash: a given uid recurs with another text or url.
    """
    for _, _, found in spill.groups():
        if not len(found):
            continue
        new = np.ones(len(found), bool)
        new[1:] = (found["high"][1:] != found["high"][:-1]) | (found["low"][1:] != found["low"][:-1])
        starts = np.flatnonzero(new)
        which = np.cumsum(new) - 1
        any_given = np.logical_or.reduceat(found["given"], starts)
        clash = any_given[which] & (found["check"] != found["check"][starts][which])
        if clash.any():
            at = int(np.flatnonzero(clash)[0])
            first = found[starts[which[at]]]
            raise Clash(_uid_of(first), int(first["position"]), int(found["position"][at]))
        fates[found["position"][~new]] = DUPLICATE


def kept_only(found: np.ndarray, fates: np.ndarray) -> np.ndarray:
    """The records whose rows are KEPT so far."""
    return found[fates[found["position"]] == KEPT]


def mark_known(found: np.ndarray, uid: pa.Array, check: np.ndarray, fates: np.ndarray) -> None:
    """Rows of `found` (sorted, unique) whose uid is in `uid`, which the pool has, become KNOWN.

    Raises:
        Clash: the row's uid was given, and the pool has it with another text or url.
    """
    high, low = uid_halves(uid)
    mix, have = mixed(high, low), mixed(found["high"], found["low"])
    at = np.searchsorted(have, mix)
    open_ = np.arange(len(mix))
    while len(open_):  # a second round only where two uids share 64 bits of hash
        open_ = open_[at[open_] < len(have)]
        open_ = open_[have[at[open_]] == mix[open_]]
        rows = found[at[open_]]
        same = (rows["high"] == high[open_]) & (rows["low"] == low[open_])
        clash = same & rows["given"] & (rows["check"] != check[open_])
        if clash.any():
            row = rows[np.flatnonzero(clash)[0]]
            raise Clash(_uid_of(row), int(row["position"]), None)
        fates[rows["position"][same]] = KNOWN
        open_ = open_[~same]
        at[open_] += 1


def uids_of(found: np.ndarray) -> pa.Array:
    """fixed_size_binary(16) of records."""
    return pa.Array.from_buffers(
        pa.binary(16), len(found), [None, pa.py_buffer(_big_endian(found["high"], found["low"]))]
    )


def _uid_of(record: np.void) -> bytes:
    return int(record["high"]).to_bytes(8, "big") + int(record["low"]).to_bytes(8, "big")


def _big_endian(high: np.ndarray, low: np.ndarray) -> bytes:
    return np.stack([high, low], axis=1).astype(">u8").tobytes()
