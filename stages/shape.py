"""The shape of a pool: what a computation over all its shards may know before it starts."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """Shard numbers, their rows, and what came when.

    shards ascend. generations: of each shard, which of the pool's lists it came with, counted from 0 in the order in
    which they came; ascending. digests: of each shard, of the uids in it. Left out, there is one generation, and no
    digest.
    """

    shards: tuple[int, ...]
    rows: tuple[int, ...]
    generations: tuple[int, ...] = ()
    digests: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.rows)

    def split(self) -> tuple[Shape, ...]:
        """The shape of each generation by itself, oldest first."""
        of = self.generations or (0,) * len(self.shards)
        found = []
        for generation in sorted(set(of)):
            found.append(self.among([s for s, g in zip(self.shards, of, strict=True) if g == generation]))
        return tuple(found)

    def among(self, shards: Iterable[int]) -> Shape:
        """The shape of some of the shards; of a few among many in little time."""
        found = ((bisect_left(self.shards, shard), shard) for shard in sorted(set(shards)))
        at = [i for i, shard in found if self.shards[i : i + 1] == (shard,)]
        return Shape(
            tuple(self.shards[i] for i in at),
            tuple(self.rows[i] for i in at),
            tuple(self.generations[i] for i in at) if self.generations else (),
            tuple(self.digests[i] for i in at) if self.digests else (),
        )

    def digest(self) -> str:
        """8 hex digits: which shards these are, and what is in them."""
        said = json.dumps([self.shards, self.rows, self.digests])
        return hashlib.sha256(said.encode()).hexdigest()[:8]
