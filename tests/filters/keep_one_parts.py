"""Pools of hashes or vectors for tests of keep-one, and its verdicts with uids as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from filters.keep_one import KeepOne
from tests.phase_runner import PhaseRunner

SCHEMA = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("sha256", pa.string()),
        ("phash64", pa.uint64()),
        ("phash256", pa.binary(32)),
        ("phash_quality", pa.uint8()),
        ("colours", pa.binary(2)),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("score", pa.float32()),
        ("asked", pa.bool_()),
        ("vector", pa.list_(pa.float32(), 3)),
    ]
)
Row = dict[str, Any]
BASE = 0x0F1E2D3C4B5A6978
SAME = {"sha256": "cd" * 32}
SILENT = {"reason": None, "dup_of": None, "distance": None, "rule": None, "component": None}
KEPT, NOT_ASKED = {"keep": True} | SILENT, {"keep": None} | SILENT


def row(number: int, **more: Any) -> Row:
    facts = {"sha256": f"{number:064x}", "phash64": number * 0x9E3779B97F4A7C15 % 2**64, "phash_quality": 90}
    sides = {"original_width": 100, "original_height": 100, "score": 0.5, "asked": True}
    return {"uid": number.to_bytes(16, "big")} | facts | sides | more


def lost(dup_of: int, distance: int | None, component: int, rule: str = "greedy") -> Row:
    """The verdict on a duplicate."""
    why = {"keep": False, "reason": "duplicate", "dup_of": dup_of, "distance": distance}
    return why | {"rule": rule, "component": component}


def pool_of(
    rows: Sequence[Row], shards: int = 1, rng: np.random.Generator | None = None, first: int = 0
) -> dict[int, pa.Table]:
    """The rows in any order and any shard; numbers of shards have gaps."""
    rng = rng or np.random.default_rng(0)
    order, home = rng.permutation(len(rows)), rng.integers(0, shards, len(rows))
    tables = [pa.Table.from_pylist([rows[i] for i in order if home[i] == s], SCHEMA) for s in range(shards)]
    return {first + 2 * s: table for s, table in enumerate(tables)}


def answers(
    pool: dict[int, pa.Table],
    chosen: KeepOne,
    seed: int | None = None,
    generations: dict[int, int] | None = None,
) -> dict[int, Row]:
    """uid -> its verdict, both with uids as numbers."""
    found = {}
    for shard, table in PhaseRunner(pool, seed, generations).run(chosen).items():
        for uid, verdict in zip(pool[shard].column("uid").to_pylist(), table.to_pylist(), strict=True):
            for name in ("dup_of", "component"):
                verdict[name] = verdict[name] and int.from_bytes(verdict[name], "big")
            found[int.from_bytes(uid, "big")] = verdict
    return found


def kept(found: dict[int, Row]) -> set[int]:
    return {uid for uid, verdict in found.items() if verdict["keep"]}
