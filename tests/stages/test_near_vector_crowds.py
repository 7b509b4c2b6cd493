"""Crowds: what is left out is a function of the cell, and never more than the rule says."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.near_vector_cells as cells_module
import stages.near_vector_crowds as module
import stages.near_vector_phases as phases
import stages.near_vector_rows as rows_module
import stages.near_vector_tiles as tiles
import stages.shuffle as shuffle
from filters.keep_one import KeepOne
from stages.near_vector_cells import Cell
from stages.near_vector_crowds import CellPairs, PartPairs
from stages.near_vector_rows import node_of
from stages.near_vector_tiles import as_units, lengths_of
from stages.near_vectors import Coarse, NearVectors
from stages.vectors import dots, unit
from tests.phase_runner import PhaseRunner
from tests.stages.test_near_vectors import edges, plain_edges, told
from tests.stages.vector_parts import CUTS, by_number, clumps, pool_of, vectors

Triple = tuple[int, int, int]


def plainly(node: np.ndarray, pairs: list[Triple], limit: int) -> list[Triple]:
    """What the head of the module says, row by row."""
    if len(pairs) <= limit:
        return sorted(pairs)
    most = max(limit // len(node) - 1, 1)
    of: dict[int, list[tuple[int, int, int, Triple]]] = defaultdict(list)
    for i, j, d in pairs:
        for row, other in ((i, j), (j, i)):
            of[row].append((d, int(node[row] ^ node[other]), int(node[other]), (i, j, d)))
    nearest = {p for some in of.values() for *_, p in sorted(some)[:most]}
    return sorted(nearest | {min(some, key=lambda s: s[2])[3] for some in of.values()})


def some_pairs(rng: np.random.Generator, rows: int, share: float, far: int) -> list[Triple]:
    """Each pair with a chance; with few distances, many are equally near."""
    i, j = np.nonzero(np.triu(rng.random((rows, rows)) < share, 1))
    return list(zip(i.tolist(), j.tolist(), rng.integers(0, far + 1, len(i)).tolist(), strict=True))


def nodes(rng: np.random.Generator, rows: int) -> np.ndarray:
    return np.unique(rng.integers(0, 2**63, rows).astype(np.uint64) * np.uint64(2))


def as_arrays(pairs: list[Triple]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(pairs, np.int64).reshape(-1, 3).T)


def triples(pairs: tuple[np.ndarray, ...]) -> list[Triple]:
    return sorted(zip(*(a.tolist() for a in pairs), strict=True))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    rows=st.integers(2, 40),
    share=st.sampled_from([0.05, 0.3, 1.0]),
    far=st.sampled_from([0, 2, 1000]),
    limits=st.lists(st.sampled_from([1, 5, 40, 90, 200, 400, 1000]), min_size=1, max_size=4),
    at_once=st.integers(1, 100),
)
def test_a_cell_keeps_what_the_rule_says(
    seed: int, rows: int, share: float, far: int, limits: list[int], at_once: int
) -> None:
    """In whatever order and portions pairs come, and however the limit falls on the way."""
    rng = np.random.default_rng(seed)
    node, limits = nodes(rng, rows), sorted(limits, reverse=True)
    pairs = some_pairs(rng, len(node), share, far)
    found = CellPairs(node)
    mixed = [pairs[p] for p in rng.permutation(len(pairs))]
    for number, start in enumerate(range(0, len(mixed), at_once)):
        some = as_arrays(mixed[start : start + at_once])
        found.add(tuple(a.astype(np.int32) for a in some), limits[min(number, len(limits) - 1)])  # type: ignore[arg-type]
    found.thin(limits[-1])
    kept = triples(found.kept())
    assert kept == plainly(node, pairs, limits[-1])
    assert len(kept) == len(found)
    assert len(kept) <= max(limits[-1], 2 * len(node))
    left_out = [d for i, j, d in set(pairs) - set(kept)]
    assert found.nearest_left_out == min(left_out, default=np.iinfo(np.int32).max)


def test_what_is_held_at_work_is_bounded() -> None:
    """Of 180,000 pairs at one distance, in portions of 500."""
    rng, limit = np.random.default_rng(0), 3000
    node = nodes(rng, 600)
    pairs, found, most = some_pairs(rng, 600, 1.0, 0), CellPairs(node), 0
    for p in np.array_split(rng.permutation(len(pairs)), len(pairs) // 500):
        found.add(tuple(a.astype(np.int32) for a in as_arrays([pairs[n] for n in p])), limit)  # type: ignore[arg-type]
        most = max(most, len(found))
    found.thin(limit)
    assert len(found) <= limit
    assert most <= 2 * limit + 600


def parts_of(rng: np.random.Generator, sizes: list[int]) -> tuple[dict[str, np.ndarray], list[tuple[Cell, Any]]]:
    """(known, cells of these many rows with all their pairs, rows as positions in the bucket)."""
    cuts = np.cumsum([0, *sizes]).tolist()
    cluster = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    node = np.concatenate([nodes(rng, s) for s in sizes])
    cells = [Cell(a, b, ()) for a, b in pairwise(cuts)]
    found = [as_arrays(some_pairs(rng, c.end - c.start, 1.0, 3)) for c in cells]
    moved = [(c, (i + c.start, j + c.start, d)) for c, (i, j, d) in zip(cells, found, strict=True)]
    return {"node": node, "cluster": cluster, "tile": 0 * cluster}, moved


@pytest.mark.parametrize("each", [1, 5])
@pytest.mark.parametrize("part", [10**9, 1400, 700, 350, 2])
def test_a_part_lowers_the_limits_of_all_its_cells(part: int, each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it must, whichever cell comes first; cells with few pairs keep all."""
    monkeypatch.setattr(module, "MOST_OF_CELL", 256)
    monkeypatch.setattr(module, "MOST_OF_PART", part)
    monkeypatch.setattr(module, "MOST_OF_ROW", each)
    known, cells = parts_of(np.random.default_rng(1), [40, 3, 30, 60, 10, 40])
    halved = next(n for n in range(10) if n == 9 or len(plain_part(known, cells, n)) <= part)
    for order in (range(6), range(5, -1, -1), (3, 5, 1, 0, 2, 4)):
        found = PartPairs(known)
        for cell, pairs in (cells[c] for c in order):
            for some in range(0, len(pairs[0]), 37):
                found.add(cell, tuple(a[some : some + 37] for a in pairs))  # type: ignore[arg-type]
        kept = triples(found.all())
        assert found.halved == halved
        assert kept == plain_part(known, cells, halved)
        assert len(kept) <= max(part, 2 * len(known["node"]))
        stats = found.stats()
        assert stats["crowds"] == sum(len(plain_part(known, [c], halved)) < len(c[1][0]) for c in cells)
        assert stats.get("left_out", 0) == sum(len(p[0]) for _, p in cells) - len(kept)


