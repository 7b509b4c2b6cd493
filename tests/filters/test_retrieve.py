"""Retrieval: both ways against plain loops, no cut into shards or parts shows, and what does not fit is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import filters.retrieve_phases as cut
from filters.retrieve import Retrieve
from filters.retrieve_sets import QuerySet
from stages import shuffle
from stages.draws import hash64_halves
from stages.kmeans_training import centroids
from tests.phase_runner import PhaseRunner
from tests.stages.vector_parts import (
    CUTS,
    answers,
    as_stored,
    blind_torch,
    by_number,
    clumps,
    directions,
    kept,
    keys,
    pool_of,
    vectors,
)

ROWS, DIM = 120, 6
X = clumps(8, 15, DIM, 0.4)


def sets_of(folder: Path, **x: np.ndarray) -> dict[str, str]:
    """name -> path of a .npy file."""
    for name, rows in x.items():
        np.save(folder / f"{name}.npy", rows)
    return {name: str(folder / f"{name}.npy") for name in x}


def retrieve(*queries: dict[str, Any], **more: Any) -> Retrieve:
    chosen = tuple(QuerySet(**q) for q in queries)
    return Retrieve(**{"vectors": "v", "queries": chosen, "over": "pool", **more})


def cosines(queries: np.ndarray, x: np.ndarray) -> np.ndarray:
    """In whole millionths."""
    return np.rint(as_unit(queries) @ as_stored(x).T * 1e6).astype(int)


def as_unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def nearest(queries: np.ndarray, x: np.ndarray, k: int, asked: np.ndarray | None = None) -> list[list[int]]:
    """Of each query, rows in their order."""
    near = cosines(queries, x)
    if asked is not None:
        near[:, ~asked] = -2_000_000
    return [[int(r) for r in np.lexsort((np.arange(len(x)), -row))[:k]] for row in near]


# ---------------------------------------------------------------- the nearest of each query


def test_what_is_near_to_some_query_is_kept(tmp_path: Path) -> None:
    queries = directions(7, DIM, 3)
    paths = sets_of(tmp_path, a=queries)
    chosen = retrieve({"name": "a", "path": paths["a"], "nearest": 4})
    found = answers(pool_of({"v": vectors(X)}), chosen)
    near = nearest(queries, X, 4)
    assert kept(found) == sorted({r for line in near for r in line})
    assert 4 < len(kept(found)) < ROWS
    level = cosines(queries, X)
    for row, (keep, reason, name, rank, query, similarity) in enumerate(found):
        if not keep:
            assert (reason, name, rank, query, similarity) == ("not_retrieved", None, None, None, None)
            continue
        hits = min((line.index(row) + 1, q) for q, line in enumerate(near) if row in line)
        assert (reason, name, (rank, query)) == (None, "a", hits)
        assert similarity == pytest.approx(level[query, row] / 1e6, abs=2e-6)  # queries are rounded to the grid


def test_only_those_asked_are_candidates(tmp_path: Path) -> None:
    queries = directions(5, DIM, 4)
    asked = np.arange(ROWS) % 3 != 0
    paths = sets_of(tmp_path, a=queries)
    chosen = retrieve({"name": "a", "path": paths["a"], "nearest": 2}, over="survivors")
    found = answers(pool_of({"v": vectors(X), "asked": pa.array(asked)}), chosen)
    assert kept(found) == sorted({r for line in nearest(queries, X, 2, asked) for r in line})
    assert [f[0] is None for f in found] == (~asked).tolist()


def test_sets_are_united_and_the_first_is_told(tmp_path: Path) -> None:
    a, b = directions(4, DIM, 5), directions(6, DIM, 6)
    paths = sets_of(tmp_path, a=a, b=b)
    of_a, of_b = ({r for line in nearest(q, X, k) for r in line} for q, k in ((a, 9), (b, 7)))
    assert of_a & of_b
    found = answers(
        pool_of({"v": vectors(X)}),
        retrieve({"name": "a", "path": paths["a"], "nearest": 9}, {"name": "b", "path": paths["b"], "nearest": 7}),
    )
    assert kept(found) == sorted(of_a | of_b)
    assert [f[2] for f in found] == ["a" if r in of_a else "b" if r in of_b else None for r in range(ROWS)]


def test_of_equal_vectors_the_smaller_uid(tmp_path: Path) -> None:
    x = X.copy()
    x[10:20] = x[10]
    paths = sets_of(tmp_path, a=x[10:11])
    found = answers(pool_of({"v": vectors(x)}, 3, 5), retrieve({"name": "a", "path": paths["a"], "nearest": 4}))
    assert kept(found) == [10, 11, 12, 13]


def test_a_pool_smaller_than_k_is_retrieved_whole(tmp_path: Path) -> None:
    paths = sets_of(tmp_path, a=directions(2, DIM, 1))
    found = answers(pool_of({"v": vectors(X[:3])}), retrieve({"name": "a", "path": paths["a"], "nearest": 9}))
    assert kept(found) == [0, 1, 2]


# ---------------------------------------------------------------- clusters


def by_clusters(path: str, name: str = "flowers", **more: Any) -> Retrieve:
    given = {n: more.pop(n) for n in ("hits", "per_cluster", "most") if n in more}
    clusters = {"k": 8, "spherical": True, "iterations": 8}
    return retrieve({"name": name, "path": path, **given}, clusters=clusters, **more)


def oracle(queries: np.ndarray, middle: np.ndarray, hits: int, each: int, most: int, name: str) -> dict[int, int]:
    """row -> rank in its cluster's sample, by loops over clusters and draws."""
    own = (as_stored(X) @ as_unit(middle).T).argmax(axis=1)
    asked = (as_unit(queries) @ as_unit(middle).T).argmax(axis=1)
    draw = hash64_halves(0, f"retrieve:{name}", *keys(ROWS))
    rank = {}
    for j in range(len(middle)):
        if (asked == j).sum() > hits:
            members = sorted(np.flatnonzero(own == j), key=lambda r: draw[r])[:each]
            rank |= {int(r): i + 1 for i, r in enumerate(members)}
    return {r: rank[r] for r in sorted(rank, key=lambda r: draw[r])[:most]}


