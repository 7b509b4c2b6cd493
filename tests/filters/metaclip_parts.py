"""Captions over a handful of entries, and the phases of MetaCLIP's filters over them in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from filters.metaclip import Balanced
from stages.base import Batch, fact
from stages.metaclip_match import MetaclipMatch
from tests.phase_runner import PhaseRunner

ENTRIES = ["photo", "dog", "cat", "blue dog", "axolotl"]
Rows = list[dict[str, Any]]


def captions(n: int, seed: int = 0) -> Rows:
    """Most are photos, some have a dog or a cat, few an axolotl; some match nothing or have no text."""
    rng = np.random.default_rng(seed)
    words = np.array(["photo", "dog", "cat", "blue dog", "axolotl", "nothing"])
    picks = rng.choice(words, (n, 2), p=[0.6, 0.15, 0.1, 0.04, 0.01, 0.1])
    texts: list[str | None] = [f"a {a}, a {b}" if a != "nothing" else b for a, b in picks]
    texts[:: max(n // 7, 1)] = [None] * len(texts[:: max(n // 7, 1)])
    return [{"uid": rng.bytes(16), "text": t} for t in texts]


def pool_of(rows: Rows, shards: int, seed: int | None = None) -> dict[int, pa.Table]:
    """The rows with their matches, in any order, cut anywhere; shard numbers have gaps."""
    order = np.arange(len(rows)) if seed is None else np.random.default_rng(seed).permutation(len(rows))
    schema = pa.schema([("uid", pa.binary(16)), ("text", pa.string()), ("lang", pa.string()), ("asked", pa.bool_())])
    return {
        3 * s + 1: pa.Table.from_pylist([{"asked": True, **rows[i]} for i in order[s::shards]], schema)
        for s in range(shards)
    }


class Runner(PhaseRunner):
    """Runs the stage `metaclip_match` first, as a run would; other columns are those of the pool."""

    def _columns(self, owner: Any, shard: int) -> pa.Table:
        facts = self.pool[shard]
        batch = Batch({fact(n): facts.column(n).combine_chunks() for n in facts.column_names}, facts.num_rows)
        table = {"uid": facts.column("uid"), "asked": facts.column("asked")}
        for column in owner.reads():
            made = column.owner.run(batch) if isinstance(column.owner, MetaclipMatch) else facts
            table[column.field] = made.column(column.field)
        return pa.table(table)

    def _needed(self, owner: Any) -> list[Any]:
        return []


def verdicts(rows: Rows, chosen: Balanced, shards: int = 1, seed: int | None = None) -> dict[bytes, Any]:
    """uid -> (keep, reason, match_p)"""
    pool = pool_of(rows, shards, seed)
    found = {}
    for shard, table in Runner(pool, seed).run(chosen).items():
        columns = [pool[shard].column("uid"), *table.columns]
        found |= {uid: tuple(rest) for uid, *rest in zip(*(c.to_pylist() for c in columns), strict=True)}
    return found


def plain_chances(rows: Rows, t: int) -> dict[bytes, float]:
    """P(keep) of each row by the formula, word by word."""

    def entries(text: str | None) -> set[str]:
        padded = f" {(text or '').replace(',', ' , ')} "
        return {e for e in ENTRIES if f" {e} " in padded}

    counts = {e: sum(e in entries(r["text"]) for r in rows) for e in ENTRIES}
    return {
        r["uid"]: 1 - math.prod(1 - t / max(counts[e], t) for e in sorted(entries(r["text"]), key=ENTRIES.index))
        for r in rows
    }