def plain_part(known: dict[str, np.ndarray], cells: list[tuple[Cell, Any]], halved: int) -> list[Triple]:
    found = []
    for cell, (i, j, d) in cells:
        limit = max(256, min(module.MOST_OF_ROW * (cell.end - cell.start), module.MOST_OF_PART)) >> halved
        own = plainly(known["node"][cell.start : cell.end], triples((i - cell.start, j - cell.start, d)), limit)
        found += [(a + cell.start, b + cell.start, c) for a, b, c in own]
    return sorted(found)


# ---------------------------------------------------------------- through the barrier


def near(**more: Any) -> NearVectors:
    return NearVectors(vectors="v", epsilon=0.05, **({"reach": 10, "clusters": Coarse(k=3)} | more))


def with_a_crowd(seed: int = 0) -> np.ndarray:
    """50 of one crowd, and twenty clumps of four."""
    crowd = clumps(1, 50, 16, 0.1, seed + 100)
    return np.concatenate([crowd, clumps(20, 4, 16, 0.1, seed)])


CUT: dict[str, dict[tuple[Any, str], int]] = {
    "plain": {},
    "many buckets": {(shuffle, "ROWS"): 16, (phases, "FEW"): 16, (phases, "ROWS"): 32},
    "chunks, read again": {(rows_module, "HELD"): 16 * 10, (rows_module, "HELD_BYTES"): 0},
    "tiny tiles of products": {(tiles, "TILE"): 5, (tiles, "DENSE"): 2},
}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells have so few pairs that the ones here are crowds."""
    monkeypatch.setattr(module, "MOST_OF_CELL", 250)
    monkeypatch.setattr(module, "MOST_OF_ROW", 1)


@pytest.mark.parametrize("cap", [1 << 17, 20])
@pytest.mark.usefixtures("few")
def test_no_cut_shows_in_crowds(cap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do shards and their order; also where clusters are cut into tiles."""
    monkeypatch.setattr(cells_module, "CAP", cap)
    x, barrier = with_a_crowd(), near()
    expected = told(PhaseRunner(pool_of({"v": vectors(x)})), barrier)
    assert 0 < len(expected[1]) < len(plain_edges(x, 0.05))
    for patched in CUT.values():
        with monkeypatch.context() as patch:
            for (of, name), value in patched.items():
                patch.setattr(of, name, value)
            for shards, seed in CUTS:
                runner = PhaseRunner(pool_of({"v": vectors(x)}, shards, seed), seed)
                assert told(runner, barrier) == expected
        assert sum(s["crowds"] for s in runner.stats(barrier, "compared").values()) > 0


