"""Density-based pruning: the projection of the specification, the rule step by step, and no cut into shards shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from filters.density_pruning import DensityPruning, apart, projected, shares, whole
from stages.kmeans import KMeans
from stages.kmeans_training import Training, centroids
from stages.vectors import on_grid
from tests.phase_runner import PhaseRunner
from tests.stages.vector_parts import CUTS, answers, by_number, clumps, directions, kept, plain_lists, pool_of, vectors

ROWS = 90
KMEANS = KMeans(vectors="v", k=6, spherical=True, iterations=5)


def test_the_values_of_the_specification() -> None:
    target = np.array([0.7, 0.2, 0.1]) * 150
    found = projected(target, np.ones(3), np.full(3, 100), 150)
    assert found == pytest.approx([100, 32.5, 17.5])
    assert whole(found, np.full(3, 100), 150).tolist() == [100, 33, 17]


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=12),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 999),
    least=st.integers(0, 3),
)
def test_the_projection(sizes: list[int], fraction: float, seed: int, least: int) -> None:
    highest = np.array(sizes)
    lowest = np.clip(highest - 1, 0, least)
    total = int(lowest.sum() + fraction * (highest - lowest).sum())
    share = np.random.default_rng(seed).dirichlet(np.ones(len(sizes)))
    x = projected(share * total, lowest, highest, total)
    assert x.sum() == pytest.approx(total, abs=1e-6)
    assert (x >= lowest - 1e-9).all()
    assert (x <= highest + 1e-9).all()
    free = (x > lowest + 1e-6) & (x < highest - 1e-6)
    if free.sum() > 1:  # where no bound holds it back, each is off by the same
        assert np.ptp((x - share * total)[free]) < 1e-6
    rounded = whole(x, highest, total)
    assert rounded.sum() == total
    assert (np.abs(rounded - x) < 1 + 1e-6).all()
    assert (rounded <= highest).all()
    if len(set(sizes)) == 1:
        assert (np.diff(x[np.argsort(share)]) >= -1e-9).all()


def test_clusters_that_lie_apart() -> None:
    found = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0]])
    assert apart(on_grid(found), 1) == pytest.approx([0.4, 0.2, 1, 0.2], abs=1e-6)
    assert apart(on_grid(found / 2), 2) == pytest.approx([0.7, 0.6, 1, 0.3], abs=1e-6)
    assert apart(on_grid(found), 20) == pytest.approx(
        [(0.4 + 1 + 1) / 3, (0.2 + 1 + 1) / 3, 1, (0.4 + 0.2 + 1) / 3], abs=1e-6
    )
    assert np.isnan(apart(on_grid(found[:1]), 20)).all()


def test_the_share_of_an_empty_cluster_is_that_of_the_mean() -> None:
    found = shares(np.array([2, 0, 4]), np.array([0.4, 0, 1.6]), np.array([0.5, 0.9, 0.5]), 0.5)
    expected = np.exp(np.array([0.1, 0.15, 0.2]) / 0.5)
    assert found == pytest.approx(expected / expected.sum())
    assert shares(np.array([3]), np.array([1.0]), np.array([np.nan]), 0.5) == pytest.approx([1])


def pruning(**more: Any) -> DensityPruning:
    return DensityPruning(
        **{"cluster": KMEANS.column("cluster"), "fraction": 0.4, "over": "pool", "temperature": 0.02, **more}
    )


def pool(
    shards: int = 1, seed: int | None = None, null: tuple[int, ...] = (), asked: bool = False
) -> dict[int, pa.Table]:
    x = clumps(6, 15, 8, 0.9)
    x[:15] = clumps(1, 15, 8, 0.1)
    columns = {"v": vectors(x, null=null)}
    if asked:
        columns["asked"] = pa.array([i % 3 > 0 for i in range(ROWS)])
    return pool_of(columns, shards, seed)


@pytest.mark.parametrize("keep", ["hard", "easy"])
@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_the_whole_way(keep: Any, balance: float) -> None:
    runner = PhaseRunner(pool())
    found = by_number(pool(), runner.run(pruning(keep=keep, balance=balance)))
    columns = by_number(pool(), {int(p): o.tables for p, o in runner.files[KMEANS]["assign"].items()})
    label, far = np.array([c for c, _, _ in columns]), np.array([d for _, d, _ in columns])
    unit = centroids(runner.files[KMEANS]["centroids"]["all"].tables).astype(float)
    cosine = unit @ unit.T
    d_inter = np.array([np.mean(1 - np.delete(cosine[j], j)) for j in range(6)])
    complexity = np.array([far[label == j].mean() for j in range(6)]) * d_inter
    p = np.exp(complexity / 0.02) / np.exp(complexity / 0.02).sum()
    sizes = np.bincount(label, minlength=6)
    lowest = np.minimum(int(36 / 6 * balance) if balance else 1, sizes - 1)
    expected = whole(projected(p * 36, lowest, sizes, 36), sizes, 36)
    left: list[int] = []
    for j in range(6):
        rows = np.flatnonzero(label == j)
        left += rows[np.lexsort((rows, -far[rows] if keep == "hard" else far[rows]))][: expected[j]].tolist()
    assert kept(found) == sorted(left)
    assert len(left) == 36
    assert np.ptp(expected / sizes) > 0.1
    assert {r for k, r in found if not k} == {"over_quota"}


@pytest.mark.parametrize("rows", [1 << 21, 11])
def test_no_cut_shows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "ROWS", rows)
    for chosen in (pruning(over="survivors", on_missing="drop"), pruning(keep="random", on_missing="drop", seed=1)):
        first, *others = (answers(pool(shards, seed, (5, 7), asked=True), chosen, seed) for shards, seed in CUTS)
        assert all(other == first for other in others)
        assert len(kept(first)) == int(0.4 * (60 if chosen.over == "survivors" else ROWS))


def anew(**more: Any) -> DensityPruning:
    clusters = Training(k=more.pop("k", 6), spherical=True, iterations=5)
    return DensityPruning(
        **({"vectors": "v", "clusters": clusters, "fraction": 0.4, "over": "pool", "temperature": 0.02} | more)
    )


def test_clusters_made_here_are_those_of_the_column() -> None:
    """Where all are asked; of survivors they are others."""
    assert answers(pool(), anew()) == answers(pool(), pruning())
    survivors = anew(over="survivors", on_missing="drop", k="n/10")
    first, *others = (answers(pool(shards, seed, (5, 7), asked=True), survivors, seed) for shards, seed in CUTS)
    assert all(other == first for other in others)
    assert len(kept(first)) == int(0.4 * 60)
    assert kept(first) != kept(answers(pool(null=(5, 7), asked=True), pruning(over="survivors", on_missing="drop")))
    alone = pool(asked=True)[0]
    alone = alone.filter(alone.column("asked")).drop_columns("asked")
    found = PhaseRunner({0: alone}).run(anew(k="n/10"))[0]
    numbers = [int.from_bytes(u, "big") for u in alone["uid"].to_pylist()]
    whole = answers(pool(asked=True), anew(over="survivors", k="n/10"))
    assert [whole[n][0] for n in numbers] == found["keep"].to_pylist()


@pytest.mark.parametrize(("policy", "expected"), [("drop", (False, "missing")), ("keep", (True, None))])
def test_missing_clusters_follow_the_policy(policy: Any, expected: tuple[bool, str | None]) -> None:
    assert answers(pool(2, 1, (7,)), pruning(on_missing=policy))[7] == expected


def test_everything_and_nothing() -> None:
    assert len(kept(answers(pool(), pruning(fraction=1)))) == ROWS
    none = {"v": vectors(directions(9, 8)), "asked": pa.array([False] * 9)}
    assert set(answers(pool_of(none, 2), pruning(over="survivors"))) == {(None, None)}


@pytest.mark.parametrize("policy", ["drop", "keep"])
def test_nobody_with_a_vector_is_nothing_to_cluster(policy: Any) -> None:
    """An explicit k, too: how many a filter above leaves is not known when the recipe is written."""
    none = pool_of({"v": vectors(directions(9, 8), null=range(9))}, 2)
    expected = (True, None) if policy == "keep" else (False, "missing")
    for chosen in (anew(k=2, on_missing=policy), pruning(on_missing=policy)):
        assert answers(none, chosen) == [expected] * 9
    unasked = pool_of({"v": vectors(directions(9, 8)), "asked": pa.array([False] * 9)}, 2)
    assert set(answers(unasked, anew(k=2, over="survivors"))) == {(None, None)}


def test_fewer_survivors_than_centroids_follow_the_rule() -> None:
    few = pool_of({"v": vectors(directions(9, 8)), "asked": pa.array([i < 4 for i in range(9)])}, 2)
    with pytest.raises(ValueError, match=r"4 vectors are too few for k: 6; .*min\(n, 6\)"):
        answers(few, anew(over="survivors"))
    assert len(kept(answers(few, anew(over="survivors", k="min(n, 6)", fraction=0.5)))) == 2


def test_shards_of_plain_lists_may_have_no_vectors() -> None:
    table = pool(null=tuple(range(30, 60)))[0]
    shards = plain_lists(table, (0, 30, 60, 60, ROWS))
    for chosen in (anew(on_missing="drop"), pruning(on_missing="drop")):
        assert answers(shards, chosen) == answers({0: table}, chosen)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match=r"sample 0{31}7 has no 'kmeans_cluster', 'kmeans_distance'.*on_missing: drop"):
        answers(pool(2, 1, (7,)), pruning())
    for column in ("kmeans_cluster", KMEANS.column("second")):
        with pytest.raises(ValidationError, match="is no column <name>_cluster of a `kmeans`"):
            pruning(cluster=column)
    with pytest.raises(ValueError, match=r"sample 0{31}7 has no 'v', and nothing"):
        answers(pool(2, 1, (7,)), anew())
    for more in ({"cluster": None}, {"vectors": "v"}, {"vectors": "v", "clusters": Training(k=3)}):
        with pytest.raises(ValidationError, match="give vectors and clusters, or cluster"):
            pruning(**more)
    with pytest.raises(ValueError, match="2 samples are too few for at least 1 of each of 6 clusters"):
        answers(pool(), pruning(fraction=0.03, balance=0))
