"""The barrier of near vectors against plain products of all; no cut, tile, memory or list of the pool shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

import stages.kmeans_training as training
import stages.near_vector_cells as cells
import stages.near_vector_phases as phases
import stages.near_vector_rows as rows_module
import stages.near_vector_tiles as tiles
import stages.near_vector_visits as visits
import stages.shuffle as shuffle
from stages.base import Shape
from stages.near_vector_phases import Plan
from stages.near_vector_rows import node_of
from stages.near_vectors import Coarse, NearVectors
from stages.vectors import unit
from tests.phase_runner import PhaseRunner
from tests.stages.test_near_vector_tiles import plainly_above, torch_without_gpu
from tests.stages.vector_parts import CUTS, by_number, clumps, directions, plain_lists, pool_of, vectors

Edge = tuple[int, int, int]


def near(epsilon: float = 0.05, k: Any = 6, **more: Any) -> NearVectors:
    """Unless told otherwise, with so wide a reach that every vector visits every cluster: all pairs are compared."""
    more = {"reach": 10} | more
    return NearVectors(vectors="v", epsilon=epsilon, clusters=Coarse(k=k), **more)


def edges(runner: PhaseRunner, barrier: NearVectors) -> list[dict[str, int]]:
    """Rows of `edges`, by node."""
    tables = [t for output in runner.files[barrier]["edges"].values() for t in tables_of(output)]
    return sorted(pa.concat_tables(tables).to_pylist(), key=lambda e: (e["a"], e["b"]))


def tables_of(output: Any) -> list[pa.Table]:
    return [output.tables] if isinstance(output.tables, pa.Table) else list(output.tables)


def told(runner: PhaseRunner, barrier: NearVectors) -> tuple[list[Any], list[dict[str, int]]]:
    return by_number(runner.pool, runner.run(barrier)), edges(runner, barrier)


def plain_edges(x: np.ndarray, epsilon: float) -> list[Edge]:
    """(a, b, distance) of all near pairs of different vectors, from products of all with all."""
    unit_x = unit(vectors(x), "test")[0]
    node = node_of(unit_x)
    found = plainly_above(unit_x, round(epsilon * 1e6))
    ends = {(min(node[i], node[j]), max(node[i], node[j]), d) for (i, j), d in found.items() if node[i] != node[j]}
    return sorted((int(a), int(b), d) for a, b, d in ends)


def plain_groups(x: np.ndarray, epsilon: float) -> list[tuple[int | None, int]]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    found = list(plainly_above(unit(vectors(x), "test")[0], round(epsilon * 1e6)))
    i, j = np.array(found, np.int64).reshape(-1, 2).T
    _, label = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(len(x), len(x))), directed=False)
    size = np.bincount(label)[label]
    first = {c: int(np.flatnonzero(label == c)[0]) for c in set(label.tolist())}
    return [(first[c] if s > 1 else None, int(s)) for c, s in zip(label.tolist(), size.tolist(), strict=True)]


def as_numbers(found: list[Any]) -> list[tuple[int | None, int]]:
    return [(None if group is None else int.from_bytes(group, "big"), size) for group, size, _ in found]


def with_copies(seed: int = 0) -> np.ndarray:
    """Clumps, and every tenth vector again, exactly."""
    x = clumps(20, 10, 16, 0.3, seed)
    return np.concatenate([x, x[::10]])


@pytest.mark.parametrize("epsilon", [0, 0.02, 0.05, 0.2])
def test_groups_and_edges_are_those_of_all_products(epsilon: float) -> None:
    x = with_copies()
    barrier = near(epsilon)
    runner = PhaseRunner(pool_of({"v": vectors(x)}, 3, 1), 1)
    found, edge_rows = told(runner, barrier)
    assert as_numbers(found) == plain_groups(x, epsilon)
    assert [(e["a"], e["b"], e["distance"]) for e in edge_rows] == plain_edges(x, epsilon)
    node = node_of(unit(vectors(x), "test")[0])
    assert [n for _, _, n in found] == node.tolist()
    group = {int(n): g for (g, _, n) in found}
    for e in edge_rows:
        assert (e["high"] << 64 | e["low"]).to_bytes(16, "big") == group[e["a"]] == group[e["b"]]


SMALL = {
    "plain": {},
    "many buckets": {(shuffle, "ROWS"): 16, (phases, "FEW"): 16, (phases, "ROWS"): 32},
    "phases of k-means in files": {(training, "IN_MEMORY"): 10, (phases, "ROWS"): 32},
    "tiles of large clusters": {(cells, "CAP"): 9},
    "chunks of a cell": {(rows_module, "HELD"): 16 * 10},
    "vectors read again": {(rows_module, "HELD"): 16 * 60, (rows_module, "HELD_BYTES"): 1000},
    "tiny tiles of products": {(tiles, "TILE"): 5, (tiles, "DENSE"): 2, (visits, "ROWS"): 7},
    "all of it": {
        (shuffle, "ROWS"): 16, (phases, "FEW"): 16, (phases, "ROWS"): 32, (cells, "CAP"): 9,
        (rows_module, "HELD"): 16 * 10, (rows_module, "HELD_BYTES"): 0, (tiles, "TILE"): 5,
    },
}  # fmt: skip


@pytest.mark.parametrize("how", SMALL)
def test_no_cut_shows(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the cut into shards, buckets, tiles and chunks, and the order in which parts run."""
    x, barrier = with_copies(3), near(0.05, k=5)
    expected = told(PhaseRunner(pool_of({"v": vectors(x)})), barrier)
    for (module, name), value in SMALL[how].items():
        monkeypatch.setattr(module, name, value)
    for shards, seed in CUTS:
        runner = PhaseRunner(pool_of({"v": vectors(x)}, shards, seed), seed)
        assert told(runner, barrier) == expected
    if how == "tiles of large clusters":
        assert max(s["cells"] for s in runner.stats(barrier, "compared").values()) > 5


