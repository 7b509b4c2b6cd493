"""Vectors on a grid: exact products whatever the order, and the nearest by every way of searching."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.vectors as module
from stages.moments import Moments, quadratic
from stages.vectors import GRID, Nearest, as_column, dots, joined, on_grid, unit
from tests.stages.vector_parts import blind_torch, clumps, directions, vectors


def test_rows_have_length_one_and_lie_on_the_grid() -> None:
    raw = 3 * directions(50, 33)
    x, there = unit(vectors(raw, np.float32, null=[4]), "test")
    assert x.dtype == np.float32
    assert there.tolist() == [i != 4 for i in range(50)]
    assert not x[4].any()
    assert np.array_equal(x * GRID, np.rint(x.astype(np.float64) * GRID))
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.abs(x[there] - expected[there]).max() < 1e-7


@pytest.mark.parametrize("bad", [0.0, np.inf, np.nan])
def test_rows_without_direction_are_missing(bad: float) -> None:
    raw = directions(3, 5)
    raw[1] = bad
    _, there = unit(vectors(raw), "test")
    assert there.tolist() == [True, False, True]


def test_slices_chunks_and_lists_are_read_alike() -> None:
    raw = directions(9, 4)
    column = vectors(raw, null=[2])
    whole, there = unit(column, "test")
    part, _ = unit(column.slice(1, 6), "test")
    assert np.array_equal(part, whole[1:7])
    assert np.array_equal(unit(pa.chunked_array([column[:3], column[3:]]), "test")[0], whole)
    lists = pa.array([None if i == 2 else raw[i].astype(np.float16) for i in range(9)], pa.list_(pa.float16()))
    again, same = unit(lists, "test")
    assert np.array_equal(again, whole)
    assert np.array_equal(same, there)
    assert unit(column[:0], "test")[0].shape == (0, 4)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float16())])
def test_plain_lists_without_a_vector_have_no_length(kind: pa.DataType) -> None:
    for rows in (0, 3):
        x, there = unit(pa.array([None] * rows, kind), "test")
        assert x.shape == (rows, 0)
        assert there.tolist() == [False] * rows
    empty = pa.table({"v": as_column(np.zeros((0, 0), np.float16))})
    some = pa.table({"v": as_column(np.ones((2, 5), np.float16))})
    assert joined([empty, some, empty]).equals(some)
    assert joined([empty, empty]).num_rows == 0


def test_what_is_no_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="norm_sim: expected a column of vectors"):
        unit(pa.array([1.0, 2.0]), "norm_sim")
    with pytest.raises(ValueError, match="several lengths"):
        unit(pa.array([[1.0], [1.0, 2.0]]), "test")


def test_products_are_exact() -> None:
    x, y = (on_grid(directions(6, 64, seed)) for seed in (1, 2))
    found = dots(x, y)
    for i, j in np.ndindex(6, 6):
        assert found[i, j] == sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x[i], y[j], strict=True))
    shuffled = np.random.default_rng(0).permutation(64)
    assert np.array_equal(dots(x[:, shuffled], y[:, shuffled]), dots(x, y))


def plainly(x: np.ndarray, rows: np.ndarray, by: str) -> tuple[list[int], list[int]]:
    """The nearest two by full sorting of exact numbers."""
    score = dots(x, rows)
    if by == "l2":
        score = score - (rows.astype(np.float64) ** 2).sum(axis=1) / 2
    order = np.argsort(-score, axis=1, kind="stable")
    return order[:, 0].tolist(), order[:, 1].tolist() if len(rows) > 1 else [-1] * len(x)


@pytest.mark.parametrize("faiss", [True, False])
@pytest.mark.parametrize("by", ["l2", "dot"])
@pytest.mark.parametrize("many", [1, 2, 4, 5, 40])
def test_the_nearest_two_are_found(by: Any, many: int, faiss: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if faiss:
        pytest.importorskip("faiss", reason="faiss is not installed: the search by FAISS is not tested")
    else:
        monkeypatch.setattr(module, "faiss_module", lambda: None)
    x = on_grid(directions(300, 8))
    rows = on_grid(0.7 * directions(many, 8, 5))
    first, second, score = Nearest(rows, by).of(x)
    assert (first.tolist(), second.tolist()) == plainly(x, rows, by)
    if by == "l2":
        apart = ((x.astype(np.float64) - rows[first]) ** 2).sum(axis=1)
        assert np.allclose((x.astype(np.float64) ** 2).sum(axis=1) - 2 * score, apart, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), copies=st.integers(1, 9), scale=st.sampled_from([0.0, 1e-7, 1e-5]))
def test_near_ties_are_decided_in_exact_numbers(seed: int, copies: int, scale: float) -> None:
    """Rows that float32 cannot tell apart; equal ones go to the smaller number, however many there are."""
    rng = np.random.default_rng(seed)
    near = scale * rng.standard_normal((5 * copies, 12))
    rows = on_grid(0.9 * directions(5, 12, seed).repeat(copies, axis=0) + near)
    x = on_grid(directions(20, 12, seed + 1))
    first, second, _ = Nearest(rows).of(x)
    assert (first.tolist(), second.tolist()) == plainly(x, rows, "l2")


@pytest.mark.parametrize("faiss", [True, False])
def test_the_search_goes_on_beyond_a_block(faiss: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not faiss:
        monkeypatch.setattr(module, "faiss_module", lambda: None)
    monkeypatch.setattr(module, "MANY", 7)
    monkeypatch.setattr(module, "BLOCK", 11)
    rows = on_grid(directions(30, 6, 5).repeat(2, axis=0) * 0.5)  # other than those of the clumps
    x = on_grid(clumps(3, 20, 6))
    first, second, _ = Nearest(rows).of(x)
    assert (first.tolist(), second.tolist()) == plainly(x, rows, "l2")


def test_the_search_by_numpy_holds_a_block_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "faiss_module", lambda: None)
    monkeypatch.setattr(module, "MANY", 128)
    x, nearest = on_grid(directions(200, 8)), Nearest(on_grid(directions(20_000, 8, 1)))
    tracemalloc.start()
    nearest._candidates(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 20_000  # a byte a product; all of them at once take twelve


def test_no_vectors_are_found_nothing() -> None:
    first, second, score = Nearest(on_grid(directions(9, 4))).of(np.zeros((0, 4), np.float32))
    assert len(first) == len(second) == len(score) == 0


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    blind_torch(monkeypatch)
    x = on_grid(directions(9, 4))
    with pytest.raises(ValueError, match="device: cuda, but torch finds no GPU here; write device: cpu"):
        Nearest(x, device="cuda").of(x)


@pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="no GPU here: the search on a GPU is not tested")
@pytest.mark.parametrize("by", ["l2", "dot"])
def test_a_gpu_finds_the_same(by: Any) -> None:
    pytest.importorskip("torch", reason="torch is not installed: the search on a GPU is not tested")
    x, rows = on_grid(directions(3000, 64)), on_grid(0.8 * directions(500, 64, 1).repeat(3, axis=0))
    here, there = Nearest(rows, by), Nearest(rows, by, "cuda")
    assert all(np.array_equal(a, b) for a, b in zip(here.of(x), there.of(x), strict=True))


# ---------------------------------------------------------------- second moments


def test_moments_are_the_same_in_any_order_and_cut() -> None:
    x = on_grid(directions(500, 16))
    whole = Moments.none(16)
    whole.add(x)
    rng = np.random.default_rng(1)
    parts = Moments.none(16)
    for some in np.array_split(rng.permutation(500), 7):
        one = Moments.none(16)
        one.add(x[some])
        parts.merge(Moments.of(one.table()))
    assert parts.count == 500
    assert np.array_equal(parts.matrix(500), whole.matrix(500))
    assert np.abs(whole.matrix(500) - x.T.astype(np.float64) @ x / 500).max() < 1e-7
    assert not Moments.none(3).matrix(0).any()


def test_quadratic_forms() -> None:
    x = on_grid(directions(40, 8))
    moments = Moments.none(8)
    moments.add(x)
    sigma = moments.matrix(40)
    expected = np.einsum("nd,de,ne->n", x.astype(np.float64), sigma, x.astype(np.float64))
    assert np.abs(quadratic(x, sigma) - expected).max() < 1e-6
    order = np.random.default_rng(0).permutation(40)
    assert np.array_equal(quadratic(x[order], sigma), quadratic(x, sigma)[order])
