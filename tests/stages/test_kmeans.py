"""k-means against Lloyd's algorithm written plainly, FAISS's own, and itself cut and ordered otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.kmeans
import stages.kmeans_training as module
import stages.lloyd as lloyd_module
from stages.base import Column
from stages.draws import hash64_halves, uniform
from stages.kmeans import KMeans
from stages.kmeans_parts import Smallest
from stages.kmeans_training import centroids
from stages.lloyd import lloyd, means
from stages.vectors import on_grid
from tests.phase_runner import PhaseRunner
from tests.stages.vector_parts import (
    CUTS,
    answers,
    as_stored,
    by_number,
    clumps,
    directions,
    keys,
    plain_lists,
    pool_of,
    uids,
    vectors,
)


def kmeans(**more: Any) -> KMeans:
    return KMeans(vectors="v", **{"k": 5, **more})


def clump_pool(shards: int = 1, seed: int | None = None, null: tuple[int, ...] = ()) -> dict[int, pa.Table]:
    return pool_of({"v": vectors(clumps(5, 12, 8), null=null)}, shards, seed)


def first_of(x: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """The vectors with the smallest draws."""
    drawn = hash64_halves(seed, "kmeans_start", *keys(len(x)))
    return x[np.argsort(drawn)[:k]]


def plainly(x: np.ndarray, first: np.ndarray, iterations: int, spherical: bool = False) -> np.ndarray:
    """Lloyd's algorithm as textbooks have it; no cluster may become empty."""
    found = first
    for _ in range(iterations):
        label = ((x[:, None] - found[None]) ** 2).sum(axis=2).argmin(axis=1)
        assert len(set(label.tolist())) == len(found)
        found = np.stack([x[label == c].mean(axis=0) for c in range(len(found))])
        if spherical:
            found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("assign", ["nearest", "dot"])
def test_centroids_and_answers_by_the_textbook(spherical: bool, assign: str) -> None:
    x = clumps(12, 30, 6, 0.9)
    chosen = kmeans(k=12, iterations=7, spherical=spherical, assign=assign)
    pool = pool_of({"v": vectors(x, null=[3])}, 3, 1)
    runner = PhaseRunner(pool)
    found = by_number(pool, runner.run(chosen))
    (output,) = runner.files[chosen]["centroids"].values()
    exact = as_stored(x)
    drawn = hash64_halves(0, "kmeans_start", *keys(len(x)))
    start = exact[[i for i in np.argsort(drawn) if i != 3][:12]]
    expected = plainly(np.delete(exact, 3, axis=0), start, 7, spherical)
    assert centroids(output.tables) == pytest.approx(expected, abs=1e-6)
    score = exact @ expected.T - (0 if assign == "dot" else (expected**2).sum(axis=1) / 2)
    order = np.argsort(-score, axis=1)
    cosine = (exact @ expected.T) / np.linalg.norm(expected, axis=1)
    for i, (cluster, distance, second) in enumerate(found):
        if i == 3:
            assert (cluster, distance, second) == (None, None, None)
        else:
            assert (cluster, second) == tuple(order[i, :2])
            assert distance == pytest.approx(1 - cosine[i, cluster], abs=6e-5)


def test_the_largest_product_is_not_the_nearest() -> None:
    """Centroids of spread clusters are short: a trap of DataComp's code, kept under its name."""
    x = clumps(12, 30, 6, 0.9)
    pool = pool_of({"v": vectors(x)})
    near, dot = (answers(pool, kmeans(k=12, assign=assign)) for assign in ("nearest", "dot"))
    assert 0 < sum(a[0] != b[0] for a, b in zip(near, dot, strict=True)) < 180


def test_clumps_are_found() -> None:
    found = [c for c, _, _ in answers(clump_pool(), kmeans(k=20, spherical=True))]
    of_clump = [set(found[12 * i : 12 * i + 12]) for i in range(5)]
    assert all(not a & b for i, a in enumerate(of_clump) for b in of_clump[:i])