@pytest.mark.parametrize(
    ("hits", "each", "most"), [(3, 10_000, 1_000_000), (3, 6, 1_000_000), (3, 9, 11), (0, 4, 1000), (4, 100, 5)]
)
def test_clusters_that_queries_hit_give_some_each(tmp_path: Path, hits: int, each: int, most: int) -> None:
    queries = np.concatenate([clumps(8, 15, DIM, 0.2)[:34:2], directions(3, DIM, 8)])
    chosen = by_clusters(sets_of(tmp_path, q=queries)["q"], hits=hits, per_cluster=each, most=most)
    pool = pool_of({"v": vectors(X)}, 3, 1)
    runner = PhaseRunner(pool)
    found = by_number(pool, runner.run(chosen))
    middle = centroids(runner.files[chosen]["centroids"]["all"].tables)
    expected = oracle(queries, middle, hits, each, most, "flowers")
    assert kept(found) == sorted(expected)
    assert 0 < len(expected) < ROWS
    assert {r: found[r][3] for r in expected} == expected
    assert {f[2:] for r, f in enumerate(found) if r not in expected} == {(None, None, None, None)}
    assert {(f[2], f[4], f[5]) for r, f in enumerate(found) if r in expected} == {("flowers", None, None)}
    assert sum(s["retrieved"] for s in runner.stats(chosen, "limit").values()) == len(expected)


def test_a_cluster_with_three_hits_gives_nothing(tmp_path: Path) -> None:
    middle = X[:15].mean(axis=0)[None]
    for count in (3, 4):
        paths = sets_of(tmp_path, q=np.repeat(middle, count, axis=0))
        found = kept(answers(pool_of({"v": vectors(X)}), by_clusters(paths["q"])))
        assert bool(found) == (count > 3)


