"""Small pools of hashes, and what `NearHashes` has to say of them, by plain Python over all pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stages.near_hashes import NearHashes
from tests.phase_runner import PhaseRunner

SCHEMA = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("phash64", pa.uint64()),
        ("phash256", pa.binary(32)),
        ("phash_quality", pa.uint8()),
        ("colours", pa.binary()),
        ("other", pa.uint64()),
        ("vector", pa.list_(pa.float32(), 4)),
    ]
)
Row = dict[str, Any]
Pool = dict[int, pa.Table]
CENTRES = (0x0F1E2D3C4B5A6978, 0xFFFF0000FFFF0000, 0x8888888877777777)
WIDE = tuple(int.from_bytes(np.random.default_rng(n).bytes(32), "big") for n in range(3))


def row(number: int, **more: Any) -> Row:
    if isinstance(more.get("phash256"), int):
        more["phash256"] = more["phash256"].to_bytes(32, "big")
    return {"uid": number.to_bytes(16, "big"), "phash_quality": 100, **more}


def pool_of(rows: Sequence[Row], shards: int = 1, rng: np.random.Generator | None = None) -> Pool:
    """The rows in any order, cut anywhere into shards with gaps between their numbers."""
    if rng is None:
        return {s: pa.Table.from_pylist(list(rows[s::shards]), SCHEMA) for s in range(shards)}
    order, home = rng.permutation(len(rows)), rng.integers(0, shards, len(rows))
    numbers = np.sort(rng.choice(50, shards, replace=False)).tolist()
    return {n: pa.Table.from_pylist([rows[i] for i in order if home[i] == s], SCHEMA) for s, n in enumerate(numbers)}


def groups(pool: Pool, barrier: NearHashes, runner: PhaseRunner | None = None) -> dict[int, tuple[int | None, int]]:
    """uid -> (uid of the group or None, size)"""
    found = {}
    for shard, table in (runner or PhaseRunner(pool)).run(barrier).items():
        named = (pool[shard].column("uid"), table.column(0), table.column(1))
        for uid, group, size in zip(*(c.to_pylist() for c in named), strict=True):
            found[int.from_bytes(uid, "big")] = (None if group is None else int.from_bytes(group, "big"), size)
    return found


def edges(runner: PhaseRunner, barrier: NearHashes) -> set[tuple[int, int, int, int, int]]:
    """(group's high, low, a, b, distance) of each edge; each is there once."""
    tables = [pa.concat_tables(o.tables) for o in runner.files[barrier]["edges"].values()]
    found = [tuple(e.values()) for e in pa.concat_tables(tables).to_pylist()]
    assert len(set(found)) == len(found)
    return set(found)


def plain(rows: Sequence[Row], near: Callable[[Row, Row], bool], able: Callable[[Row], bool]) -> Mapping[int, Any]:
    """Components of the graph of all near pairs, by walking it."""
    found: dict[int, tuple[int | None, int]] = {int.from_bytes(r["uid"], "big"): (None, 1) for r in rows}
    of = {int.from_bytes(r["uid"], "big"): r for r in rows if able(r)}
    left = set(of)
    while left:
        members: set[int] = set()
        queue = [min(left)]
        while queue:
            uid = queue.pop()
            if uid in left:
                left.discard(uid)
                members.add(uid)
                queue += [o for o in left if near(of[o], of[uid])]
        if len(members) > 1:
            found |= {m: (min(members), len(members)) for m in members}
    return found


def bits_apart(a: Row, b: Row, field: str) -> int:
    x, y = (v if isinstance(v, int) else int.from_bytes(v, "big") for v in (a[field], b[field]))
    return (x ^ y).bit_count()


def tables_of(answer: Mapping[int, pa.Table]) -> list[Any]:
    return [answer[s].to_pydict() for s in sorted(answer)]


def files(runner: PhaseRunner, barrier: NearHashes) -> Any:
    """All that was written, by phase and part."""

    def tables(output: Any) -> list[Any]:
        listed = [output.tables] if isinstance(output.tables, pa.Table) else output.tables
        return [t.to_pydict() for t in listed]

    return {n: {p: (tables(o), o.stats) for p, o in parts.items()} for n, parts in runner.files[barrier].items()}


def grown(pool: Pool, lists: Mapping[int, int], barrier: NearHashes, seed: int = 0) -> PhaseRunner:
    """List after list, each time with the files of the time before."""
    earlier = None
    for number in sorted(set(lists.values())):
        some = {s: pool[s] for s in pool if lists[s] <= number}
        runner = PhaseRunner(some, seed, {s: lists[s] for s in some}, earlier)
        runner.run(barrier)
        earlier = runner
    assert earlier is not None
    return earlier
