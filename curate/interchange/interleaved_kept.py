"""Which pictures of documents a recipe has kept, looked up by uid.

kept = Kept.of(pool, "picks/mine@0123456789ab", by="url")
kept.find(uids)                                  # where each one's sample is; -1: not kept

Of memory 55 bytes for each sample that was kept while it is read, by sha256 130 for each sample of the pool; then 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.columns import read_table
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from stages.base import shard_name
from stages.draws import uid_halves

By = Literal["url", "sha256"]


@dataclass(frozen=True)
class Kept:
    """Samples of a pool, parallel arrays sorted by (high, low) of their uids: by url those that were kept, by sha256
    all of them.

    stands: int64, the number of the kept sample that stands for this one: itself where it was kept, by sha256 another
    of the same bytes; -1: none, as for what was taken down. shard, row: int32, where it lies.
    """

    high: np.ndarray
    low: np.ndarray
    stands: np.ndarray
    shard: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, pool: Pool, pick: str, by: By = "url") -> Kept:
        """Of a pick. Samples removed since are not kept; those of shards that came after it are not either.

        Raises:
            UserError: a shard of the pick is missing.
        """
        about = pool.about(pick)
        picked = frozenset(about.get("shards", ()))
        parts = [_Shard.read(pool, pick if shard in picked else None, shard, by) for shard in pool.shards()]
        sample = _Shard.joined(parts)
        own = np.arange(len(sample.high), dtype=np.int64)
        stands = np.where(sample.kept, own, -1)
        if by == "sha256":
            stands = np.where(sample.removed, -1, _of_equal_bytes(sample, stands))
        return cls(sample.high, sample.low, stands, sample.shard, sample.row)

    def find(self, uids: pa.Array) -> np.ndarray:
        """int64 (n,): for each uid (binary(16)) the number of the sample that stands for it, -1 where none does."""
        high, low = uid_halves(uids)
        at, end = np.searchsorted(self.high, high, "left"), np.searchsorted(self.high, high, "right")
        found = np.full(len(high), -1, np.int64)
        rows = np.flatnonzero(at < end)
        while len(rows):  # once but for halves that two uids share
            here = at[rows]
            same = self.low[here] == low[rows]
            found[rows[same]] = self.stands[here[same]]
            at[rows] += 1
            rows = rows[~same & (at[rows] < end[rows])]
        return found

    def uid(self, numbers: Sequence[int]) -> list[bytes]:
        """uids of samples by their numbers."""
        chosen = np.asarray(numbers, np.int64)
        words = np.stack([self.high[chosen], self.low[chosen]], axis=1).astype(">u8")
        return [row.tobytes() for row in words]


@dataclass(frozen=True)
class _Shard:
    """Samples of a shard, or of several. sha: uint64 [n, 2]; [n, 0] where it was not asked for."""

    high: np.ndarray
    low: np.ndarray
    kept: np.ndarray
    removed: np.ndarray
    shard: np.ndarray
    row: np.ndarray
    sha: np.ndarray

    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.high, self.low, self.kept, self.removed, self.shard, self.row, self.sha

    @classmethod
    def joined(cls, parts: list[_Shard]) -> _Shard:
        """All in one, sorted; empties `parts`. One array after the other, so that none is there twice for long."""
        if not parts:
            raise UserError("the pool has no pictures yet; first: curate run")
        columns = [list(values) for values in zip(*(p.arrays() for p in parts), strict=True)]
        parts.clear()
        high, low = (_taken(columns[i]) for i in (0, 1))
        order = np.lexsort((low, high))
        return cls(high[order], low[order], *(_taken(values)[order] for values in columns[2:]))

    @classmethod
    def read(cls, pool: Pool, pick: str | None, shard: int, by: By) -> _Shard:
        facts, footer = pool.facts(shard, ["uid", "sha256"] if by == "sha256" else ["uid"])
        uid = facts.column("uid").combine_chunks()
        rows = len(uid)
        removed = pc.is_in(uid, value_set=pool.removed).to_numpy(zero_copy_only=False)
        kept = np.zeros(rows, bool)
        if pick is not None:
            kept = (_times(pool, part_file(pick, shard_name(shard)), footer) > 0) & ~removed
        sha = np.zeros((rows, 0), np.uint64)
        if by == "sha256":
            digests = b"".join(bytes.fromhex(d)[:16] for d in facts.column("sha256").to_pylist())
            sha = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
        place = np.full(rows, shard, np.int32), np.arange(rows, dtype=np.int32)
        every = cls(*uid_halves(uid), kept, removed, *place, sha)
        return every if by == "sha256" else cls(*(values[kept] for values in every.arrays()))


def _taken(parts: list[np.ndarray]) -> np.ndarray:
    """All in one; empties `parts`."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _times(pool: Pool, rel: str, shard: dict[str, object]) -> np.ndarray:
    try:
        table, footer = read_table(pool.storage, rel, ["times"])
    except FileNotFoundError as e:
        raise UserError(f"{pool.storage}/{rel}: is missing; run the recipe again") from e
    if (footer.get("rows"), footer.get("uid_digest")) != (shard["rows"], shard["uid_digest"]):
        raise UserError(f"{pool.storage}/{rel}: belongs to other rows than its shard; delete it and run again")
    times: np.ndarray = table.column("times").fill_null(0).to_numpy()
    return times


def _of_equal_bytes(sample: _Shard, stands: np.ndarray) -> np.ndarray:
    """Where a sample was not kept: the first kept one, by uid, of the same bytes."""
    _, group = np.unique(sample.sha, axis=0, return_inverse=True)
    group = group.reshape(-1)
    first = np.full(group.max(initial=-1) + 1, -1, np.int64)
    kept = np.flatnonzero(stands >= 0)[::-1]
    first[group[kept]] = kept  # written backwards: the first is what stays
    return np.where(stands >= 0, stands, first[group])