def test_clusters_are_of_those_asked(tmp_path: Path) -> None:
    asked = np.arange(ROWS) < 60
    paths = sets_of(tmp_path, q=np.repeat(X[:4], 5, axis=0))
    pool = pool_of({"v": vectors(X), "asked": pa.array(asked)})
    alone = pool_of({"v": vectors(X[:60])})
    chosen = by_clusters(paths["q"], over="survivors")
    assert kept(answers(pool, chosen)) == kept(answers(alone, chosen))


# ---------------------------------------------------------------- both, cut any way


def both(folder: Path, **more: Any) -> Retrieve:
    rng = np.random.default_rng(0)
    near = X[rng.permutation(ROWS)[:40]]
    paths = sets_of(folder, a=directions(9, DIM, 2), q=near, r=near[:25])
    return retrieve(
        {"name": "q", "path": paths["q"], "hits": 2, "per_cluster": 7, "most": 20},
        {"name": "a", "path": paths["a"], "nearest": 3},
        {"name": "r", "path": paths["r"], "per_cluster": 5, "most": 30},
        clusters={"k": 8, "iterations": 6},
        **more,
    )


def test_neither_order_nor_parts_change_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = both(tmp_path, on_missing="drop")
    columns = {"v": vectors(X, null=[5, 77])}
    whole = answers(pool_of(columns), chosen)
    assert {f[2] for f in whole} == {"q", "a", "r", None}
    assert {f[1] for f in whole} == {None, "missing", "not_retrieved"}
    for rows, block in ((1 << 21, 1 << 16), (90, 4), (24, 3)):
        monkeypatch.setattr(shuffle, "ROWS", rows)
        monkeypatch.setattr(cut, "BLOCK", block)
        for shards, seed in CUTS:
            assert answers(pool_of(columns, shards, seed), chosen, seed) == whole


def test_parts_are_many_where_the_pool_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "ROWS", 60)
    monkeypatch.setattr(cut, "BLOCK", 4)
    chosen = both(tmp_path)
    runner = PhaseRunner(pool_of({"v": vectors(X)}, 7, 2))
    runner.run(chosen)
    files = runner.files[chosen]
    assert len(files["best"]) == 3  # nine queries, four at a time
    assert len(files["drawn"]) > 2
    assert len(files["nearest"]) == len(files["drawn"]) * len(files["best"])
    assert len(files["picked"]) == 4
    assert len(files["limit"]) == 2


def test_un_normalised_vectors_give_the_same(tmp_path: Path) -> None:
    chosen, scale = both(tmp_path), 2.0 ** (np.arange(ROWS)[:, None] % 7 - 3)
    assert answers(pool_of({"v": vectors(X, np.float32)}), chosen) == answers(
        pool_of({"v": vectors(X * scale, np.float32)}), chosen
    )


def test_queries_in_parquet_are_the_same_queries(tmp_path: Path) -> None:
    queries = directions(9, DIM, 2)
    pq.write_table(pa.table({"uid": ["u"] * 9, "dino_image": vectors(queries, np.float64)}), tmp_path / "q.parquet")
    paths = sets_of(tmp_path, a=queries)
    pool = pool_of({"v": vectors(X)})
    wanted = answers(pool, retrieve({"name": "a", "path": paths["a"], "nearest": 3}))
    of_parquet = {"name": "a", "path": str(tmp_path / "q.parquet"), "column": "dino_image", "nearest": 3}
    assert answers(pool, retrieve(of_parquet)) == wanted


def test_no_sample_at_all(tmp_path: Path) -> None:
    pool = pool_of({"v": vectors(X), "asked": pa.array([False] * ROWS)}, 3)
    assert {f[:2] for f in answers(pool, both(tmp_path, over="survivors"))} == {(None, None)}


# ---------------------------------------------------------------- what is missing, and what does not fit


