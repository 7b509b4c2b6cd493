"""Pools cut any way, and what filters that sample say of them: what the tests of the samplers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from filters.base import GlobalFilter
from tests.phase_runner import PhaseRunner


def uid_of(number: int) -> bytes:
    """Spread over all 128 bits, as uids are; and not in the order of the numbers."""
    return (number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128).to_bytes(16, "big")


def pool_of(columns: Mapping[str, Any], shards: int = 1, seed: int | None = None) -> dict[int, pa.Table]:
    """Rows named by their number (`uid_of`), in turn to the shards, or in any order and anywhere."""
    table = pa.table(dict(columns))
    rows = table.num_rows
    table = table.append_column("uid", pa.array([uid_of(i) for i in range(rows)], pa.binary(16)))
    if seed is None:
        return {3 * s + 1: table.take(pa.array(range(s, rows, shards), pa.int64())) for s in range(shards)}
    rng = np.random.default_rng(seed)
    order, home = rng.permutation(rows), rng.integers(0, shards, rows)
    numbers = np.sort(rng.choice(50, shards, replace=False)).tolist()
    return {n: table.take(pa.array(order[home[order] == s])) for s, n in enumerate(numbers)}


def verdicts(pool: dict[int, pa.Table], chosen: GlobalFilter, seed: int | None = None) -> dict[int, dict[str, Any]]:
    """Number of the row -> its verdict."""
    number = {uid_of(i): i for i in range(sum(t.num_rows for t in pool.values()))}
    found = {}
    for shard, table in PhaseRunner(pool, seed).run(chosen).items():
        for uid, verdict in zip(pool[shard]["uid"].to_pylist(), table.to_pylist(), strict=True):
            found[number[uid]] = verdict
    return dict(sorted(found.items()))


def kept(found: Mapping[int, Mapping[str, Any]]) -> set[int]:
    return {number for number, verdict in found.items() if verdict["keep"]}


def copies(found: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """How often each row goes on; 0 where it is dropped or was not asked."""
    for verdict in found.values():
        assert (verdict["copies"] or 0) > 0 or not verdict["keep"]
    return [verdict["copies"] or 0 for verdict in found.values()]
