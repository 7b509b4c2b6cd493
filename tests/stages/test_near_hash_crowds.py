"""Crowds of near hashes: pairs are left out by run, whatever the cut; what is kept is near, and hangs together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stages.near_hash_crowds as crowds
import stages.near_hash_phases as phases
import stages.shuffle as shuffle
from stages.hamming import uniform_scheme
from stages.near_hash_crowds import PartPairs
from stages.near_hashes import Agreement, NearHashes
from tests.phase_runner import PhaseRunner
from tests.stages.near_hash_pools import CENTRES, WIDE, Row, edges, files, groups, grown, pool_of, row

SHORT, LONG = NearHashes(by="phash64", distance=4), NearHashes(by="phash256", distance=31)
VERIFIED = NearHashes(by="phash64", distance=4, verify=(Agreement(column="colours", within=2, measure="l1"),))


def small(patch: pytest.MonkeyPatch, run: int = 100, part: int = 1 << 23, least: int = 8) -> None:
    for name, value in {"MOST_OF_RUN": run, "MOST_OF_ROW": 1, "MOST_OF_PART": part, "LEAST": least}.items():
        patch.setattr(crowds, name, value)


def crowd(count: int, seed: int = 0) -> list[Row]:
    """So many different hashes, of each kind, within two bits of one; colours that agree; and some that stand alone."""
    rng = np.random.default_rng(seed)
    bits = [(a, b) for a in range(64) for b in range(a)]
    flips = [bits[n] for n in rng.permutation(len(bits))[:count].tolist()]
    found = [
        row(u, phash64=CENTRES[0] ^ 1 << a ^ 1 << b, phash256=WIDE[0] ^ 1 << 4 * a ^ 1 << 4 * b, colours=b"\x10\x10")
        for u, (a, b) in enumerate(flips)
    ]
    return found + [row(count + n, phash64=CENTRES[1] ^ n, phash256=WIDE[1] ^ n, colours=b"\x10\x10") for n in range(3)]


def told(runner: PhaseRunner, barrier: NearHashes, phase: str = "pairs") -> list[Any]:
    return [s for s in runner.stats(barrier, phase).values() if s["crowds"]]


@pytest.mark.parametrize("barrier", [SHORT, LONG, VERIFIED])
def test_a_crowd_keeps_few_pairs_that_are_near_and_hang_together(
    barrier: NearHashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = crowd(300)
    whole = PhaseRunner(pool_of(rows))
    found, all_edges = groups(whole.pool, barrier, whole), edges(whole, barrier)
    phase = "found" if barrier.verify else "pairs"
    assert told(whole, barrier, phase) == []
    small(monkeypatch)
    thinned = PhaseRunner(pool_of(rows))
    assert groups(thinned.pool, barrier, thinned) == found
    some = edges(thinned, barrier)
    assert some < all_edges
    assert len(some) < len(all_edges) / 5
    stats = told(thinned, barrier, phase)
    assert sum(s["left_out"] for s in stats) == len(all_edges) - len(some)
    largest = max((c for s in stats for c in s["largest_crowds"]), key=lambda c: c["found"])
    assert largest["found"] > 100 >= largest["complete_below"] > 0
    assert largest["kept"] < largest["found"]
    assert {e for e in all_edges if e[4] < min(c["complete_below"] for s in stats for c in s["largest_crowds"])} <= some


@pytest.mark.parametrize("barrier", [SHORT, LONG, VERIFIED])
def test_what_is_left_out_hangs_on_no_cut(barrier: NearHashes, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    rows = crowd(200)
    one = PhaseRunner(pool_of(rows))
    found = groups(one.pool, barrier, one)
    for shards in (3, 7):
        cut = PhaseRunner(pool_of(rows, shards, np.random.default_rng(shards)), seed=shards)
        assert groups(cut.pool, barrier, cut) == found
        assert edges(cut, barrier) == edges(one, barrier)


@pytest.mark.parametrize("barrier", [SHORT, LONG])
def test_what_is_left_out_hangs_on_no_partition(barrier: NearHashes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as k stays: a run is in one part or in the other, but whole."""
    small(monkeypatch)
    scheme = uniform_scheme(1000, 4)
    monkeypatch.setattr(phases, "uniform_scheme", lambda n, distance: scheme)
    rows = crowd(200)
    one = PhaseRunner(pool_of(rows))
    groups(one.pool, barrier, one)
    monkeypatch.setattr(shuffle, "ROWS", 25)
    monkeypatch.setattr(phases, "TOGETHER", {64: 1, 256: 1})
    cut = PhaseRunner(pool_of(rows, 5, np.random.default_rng(0)), seed=1)
    groups(cut.pool, barrier, cut)
    assert cut.stats(barrier, "spread")
    assert edges(cut, barrier) == edges(one, barrier)
    assert told(cut, barrier)