def test_vectors_of_any_length_give_the_same() -> None:
    """Times powers of two every bit is the same; times others the stored numbers are rounded, and groups stay."""
    x = clumps(20, 10, 16, 0.3)
    expected = told(PhaseRunner(pool_of({"v": vectors(x, np.float32)}, 2)), near())
    by = 2.0 ** np.random.default_rng(0).integers(-20, 20, (200, 1))
    assert told(PhaseRunner(pool_of({"v": vectors(x * by, np.float32)}, 2)), near()) == expected
    by = np.random.default_rng(0).uniform(0.01, 100, (200, 1))
    other = told(PhaseRunner(pool_of({"v": vectors(x * by, np.float32)}, 2)), near())
    assert as_numbers(other[0]) == as_numbers(expected[0])
    assert np.allclose(*(sorted(e["distance"] for e in found[1]) for found in (other, expected)), atol=1)


def test_thousands_of_copies_make_no_pairs() -> None:
    x = np.repeat(directions(3, 8), 5000, axis=0)
    barrier = near(0.05, k=2)
    runner = PhaseRunner(pool_of({"v": vectors(x)}, 2))
    assert {size for _, size, _ in by_number(runner.pool, runner.run(barrier))} == {5000}
    assert sum(s["candidates"] for s in runner.stats(barrier, "compared").values()) == 0