@pytest.mark.usefixtures("few")
def test_rows_beside_a_crowd_keep_all_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the very cell of the crowd; what is kept of it are pairs of all products, at their distance."""
    x, barrier = with_a_crowd(3), near(clusters=Coarse(k=1))
    everything = plain_edges(x, 0.05)
    monkeypatch.setattr(module, "MOST_OF_CELL", 900)  # of 130 rows: five for each
    runner = PhaseRunner(pool_of({"v": vectors(x)}, 2))
    found, edge_rows = told(runner, barrier)
    kept = {(e["a"], e["b"], e["distance"]) for e in edge_rows}
    crowd = set(node_of(unit(vectors(x[:50]), "test")[0]).tolist())
    assert kept < set(everything)
    assert {e for e in everything if e[0] not in crowd} <= kept
    (stats,) = runner.stats(barrier, "compared").values()
    assert stats["crowds"] == 1
    assert stats["left_out"] == len(everything) - len(kept)
    (told_crowd,) = stats["largest_crowds"]
    assert {"cluster": 0, "tile": 0, "rows": 130, "found": len(everything), "kept": len(kept)}.items() <= (
        told_crowd.items()
    )
    below = round(told_crowd["complete_below"] * 1e6)
    left_out = set(everything) - kept
    assert min(d for _, _, d in left_out) == below
    assert len({group for group, _, _ in found[:50]}) == 1, "the crowd hangs together still"


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("spread", [0.1, 1e-4])
@pytest.mark.parametrize("rule", ["greedy", "component", "local"])
def test_of_a_crowd_few_stay_and_all_that_goes_has_a_near_one(
    rule: Any, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where all distances round to nearly the same, and there is no telling who is nearest."""
    kind = np.float16 if spread == 0.1 else np.float32
    x = clumps(1, 300, 64, spread, 5).astype(kind)
    monkeypatch.setattr(module, "MOST_OF_CELL", 300 * 21)
    pool = pool_of({"v": vectors(x, kind)}, 3)
    runner = PhaseRunner(pool)
    keep = KeepOne(near=near(clusters=Coarse(k=1)), rule=rule, prefer=(), over="pool")
    rows = by_number(pool, runner.run(keep))
    stays = {n for n, (kept, *_) in enumerate(rows) if kept}
    assert 1 <= len(stays) <= {"greedy": 40, "component": 1, "local": 40}[rule]
    distance = plain_distances(unit(vectors(x, kind), "test")[0])
    for n, (kept, _, dup_of, far, *_) in enumerate(rows):
        if not kept:
            other = int.from_bytes(dup_of, "big")
            assert rule == "local" or other in stays
            assert distance[n, other] <= 50_000
            assert far is None or round(far * 1e6) == distance[n, other]


def plain_distances(x: np.ndarray) -> np.ndarray:
    return 1_000_000 - as_units(dots(x, x), lengths_of(x)[:, None] * lengths_of(x)[None])


@pytest.mark.usefixtures("few")
def test_a_crowd_that_grows_is_as_one_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """List by list: a part looks at pairs with a new end, and its limit is of these."""
    monkeypatch.setattr(module, "MOST_OF_CELL", 150)
    x, barrier = with_a_crowd(7)[np.random.default_rng(7).permutation(130)], near()
    whole = pool_of({"v": vectors(x)}, 6)
    lists = [dict.fromkeys(range(2), 0), {2: 1, 3: 1}, {4: 2, 5: 2}]
    generations: dict[int, int] = {}
    runner: PhaseRunner | None = None
    for some in lists:
        generations |= some
        pool = {s: whole[s] for s in generations}
        runner = PhaseRunner(pool, generations=generations, earlier=runner)
        answer = told(runner, barrier)
    assert runner is not None
    assert {part.split("-")[1] for name, part in runner.ran if name == "compared"} == {"00000004"}
    assert answer == told(PhaseRunner(whole, generations=generations), barrier)
    assert sum(s["crowds"] > 0 for s in runner.stats(barrier, "compared").values()) >= 2


def test_cells_within_the_limit_say_that_nothing_was_left_out() -> None:
    barrier = near()
    runner = PhaseRunner(pool_of({"v": vectors(with_a_crowd())}))
    runner.run(barrier)
    stats = list(runner.stats(barrier, "compared").values())
    assert [s["crowds"] for s in stats] == [0] * len(stats)
    assert len(edges(runner, barrier)) == len(plain_edges(with_a_crowd(), 0.05))