@pytest.mark.parametrize("barrier", [SHORT, LONG, VERIFIED])
@pytest.mark.parametrize("part", [1 << 23, 60])
def test_a_crowd_that_grows_is_the_same(barrier: NearHashes, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, part=part)
    pool = pool_of(crowd(160), 6, np.random.default_rng(2))
    lists = dict(zip(sorted(pool), (0, 0, 1, 1, 2, 3), strict=True))
    once = PhaseRunner(pool, 5, lists)
    once.run(barrier)
    assert told(once, barrier, "found" if barrier.verify else "pairs")
    assert files(grown(pool, lists, barrier), barrier) == files(once, barrier)


@pytest.mark.parametrize("barrier", [SHORT, LONG])
def test_many_crowds_of_one_part_share_what_it_may_hold(barrier: NearHashes, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = crowd(200)
    small(monkeypatch, run=1000, part=400, least=4)
    runner = PhaseRunner(pool_of(rows))
    groups(runner.pool, barrier, runner)
    stats = told(runner, barrier)
    assert max(s["limits_halved"] for s in stats) > 1
    least = 2 * len(rows) * 4  # two pairs of each hash, by each of a part's choices
    assert max(s["pairs"] for s in runner.stats(barrier, "pairs").values()) <= least
    small(monkeypatch, run=1000, part=1 << 23, least=4)
    rich = PhaseRunner(pool_of(rows))
    groups(rich.pool, barrier, rich)
    assert edges(runner, barrier) < edges(rich, barrier)
    assert max(s["pairs"] for s in rich.stats(barrier, "pairs").values()) > least


def test_small_groups_stay_whole_however_little_a_part_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, run=4, part=4, least=10)
    rows = [row(10 * c + n, phash64=centre ^ 1 << n) for c, centre in enumerate(CENTRES) for n in range(5)]
    runner = PhaseRunner(pool_of(rows))
    groups(runner.pool, SHORT, runner)
    assert len(edges(runner, SHORT)) == 3 * 10
    assert told(runner, SHORT) == []


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_chunks_do_not_show(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in any order among hashes, their pairs cut anywhere: as when all comes at once."""
    small(monkeypatch, run=6, least=3)
    rng = np.random.default_rng(4)
    keys = rng.integers(0, 4, 40).astype(np.uint64)
    nodes = rng.permutation(1000)[:40].astype(np.uint64)
    i, j = np.triu_indices(40, 1)
    same = keys[i] == keys[j]
    order = np.argsort(keys[i[same]], kind="stable")
    i, j = i[same][order], j[same][order]
    d = rng.integers(0, 9, len(i))

    def kept(size: int) -> tuple[Any, Any]:
        found = PartPairs(len(keys))
        choice = found.choice("0", keys, 0, nodes.__getitem__)
        for start in range(0, len(i), size):
            choice.add(i[start : start + size], j[start : start + size], d[start : start + size])
        choice.end()
        return sorted(zip(*(side.tolist() for side in found.all()), strict=True)), found.stats()

    assert kept(chunk) == kept(len(i))
    pairs, stats = kept(chunk)
    assert stats["crowds"] == 4
    assert len(pairs) + stats["left_out"] == len(i)
    assert {frozenset(p[:2]) for p in pairs} <= {
        frozenset(p) for p in zip(nodes[i].tolist(), nodes[j].tolist(), strict=True)
    }
