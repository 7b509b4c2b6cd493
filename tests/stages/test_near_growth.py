"""A pool that grows by lists: the same bytes as in one go, and no pair of old hashes is looked for again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.near_hash_signals as signals
import stages.shuffle as shuffle
from stages.near_hashes import Agreement, NearHashes
from tests.phase_runner import PhaseRunner
from tests.stages.near_hash_pools import CENTRES, WIDE, Pool, Row, edges, files, groups, grown, pool_of, row

PLAIN = NearHashes(by="phash64", distance=4)
WIDE_ONES = NearHashes(by="phash256", distance=7)
VERIFIED = NearHashes(by="phash64", distance=4, verify=(Agreement(column="colours", within=2, measure="l1"),))
BARRIERS = [PLAIN, WIDE_ONES, VERIFIED]


def some_rows(count: int, seed: int = 0, start: int = 0) -> list[Row]:
    """Copies of a few hashes with up to two flipped bits, so that lists share hashes and near ones."""
    rng = np.random.default_rng(seed)
    found = []
    for u in range(start, start + count):
        flips = [sum({1 << int(b) for b in rng.integers(0, bits, rng.integers(0, 3))}) for bits in (6, 256)]
        at = int(rng.integers(3))
        hashes = {"phash64": CENTRES[at] ^ flips[0], "phash256": WIDE[at] ^ flips[1]}
        found.append(row(u, **hashes, colours=bytes(rng.integers(0, 6, 2).tolist())))
    return found


@pytest.mark.parametrize("barrier", BARRIERS)
def test_a_grown_pool_has_the_bytes_of_one_made_at_once(barrier: NearHashes, monkeypatch: pytest.MonkeyPatch) -> None:
    """And, but for crowds, whose names go by list, the groups and edges of a pool of one list."""
    monkeypatch.setattr(signals, "CROWD", 1000)
    pool = pool_of(some_rows(240), 6, np.random.default_rng(2))
    lists = dict(zip(sorted(pool), (0, 0, 1, 1, 2, 3), strict=True))
    once = PhaseRunner(pool, 5, lists)
    once.run(barrier)
    steps = grown(pool, lists, barrier)
    assert files(steps, barrier) == files(once, barrier)
    alone = PhaseRunner(pool)
    assert groups(pool, barrier, alone) == groups(pool, barrier, once)
    assert edges(alone, barrier) == edges(once, barrier)


@pytest.mark.parametrize("barrier", BARRIERS)
def test_old_pairs_are_not_looked_for_again(barrier: NearHashes, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number of buckets the same, nothing runs again of what looks at hashes of old lists alone."""
    monkeypatch.setattr(shuffle, "ROWS", 16)
    pool = pool_of(some_rows(120, 1), 4) | {9: pool_of(some_rows(6, 2, start=500))[0]}
    lists = {s: int(s == 9) for s in pool}
    before = PhaseRunner({s: t for s, t in pool.items() if s != 9}, 0, {s: 0 for s in pool if s != 9})
    before.run(barrier)
    after = PhaseRunner(pool, 0, lists, before)
    after.run(barrier)
    names = {p.name for p in barrier.phases(after.shape) if p.local}
    assert {"nodes", "hashes", "pairs"} <= names
    old = {(n, p) for n in names for p in before.files[barrier][n]}
    assert not old & set(after.ran)
    assert {n for n, _ in after.ran} >= {"pairs", "hashes"}
    new = {n: [o.tables for p, o in after.files[barrier][n].items() if (n, p) in after.ran] for n in ("pairs",)}
    fresh = PhaseRunner({9: pool[9]})
    fresh.run(barrier)
    last = [t for ts in fresh.run(barrier).values() for t in ts.column(2).to_pylist()]
    for tables in new["pairs"]:
        found = pa.concat_tables(tables)
        assert all(a in last or b in last for a, b in zip(*(found.column(n).to_pylist() for n in "ab"), strict=True))
    assert sum(t.num_rows for ts in new["pairs"] for t in ts) > 0


@settings(max_examples=15, deadline=None)
@given(
    which=st.sampled_from(BARRIERS),
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    size=st.integers(3, 60),
    crowd=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_any_growth_gives_the_same(which: NearHashes, counts: list[int], size: int, crowd: int, seed: int) -> None:
    """Also where the number of buckets changes as the pool grows, and where hashes have crowds of signals."""
    pool: Pool = {}
    lists = {}
    for number, count in enumerate(counts):
        for shard, table in pool_of(some_rows(count, seed + number, start=100 * number), 2).items():
            pool[10 * number + shard], lists[10 * number + shard] = table, number
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", size)
        patch.setattr(signals, "CROWD", crowd)
        once = PhaseRunner(pool, seed, lists)
        answer = once.run(which)
        steps = grown(pool, lists, which, seed)
        assert files(steps, which) == files(once, which)
        assert {s: t.to_pydict() for s, t in answer.items()} == {s: t.to_pydict() for s, t in steps.run(which).items()}


def test_old_names_stay_in_a_crowd_that_grows() -> None:
    """The nodes of an old list keep the names that they had; new ones go by them."""
    rng = np.random.default_rng(0)
    rows = [row(u, phash64=CENTRES[0], colours=bytes(100 + rng.integers(-1, 2, 48))) for u in range(120)]
    pool = {0: pool_of(rows[:60])[0], 1: pool_of(rows[60:])[0]}
    before = PhaseRunner({0: pool[0]})
    (first,) = before.run(VERIFIED).values()
    after = PhaseRunner(pool, None, {0: 0, 1: 1}, before)
    answer = after.run(VERIFIED)
    assert answer[0].column("phash64_node").to_pylist() == first.column("phash64_node").to_pylist()
    assert set(answer[1].column("phash64_node").to_pylist()) <= set(first.column("phash64_node").to_pylist())
    assert len(first.column("phash64_node").unique()) == signals.CROWD
