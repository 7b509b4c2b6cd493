"""The k nearest rows of each query, against a plain sort, however the rows come."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.best_rows as best_rows
import stages.nearest_rows as module
from stages.best_rows import first_of, folded, ranks
from stages.nearest_rows import UNIT, NearestRows
from stages.shuffle import Arrays, joined
from stages.vectors import on_grid
from tests.stages.vector_parts import blind_torch, clumps, directions, keys


def plainly(queries: np.ndarray, x: np.ndarray, low: np.ndarray, k: int) -> dict[int, list[tuple[int, int]]]:
    """query -> [(level, low half of the uid), ...], by sorting all."""
    a, b = queries.astype(np.float64), x.astype(np.float64)
    cosines = a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    levels = np.minimum(np.rint(cosines * UNIT), UNIT).astype(int)
    return {
        q: sorted(zip(levels[q].tolist(), low.tolist(), strict=True), key=lambda r: (-r[0], r[1]))[:k]
        for q in range(len(queries))
    }


def found_of(table: pa.Table) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for row in table.to_pylist():
        found.setdefault(row["query"], []).append((row["level"], row["low"]))
        assert row["rank"] == len(found[row["query"]])
        assert row["place"] == row["low"] + 100
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 60),
    k=st.integers(1, 9),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    tile=st.integers(1, 7),
    equal=st.integers(0, 12),
)
def test_they_are_those_of_a_plain_sort(seed: int, n: int, k: int, cuts: list[int], tile: int, equal: int) -> None:
    draw = np.random.default_rng(seed)
    x = on_grid(clumps(6, 10, 5, 0.3, seed)[draw.permutation(60)[:n]])
    x[: min(equal, n)] = x[0]  # equal ones go by uid
    queries = on_grid(np.concatenate([x[:2], directions(5, 5, seed + 1)]))
    low = draw.permutation(n).astype(np.uint64)
    edges = [0, *sorted(min(c, n) for c in cuts), n]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "QUERIES", tile)
        patch.setattr(module, "ROWS", 2 * tile + 1)
        patch.setattr(module, "CLOSER", 5)
        halves = [NearestRows(queries, k), NearestRows(queries, k)]
        for part, (a, b) in enumerate(pairwise(edges)):
            high = np.zeros(b - a, np.uint64)
            halves[part % 2].among(x[a:b], high, low[a:b], low[a:b] + np.uint64(100))
        halves[0].merge(halves[1].table())
    assert found_of(halves[0].table()) == plainly(queries, x, low, k)


def test_memory_is_some_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows: all products would be 6 MB, in float64 twice that."""
    monkeypatch.setattr(module, "QUERIES", 64)
    monkeypatch.setattr(module, "ROWS", 512)
    queries, x = on_grid(directions(200, 8)), on_grid(directions(8000, 8, 1))
    high, low = keys(8000)
    search = NearestRows(queries, 3)
    tracemalloc.start()
    search.among(x, high, low, low + np.uint64(100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6
    assert found_of(search.table()) == plainly(queries, x, low, 3)


def test_the_way_over_a_gpu_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps, made by torch where it runs; tensors stay on the CPU where there is no GPU."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
        monkeypatch.setattr(module, "gpu_torch", lambda _: torch)
    monkeypatch.setattr(module, "QUERIES", 7)
    monkeypatch.setattr(module, "ROWS", 30)
    x, queries = on_grid(clumps(6, 15, 8, 0.3)), on_grid(directions(20, 8, 3))
    x[40:55] = x[40]
    _, low = keys(90)
    search = NearestRows(queries, 4, "cuda")
    search.among(x, np.zeros(90, np.uint64), low, low + np.uint64(100))
    assert found_of(search.table()) == plainly(queries, x, low, 4)


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    blind_torch(monkeypatch)
    with pytest.raises(ValueError, match="nearest rows: device: cuda, but torch finds no GPU here"):
        NearestRows(on_grid(directions(2, 4)), 1, "cuda")


# ---------------------------------------------------------------- rows of groups


def test_ranks_count_within_a_group() -> None:
    assert ranks(np.array([3, 3, 3, 5, 8, 8])).tolist() == [0, 1, 2, 0, 0, 1]
    assert ranks(np.array([1, 1, 1]), np.array([0, 0, 2])).tolist() == [0, 1, 0]
    assert ranks(np.empty(0)).tolist() == []


def test_the_first_of_each() -> None:
    rows = {"place": np.array([7, 3, 7, 3]), "set": np.array([1, 0, 0, 0]), "rank": np.array([1, 2, 5, 1])}
    found = first_of(rows, "place", ("set", "rank"))
    assert {n: v.tolist() for n, v in found.items()} == {"place": [3, 7], "set": [0, 0], "rank": [1, 5]}


@given(st.lists(st.lists(st.integers(0, 99), max_size=20), min_size=1, max_size=9), st.integers(0, 9))
def test_folding_is_reducing_all(tables: list[list[int]], waiting: int) -> None:
    seen = []

    def reduce(rows: Arrays) -> Arrays:
        seen.append(len(rows["n"]))
        return {"n": np.sort(rows["n"])[:5]}

    rows = [{"n": np.array(t, np.int64)} for t in tables]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best_rows, "WAITING", waiting)
        found = folded(iter(rows), reduce)
    assert found["n"].tolist() == sorted(n for t in tables for n in t)[:5]
    assert max(seen) <= max(waiting, 5) + 20 + 5
    assert joined(rows)["n"].size == sum(map(len, tables))


def test_nothing_cannot_be_folded() -> None:
    with pytest.raises(ValueError, match="nothing to reduce"):
        folded([], lambda rows: rows)
