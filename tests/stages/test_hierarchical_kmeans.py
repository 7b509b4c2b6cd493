"""Clusters of clusters: planted ones are found, resampling evens out, and no cut into shards shows."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

import stages.hierarchical_kmeans as module
import stages.lloyd as lloyd_module
from filters.balanced_sample import BalancedSample
from stages.base import Shape
from stages.hierarchical_kmeans import HierarchicalKMeans, closest, starts
from stages.kmeans import KMeans
from stages.lloyd import plus_plus
from stages.vectors import on_grid
from tests.phase_runner import PhaseRunner
from tests.stages.vector_parts import CUTS, answers, by_number, clumps, directions, kept, pool_of, vectors

ROWS = 120


def planted() -> np.ndarray:
    """Three far groups of four clumps of ten."""
    rng = np.random.default_rng(1)
    centres = np.eye(10)[:3].repeat(4, axis=0) + 0.4 * directions(12, 10, 5)
    x = centres.repeat(10, axis=0) + 0.03 * rng.standard_normal((ROWS, 10))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def hkm(**more: Any) -> HierarchicalKMeans:
    return HierarchicalKMeans(**{"vectors": "v", "k": (24, 8, 3), "iterations": 8, "resample": 3, **more})


def pool(shards: int = 1, seed: int | None = None, null: tuple[int, ...] = ()) -> dict[int, pa.Table]:
    return pool_of({"v": vectors(planted(), null=null)}, shards, seed)


def test_each_level_lies_within_the_next() -> None:
    found = answers(pool(null=(7,)), hkm())
    assert found[7] == (None,) * 4
    rows = [r for i, r in enumerate(found) if i != 7]
    for fine, coarse in ((0, 1), (1, 2)):
        assert len({(r[fine], r[coarse]) for r in rows}) == len({r[fine] for r in rows})
    assert [len({r[level] for r in rows}) for level in range(3)] == pytest.approx([24, 8, 3], abs=6)
    assert all(0 <= r[3] < 0.2 for r in rows)


def test_the_first_level_is_k_means() -> None:
    first = answers(pool(), KMeans(vectors="v", k=24, iterations=8))
    assert [(r[0], r[3]) for r in answers(pool(), hkm())] == [(c, d) for c, d, _ in first]


def test_far_groups_are_the_coarsest_clusters() -> None:
    found = [r[-2] for r in answers(pool(), hkm(k=(40, 3), members=(10,), seed=3))]
    of_group = [set(found[40 * i : 40 * i + 40]) for i in range(3)]
    assert [len(s) for s in of_group] == [1, 1, 1]
    assert len(set.union(*of_group)) == 3


@pytest.mark.parametrize("rows", [1 << 17, 11])
def test_no_cut_shows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    chosen = hkm(k=("n/5", "n/20", 3), sample=0.9)
    first, *others = (answers(pool(shards, seed, (5, 7)), chosen, seed) for shards, seed in CUTS)
    assert all(other == first for other in others)
    assert first != answers(pool(null=(5, 7)), chosen.model_copy(update={"seed": 1}))


def test_resampling_evens_out_what_is_dense() -> None:
    """Nine tenths of the rows in one clump: without resampling it gets more of the coarse clusters."""
    table = pool_of({"v": vectors(np.vstack([clumps(1, 270, 10, 0.5), directions(30, 10, 9)]))})

    def coarse_in_the_clump(resample: int) -> int:
        found = answers(table, hkm(k=(60, 10), resample=resample, members=(3,), iterations=5))
        return len({r[1] for r in found[:270]})

    assert coarse_in_the_clump(5) < coarse_in_the_clump(0)


def test_starting_points_lie_apart() -> None:
    """Each next one is drawn by its squared distance to those before: copies come last, clumps are all hit."""
    x = on_grid(clumps(4, 25, 6, 0.01))
    for seed in range(5):
        chosen = plus_plus(x, 4, np.random.default_rng(seed).uniform(size=4))
        assert sorted((chosen // 25).tolist()) == [0, 1, 2, 3]
    copies = on_grid(directions(3, 6).repeat(2, axis=0))
    chosen = plus_plus(copies, 6, np.linspace(0, 0.99, 6))
    assert sorted(chosen.tolist()) == list(range(6))
    assert sorted((chosen[:3] // 2).tolist()) == [0, 1, 2]


def test_the_chance_of_a_starting_point() -> None:
    x = on_grid(np.array([[1.0, 0], [0.8, 0.6], [0, 1]]))  # squared distances to the first: 0, .4, 2
    second = [plus_plus(x, 2, np.array([0.1, u]))[1] for u in np.linspace(0, 0.999, 2400)]
    assert [second.count(i) for i in range(3)] == pytest.approx([0, 400, 2000], abs=5)


def test_starting_points_are_the_same_however_they_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    x = on_grid(clumps(9, 20, 6, 0.4))
    drawn = np.random.default_rng(2).uniform(size=40)
    whole = plus_plus(x, 40, drawn)
    monkeypatch.setattr(lloyd_module, "HELD", 0)
    monkeypatch.setattr(lloyd_module, "BLOCK", 13)
    assert np.array_equal(plus_plus(x, 40, drawn), whole)


def test_large_points_are_not_held_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    x = on_grid(directions(20_000, 32))
    monkeypatch.setattr(lloyd_module, "HELD", 0)
    monkeypatch.setattr(lloyd_module, "BLOCK", 500)
    tracemalloc.start()
    plus_plus(x, 3, np.array([0.1, 0.5, 0.9]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes  # a copy in float64 would be twice that


def test_very_many_points_start_from_drawn_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """k-means++ looks at all points anew for each centroid."""
    x = on_grid(clumps(4, 25, 6, 0.01))
    by_distance = starts(x, 8, 0, "test")
    assert set(by_distance // 25) == {0, 1, 2, 3}
    monkeypatch.setattr(module, "PLUS_PLUS", 24)
    monkeypatch.setattr(module, "plus_plus", None)
    drawn = starts(x, 8, 0, "test")
    assert len(set(drawn.tolist())) == 8
    assert not np.array_equal(drawn, starts(x, 8, 1, "test"))
    chosen = hkm(k=(24, 12))
    first, *others = (answers(pool(shards, seed), chosen, seed) for shards, seed in CUTS)
    assert all(other == first for other in others)


def test_what_takes_too_long_is_refused_before_it_starts() -> None:
    levels = ("n/100", "n/2000", "n/20000")
    small, large = (Shape(tuple(range(many)), (10_000,) * many) for many in (1280, 12_800))
    (levels_phase,) = (p for p in hkm(k=levels, iterations=50, resample=10).phases(small) if p.name == "levels")
    assert levels_phase.need.memory_gb == pytest.approx(4 + 128_000 * 1024 * 32e-9, abs=0.1)
    with pytest.raises(ValueError, match=r"up to 1,280,000 and 64,000 and 6,400 cent.* some 15 days; .*device: cuda"):
        hkm(k=levels, iterations=50, resample=10).phases(large)
    assert hkm(k=levels, iterations=50, resample=10, device="cuda").phases(large)
    assert hkm(k=("n/1000", "n/20000"), iterations=50, resample=10).phases(large)


def test_the_nearest_members() -> None:
    label, apart = np.array([1, 0, 1, 1, 0, 2]), np.array([0.3, 0.1, 0.2, 0.2, 0.5, 0.9])
    assert closest(label, apart, 1).tolist() == [1, 2, 5]
    assert closest(label, apart, 2).tolist() == [1, 2, 3, 4, 5]


def test_a_balanced_sample_of_it() -> None:
    """The two together, as a recipe has them."""
    stage = hkm()
    runner = PhaseRunner(pool())
    columns = runner.run(stage)
    table = {
        s: pa.table({"uid": runner.pool[s]["uid"], **{n: t.column(n) for n in t.column_names}})
        for s, t in columns.items()
    }
    found = answers(table, BalancedSample(levels=("hkm_1", "hkm_2", "hkm_3"), samples=30, over="pool"))
    coarse = np.array([r[2] for r in by_number(runner.pool, columns)])
    assert len(kept(found)) == 30
    assert np.ptp(np.bincount(coarse[kept(found)], minlength=3)) <= 1


def test_footers_and_identity() -> None:
    stage = hkm(device="cuda")
    assert "device" not in stage.identity()["parameters"]
    runner = PhaseRunner(pool())
    runner.run(hkm())
    assert runner.stats(hkm(), "levels")["all"] == {"k": [24, 8, 3]}
    assert hkm().writes().names == ["hkm_1", "hkm_2", "hkm_3", "hkm_distance"]


def test_nobody_has_vectors() -> None:
    none = pool_of({"v": vectors(directions(4, 3), null=range(4))}, 2)
    for k in (("n/2", "n/4"), (3, 2)):
        assert answers(none, hkm(k=k)) == [(None, None, None)] * 4


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValidationError, match="members: write a number above 0 for each of the 2 levels"):
        hkm(members=(10,))
    with pytest.raises(ValidationError, match='write a number above 0, "n/128"'):
        hkm(k=(5, 0))
    with pytest.raises(ValueError, match="level 2 has 30 centroids for the 10 of the level below"):
        answers(pool(), hkm(k=(10, 30)))