def test_visits_find_pairs_across_borders() -> None:
    """Own clusters only lose some; which pairs those are is what the phase says of each vector's home."""
    x = clumps(600, 2, 8, 0.2)
    own, both = near(0.05, k=60, within_clusters=True), near(0.05, k=60, reach=0.6)
    pool = pool_of({"v": vectors(x)}, 2)
    found = []
    for barrier in (own, both):
        runner = PhaseRunner(pool)
        found.append({(e["a"], e["b"]) for e in told(runner, barrier)[1]})
    everything = {(a, b) for a, b, _ in plain_edges(x, 0.05)}
    assert found[0] < found[1] <= everything
    assert len(found[0]) < 0.97 * len(everything)
    assert len(found[1]) >= 0.995 * len(everything)
    runner = PhaseRunner(pool)
    runner.run(own)
    home = {}
    for output in runner.files[own]["assign"].values():
        for table in tables_of(output):
            home |= dict(zip(table["node"].to_pylist(), table["cluster"].to_pylist(), strict=True))
    assert found[0] == {(a, b) for a, b in everything if home[a] == home[b]}


def test_rows_without_a_vector_take_part_in_nothing() -> None:
    x = np.repeat(directions(10, 4), 2, axis=0)
    x[6:8] = 0
    pool = pool_of({"v": vectors(x, null=[0, 13])}, 2, 4)
    found = by_number(pool, PhaseRunner(pool).run(near(0.001, k=2)))
    assert [n for n, (_, _, node) in enumerate(found) if node is None] == [0, 6, 7, 13]
    assert [n for n, (group, _, _) in enumerate(found) if group is None] == [0, 1, 6, 7, 12, 13]


def test_pools_of_nothing_and_of_one() -> None:
    empty = {0: pa.table({"uid": pa.array([], pa.binary(16)), "v": vectors(np.zeros((0, 4)))})}
    assert PhaseRunner(empty).run(near(k="max(n/2, 1)"))[0].num_rows == 0
    for x in (vectors(np.ones((1, 4))), vectors(np.ones((3, 4)), null=[0, 1, 2])):
        pool = pool_of({"v": x})
        found = by_number(pool, PhaseRunner(pool).run(near(k="max(n/2, 1)")))
        assert {(group, size) for group, size, _ in found} == {(None, 1)}


def test_shards_of_plain_lists_may_have_no_vectors() -> None:
    table = pool_of({"v": vectors(clumps(8, 10, 6, 0.2), null=range(20, 50))})[0]
    cut = plain_lists(table, (0, 20, 40, 50, 50, 80))
    assert by_number(cut, PhaseRunner(cut).run(near())) == by_number({0: table}, PhaseRunner({0: table}).run(near()))


def test_the_way_of_a_gpu_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import stages.vectors as vectors_module

    x = with_copies(1)
    expected = told(PhaseRunner(pool_of({"v": vectors(x)}, 2)), near())
    torch_without_gpu(monkeypatch, tiles, visits)
    monkeypatch.setattr(vectors_module, "gpu_torch", lambda _: None)
    monkeypatch.setattr(vectors_module.Nearest, "_candidates_of_gpu", vectors_module.Nearest._candidates_of_numpy)
    chosen = NearVectors(vectors="v", epsilon=0.05, clusters=Coarse(k=6, device="cuda"), reach=10)
    assert told(PhaseRunner(pool_of({"v": vectors(x)}, 2)), chosen) == expected
    assert chosen.identity() == near().identity()
    assert {p.need.gpus for p in chosen.phases(PhaseRunner({}).shape) if p.name in ("assign", "compared")} == {1}


# ---------------------------------------------------------------- growing pools


def grown(x: np.ndarray, generations: dict[int, int], earlier: PhaseRunner | None = None) -> PhaseRunner:
    """Nine shards in order; only those with a generation."""
    whole = pool_of({"v": vectors(x)}, 9)
    return PhaseRunner({s: whole[s] for s in generations}, generations=generations, earlier=earlier)