@pytest.mark.parametrize("in_memory", [1 << 17, 1])
@pytest.mark.parametrize("rows", [1 << 17, 9])
def test_no_cut_shows(in_memory: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory or in files; an iteration in one part or in several."""
    whole = answers(clump_pool(null=(7,)), kmeans(k=9, sample=40, iterations=5))
    monkeypatch.setattr(module, "IN_MEMORY", in_memory)
    monkeypatch.setattr(module, "PARTS", 3)
    monkeypatch.setattr(stages.kmeans, "ROWS", rows)
    for shards, seed in CUTS:
        assert answers(clump_pool(shards, seed, (7,)), kmeans(k=9, sample=40, iterations=5), seed) == whole
    names = [p.name for p in kmeans(k=9, iterations=5).phases(PhaseRunner(clump_pool(3)).shape)]
    assert ("step-004" in names) == (in_memory == 1)


def test_sums_of_many_parts_are_merged_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = answers(clump_pool(), kmeans(k=9, iterations=5))
    monkeypatch.setattr(module, "IN_MEMORY", 1)
    monkeypatch.setattr(module, "FAN_IN", 2)
    monkeypatch.setattr(stages.kmeans, "ROWS", 7)
    runner = PhaseRunner(clump_pool(7, 2), 5)
    assert by_number(runner.pool, runner.run(kmeans(k=9, iterations=5))) == whole
    assert "merge-002-1" in runner.files[kmeans(k=9, iterations=5)]


def test_only_the_smallest_draws_are_held() -> None:
    rng = np.random.default_rng(0)
    smallest, draws = Smallest(10), rng.permutation(4000).astype(np.uint64)
    for some in draws.reshape(40, 100):
        keys_of = np.stack([some, some, some])[:, some <= smallest.limit]
        smallest.add(keys_of, keys_of[:1].T.astype(np.float32))
        assert smallest._held <= 120
    assert smallest.rows()[:, 0].tolist() == list(range(10))
    assert smallest.limit == 9
    assert Smallest(0).rows().shape[0] == 0


@pytest.mark.parametrize("in_memory", [1 << 17, 1])
def test_shards_of_plain_lists_may_have_no_vectors(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing says how long they would be."""
    monkeypatch.setattr(module, "IN_MEMORY", in_memory)
    whole = {"v": vectors(clumps(5, 12, 8), null=range(40, 60))}
    expected = answers(pool_of(whole), kmeans(k=4))
    for rows in (60, 20):
        monkeypatch.setattr(stages.kmeans, "ROWS", rows)
        assert answers(plain_lists(pool_of(whole)[0], (0, 20, 40, 60, 60)), kmeans(k=4)) == expected
    none = plain_lists(pool_of(whole)[0].slice(40), (0, 10, 20))
    assert answers(none, kmeans(k=4)) == [(None, None, None)] * 20


def test_the_seed_counts() -> None:
    first, second = (answers(clump_pool(), kmeans(k=9, seed=seed)) for seed in (0, 1))
    assert first != second


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), k=st.integers(1, 30), copies=st.integers(1, 4))
def test_each_iteration_comes_nearer(seed: int, k: int, copies: int) -> None:
    """Also with copies of a vector, of which more than one may be drawn to start from."""
    x = on_grid(clumps(6, 5, 4, 0.5, seed).repeat(copies, axis=0))
    first = x[np.random.default_rng(seed).permutation(len(x))[:k]]
    spread = []
    for iterations in (1, 3, 9, 20):
        found, counts, _ = lloyd(x, first, iterations)
        spread.append(((x[:, None].astype(np.float64) - found[None]) ** 2).sum(axis=2).min(axis=1).sum())
        assert counts.sum() == len(x)
    assert spread == sorted(spread, reverse=True) or spread[0] < 1e-3


def test_it_is_as_good_as_faiss() -> None:
    faiss = pytest.importorskip("faiss", reason="faiss is not installed: k-means is not compared with it")
    x = on_grid(clumps(40, 25, 16, 0.6))
    theirs = faiss.Kmeans(16, 40, niter=20, seed=1, min_points_per_centroid=1)
    theirs.train(x)
    mine = [
        float(((x[:, None] - lloyd(x, first_of(x, 40, seed), 20)[0][None]) ** 2).sum(axis=2).min(axis=1).sum())
        for seed in range(5)
    ]
    assert np.median(mine) < 1.1 * theirs.obj[-1]
    assert len(set(mine)) > 1


def test_an_empty_cluster_takes_half_of_the_largest() -> None:
    before = on_grid(directions(3, 4))
    counts = np.array([10, 0, 4])
    sums = counts[:, None] * 0.5 * before.astype(np.float64)
    found = means(before, counts, sums, spherical=False)
    large = 0.5 * before[0]
    assert found[1] == pytest.approx(large * np.array([1025, 1023, 1025, 1023]) / 1024, abs=1e-7)
    assert found[0] == pytest.approx(2 * large - found[1], abs=2e-7)
    assert found[2] == pytest.approx(0.5 * before[2], abs=1e-7)


def test_means_are_the_same_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 4, 50) * rng.integers(0, 2, 50)
    before = on_grid(0.9 * directions(50, 6))
    sums = counts[:, None] * on_grid(0.5 * directions(50, 6, 1)).astype(np.float64)
    for spherical in (False, True):
        whole = means(before, counts, sums, spherical)
        with monkeypatch.context() as patch:
            patch.setattr(lloyd_module, "BLOCK", 7)
            assert np.array_equal(means(before, counts, sums, spherical), whole)
    assert (counts == 0).sum() > 10