@pytest.mark.parametrize(("policy", "keep"), [("drop", False), ("keep", True)])
def test_rows_without_a_vector(tmp_path: Path, policy: str, keep: bool) -> None:
    pool = pool_of({"v": vectors(X, null=[5, 77])}, 3)
    found = answers(pool, both(tmp_path, on_missing=policy))
    assert {(f[0], f[1]) for r, f in enumerate(found) if r in (5, 77)} == {(keep, None if keep else "missing")}
    with pytest.raises(ValueError, match="retrieve"):
        PhaseRunner(pool).run(both(tmp_path))


@pytest.mark.parametrize("block", [1, 2, 100])
def test_queries_without_a_vector_ask_for_nothing_and_are_counted(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers in verdicts are those of the file, however its rows are cut."""
    monkeypatch.setattr(cut, "BLOCK", block)
    queries = directions(6, DIM, 2)
    gone = [0, 3]
    pq.write_table(pa.table({"v": vectors(queries, null=gone)}), tmp_path / "q.parquet")
    near, of_clusters = (
        {"name": name, "path": str(tmp_path / "q.parquet"), "column": "v", **more}
        for name, more in (("near", {"nearest": 4}), ("groups", {"hits": 0}))
    )
    chosen = retrieve(near, of_clusters, clusters={"k": 5})
    runner = PhaseRunner(pool_of({"v": vectors(X)}))
    runner.run(chosen)
    found = answers(pool_of({"v": vectors(X)}), retrieve(near))
    there = [i for i in range(6) if i not in gone]
    lines = dict(zip(there, nearest(as_stored(queries[there]), X, 4), strict=True))
    assert kept(found) == sorted({row for line in lines.values() for row in line})
    for row in kept(found):
        assert found[row][3:5] == min((line.index(row) + 1, q) for q, line in lines.items() if row in line)
    counted = [s["without_vector"] for s in runner.stats(chosen, "nearest").values()]
    assert (sum(counted), len(counted)) == (2, -(-6 // min(block, 6)))
    assert [s["without_vector"] for s in runner.stats(chosen, "hits").values()] == [2]


@pytest.mark.parametrize(
    ("queries", "more", "said"),
    [
        ([], {}, "at least 1 item"),
        ([{"nearest": 1}, {"nearest": 2}], {}, "two sets are named 'a'"),
        ([{}], {}, "say `nearest:`, or give `clusters:`"),
        ([{"nearest": 1}], {"clusters": {"k": 2}}, "no set asks for them"),
        ([{"nearest": 3, "most": 5}], {}, "nearest, or most, which is of clusters; not both"),
        ([{"nearest": 0}], {}, "greater than or equal to 1"),
    ],
)
def test_parameters_that_do_not_go_together(queries: list[dict[str, Any]], more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as e:
        retrieve(*({"name": "a", "path": "q.npy", **q} for q in queries), **more)
    assert said in str(e.value)


def test_files_are_asked_for_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"away.npy"):
        retrieve({"name": "a", "path": str(tmp_path / "away.npy"), "nearest": 1}).files()
    paths = sets_of(tmp_path, a=X)
    assert retrieve({"name": "a", "path": paths["a"], "nearest": 1}).files() == (paths["a"],)


@pytest.mark.parametrize("nearest", [1, None])
def test_vectors_of_another_model_are_refused(tmp_path: Path, nearest: int | None) -> None:
    paths = sets_of(tmp_path, a=directions(6, DIM + 1))
    more = {} if nearest else {"clusters": {"k": 3}}
    chosen = retrieve({"name": "a", "path": paths["a"], "nearest": nearest}, **more)
    with pytest.raises(ValueError, match="the vectors of a have 7 dimensions and the pool's 6"):
        PhaseRunner(pool_of({"v": vectors(X)})).run(chosen)


def test_a_gpu_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind_torch(monkeypatch)
    paths = sets_of(tmp_path, a=X)
    chosen = retrieve({"name": "a", "path": paths["a"], "nearest": 1}, device="cuda")
    with pytest.raises(ValueError, match="no GPU here"):
        PhaseRunner(pool_of({"v": vectors(X)})).run(chosen)
    assert chosen.identity() == retrieve({"name": "a", "path": paths["a"], "nearest": 1}).identity()