@pytest.mark.parametrize("rows", [1 << 21, 40, 32])
def test_an_extended_pool_is_as_one_made_at_once(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With buckets enough that their number doubles on the way, too."""
    monkeypatch.setattr(shuffle, "ROWS", rows)
    monkeypatch.setattr(phases, "FEW", 20)
    x, barrier = with_copies(5)[np.random.default_rng(5).permutation(220)], near(k=4)
    first, second = dict.fromkeys(range(3), 0), dict.fromkeys(range(3), 0) | dict.fromkeys(range(3, 7), 1)
    all_three = second | {7: 2, 8: 2}
    once = grown(x, all_three)
    expected = told(once, barrier)
    runner: PhaseRunner | None = None
    for generations in (first, second, all_three):
        runner = grown(x, generations, runner)
        answer = told(runner, barrier)
    assert answer == expected
    assert runner is not None
    assert runner.files[barrier]["groups"].keys() == once.files[barrier]["groups"].keys()
    ran = {name for name, _ in runner.ran}
    assert not ran & {"count", "sample", "centroids"}
    assert {part for name, part in runner.ran if name == "nodes"} == {"00000007", "00000008"}
    assert all(part.startswith("00000007-00000008-") for name, part in runner.ran if name == "assign")
    assert {part.split("-")[1] for name, part in runner.ran if name == "compared"} == {"00000007"}


def test_a_later_list_is_compared_with_all_before_it() -> None:
    """The same pairs as of one list with the same centroids: here one cluster."""
    x = with_copies(6)
    one, barrier = grown(x, dict.fromkeys(range(9), 0)), near(k=1)
    several = grown(x, {s: s // 3 for s in range(9)})
    assert told(several, barrier)[1] == told(one, barrier)[1]
    assert as_numbers(by_number(several.pool, several.run(barrier))) == plain_groups(x, 0.05)


def test_another_first_list_is_another_name() -> None:
    """The same shards, cut otherwise into lists, share nothing that hangs on the centroids."""
    x = with_copies(6)
    names = []
    for first in (3, 4):
        runner = grown(x, {s: int(s >= first) for s in range(9)})
        runner.run(near())
        names.append({(p, part) for p in ("centroids", "assign", "compared") for part in runner.files[near()][p]})
    assert not names[0] & names[1]


def test_a_first_list_without_vectors_makes_one_cluster() -> None:
    x = with_copies(2)
    whole = pool_of({"v": vectors(x, null=range(0, 220, 9))}, 9)
    runner = PhaseRunner(whole, generations={s: int(s > 0) for s in whole})
    answer = by_number(whole, runner.run(near(k="max(n/9, 1)")))
    left = np.array([n for n in range(220) if n % 9])
    groups = plain_groups(x[left], 0.05)
    expected = [(None if g is None else int(left[g]), s) for g, s in groups]
    assert [as_numbers(answer)[n] for n in left] == expected


# ---------------------------------------------------------------- what it says of itself


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 2"):
        near(3)
    with pytest.raises(ValidationError, match="k: write a number above 0"):
        near(k="many")
    with pytest.raises(ValueError, match=r"too few for k: 50"):
        PhaseRunner(pool_of({"v": vectors(directions(9, 4))})).run(near(k=50))


def test_a_barrier_can_be_made_again_from_what_it_says_of_itself() -> None:
    barrier = near(0.1, k="n/9", name="look_alikes", within_clusters=True)
    assert NearVectors(**barrier.identity()["parameters"]) == barrier
    assert barrier.writes().names == ["look_alikes_group", "look_alikes_group_size", "look_alikes_node"]
    assert near().bound() == (0.05, "epsilon 0.05")
    assert near().scale == 1e-6


def test_a_pool_that_is_many_times_its_first_list_is_clustered_anew() -> None:
    lists = (10, 700, 30, 40_000)
    shape = Shape(tuple(range(4)), lists, tuple(range(4)), tuple("abcd"))
    plan = [Plan(shape.among(range(n)), Coarse(k=4)).first.shards for n in (1, 2, 3, 4)]
    assert plan == [(0,), (0, 1), (0, 1), (0, 1)]  # 10 are no 64th of 710, and 710 are one of 40,740
