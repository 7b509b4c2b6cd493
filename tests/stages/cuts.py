"""Pools cut any way, and a barrier's columns by row: what tests of barriers over scores share."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from stages.base import Barrier
from tests.filters.sampled import uid_of
from tests.phase_runner import PhaseRunner


def column(pool: dict[int, pa.Table], barrier: Barrier, seed: int | None = None) -> list[Any]:
    """The barrier's only column, in the order of the rows' numbers (see `tests.filters.sampled.pool_of`)."""
    number = {uid_of(i): i for i in range(sum(t.num_rows for t in pool.values()))}
    found = {}
    for shard, table in PhaseRunner(pool, seed).run(barrier).items():
        for uid, value in zip(pool[shard]["uid"].to_pylist(), table.column(0).to_pylist(), strict=True):
            found[number[uid]] = value
    return [found[i] for i in range(len(found))]