def test_copies_of_one_vector_are_one_cluster_that_counts() -> None:
    x = np.repeat(directions(1, 6), 20, axis=0)
    found = answers(pool_of({"v": vectors(x)}), kmeans(k=4))
    assert len({c for c, _, _ in found}) == 1
    assert {d for _, d, _ in found} == {0.0}


COUNTS = [
    ("n/128", 1280, 10),
    ("n/128", 5, 1),
    ("n/9000", 0, 0),
    (7, 7, 7),
    ("max(n/128, 3)", 1280, 10),
    ("max(n/128,30)", 1280, 30),
    ("max(n/4, 9)", 5, 5),
    ("min(max(n/128, 1000), 100000)", 128_000, 1000),
    ("min(max(n/128, 1000), 100000)", 10**10, 100_000),
    (7, 0, 0),
    ("min(n, 7)", 4, 4),
]


@pytest.mark.parametrize(("k", "n", "expected"), COUNTS)
def test_how_many_centroids(k: Any, n: int, expected: int) -> None:
    assert kmeans(k=k).centroids_of(n) == expected


def test_what_cannot_be_is_said() -> None:
    for k in (0, "n", "128", "n/0"):
        with pytest.raises(ValidationError, match='write a number above 0, "n/128"'):
            kmeans(k=k)
    with pytest.raises(
        ValueError, match=r"60 vectors are too few for k: 61; write a smaller k, as n/128, or .min\(n, 61"
    ):
        answers(clump_pool(), kmeans(k=61))
    with pytest.raises(ValueError, match="too small for 9 centroids; write a larger sample"):
        answers(clump_pool(), kmeans(k=9, sample=0.02))
    with pytest.raises(ValueError, match="v: expected a column of vectors"):
        answers(pool_of({"v": pa.array([1.0])}), kmeans(k=1))


def test_the_sample_is_drawn_by_uid() -> None:
    pool = pool_of({"v": vectors(clumps(5, 12, 8))}, 3, 2)
    chosen = kmeans(k=5, sample=0.5, seed=3)
    runner = PhaseRunner(pool)
    runner.run(chosen)
    found = [
        int(n) for output in runner.files[chosen]["sample"].values() for n in output.tables.column("low").to_pylist()
    ]
    drawn = uniform(3, "kmeans_sample", uids(range(60)))
    assert sorted(found) == np.flatnonzero(drawn < 0.5).tolist()
    assert kmeans(k=2).share_of(1024) == 0.5
    assert kmeans(k="n/128").share_of(1024) == 1
    assert kmeans(k=2, sample=300).share_of(1200) == 0.25


def test_only_some_are_trained_on() -> None:
    wanted = [i < 24 or None for i in range(60)]
    table = {"v": vectors(clumps(5, 12, 8)), "ok": pa.array(wanted, pa.bool_())}
    whole = answers(pool_of(table, 3, 1), kmeans(k="n/4", only="ok"))
    part = answers(pool_of({"v": vectors(clumps(5, 12, 8)[:24])}), kmeans(k=6))
    assert whole[:24] == part
    assert all(c is not None for c, _, _ in whole)
    with pytest.raises(ValueError, match="no vector was there to train on"):
        answers(pool_of(table | {"ok": pa.array([False] * 60)}), kmeans(k="n/4", only="ok"))


def test_nobody_has_vectors() -> None:
    none = pool_of({"v": vectors(directions(4, 3), null=range(4))}, 2)
    for k in ("n/4", 3):
        assert answers(none, kmeans(k=k)) == [(None, None, None)] * 4
    assert answers({0: none[0].slice(0, 0)}, kmeans(k="n/4")) == []


def test_one_centroid_has_no_second() -> None:
    assert {(c, s) for c, _, s in answers(clump_pool(), kmeans(k=1))} == {(0, None)}


def test_identity() -> None:
    chosen = KMeans(vectors=Column(kmeans(), "kmeans_distance"), k=3, device="cuda", name="mine")
    assert "device" not in chosen.identity()["parameters"]
    assert chosen.identity()["parameters"]["vectors"] == "kmeans_distance"
    assert chosen.writes().names == ["mine_cluster", "mine_distance", "mine_second"]
    assert {
        p.need.gpus for p in chosen.phases(PhaseRunner(clump_pool()).shape) if p.name in ("centroids", "assign")
    } == {1}
    assert hash(chosen) == hash(chosen.model_copy())
