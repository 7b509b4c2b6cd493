"""Pairs by products of float32 and exact decisions, against plain float64 over all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.near_vector_tiles as module
from stages.near_vector_tiles import UNIT, Pairs, Products, as_units, bound_units, lengths_of, margin
from stages.vectors import dots, unit
from tests.stages.vector_parts import blind_torch, clumps, directions, vectors

EPSILONS = (0, 1e-6, 0.001, 0.05, 0.3, 1, 2)


def on_grid(x: np.ndarray) -> np.ndarray:
    return unit(vectors(x), "test")[0]


def plainly(x: np.ndarray, y: np.ndarray, bound: int) -> dict[tuple[int, int], int]:
    long = lengths_of(x)[:, None] * lengths_of(y)[None]
    distance = UNIT - as_units(dots(x, y), long)
    return {(int(i), int(j)): int(distance[i, j]) for i, j in zip(*np.nonzero(distance <= bound), strict=True)}


def told(pairs: Pairs) -> dict[tuple[int, int], int]:
    i, j, distance = (a.tolist() for a in pairs)
    found = dict(zip(zip(i, j, strict=True), distance, strict=True))
    assert len(found) == len(i), "a pair is told twice"
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    n=st.integers(0, 40),
    m=st.integers(0, 40),
    epsilon=st.sampled_from(EPSILONS),
    tile=st.sampled_from([1, 7, 16, 64]),
    dense=st.sampled_from([0, 1, 32, 10**9]),
)
def test_all_pairs_and_no_others(seed: int, n: int, m: int, epsilon: float, tile: int, dense: int) -> None:
    x = on_grid(clumps(8, 10, 6, 0.5, seed)[np.random.default_rng(seed).permutation(80)])
    bound = bound_units(epsilon)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TILE", tile)
        patch.setattr(module, "DENSE", dense)
        search = Products(bound, 6)
        assert told(search.between(x[:n], x[40 : 40 + m])) == plainly(x[:n], x[40 : 40 + m], bound)
        everything = plainly(x[:n], x[:n], bound)
        assert told(search.among(x[:n])) == {p: d for p, d in everything.items() if p[0] < p[1]}


@pytest.mark.parametrize("dim", [2, 64, 512])
def test_pairs_at_the_bound_are_decided_equally_for_any_tile(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs whose distance is within 2e-6 of the epsilon, as many on either side, in tiles of all sizes of the spec."""
    x = directions(150, dim, seed=dim)
    away = directions(150, dim, seed=dim + 1)
    away -= (away * x).sum(axis=1, keepdims=True) * x
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    cosine = 0.95 + np.linspace(-2e-6, 2e-6, 150)[:, None]
    both = unit(vectors(np.concatenate([x, cosine * x + np.sqrt(1 - cosine**2) * away]), np.float32), "test")[0]
    answers = []
    for tile in (64, 1024, 4096):
        monkeypatch.setattr(module, "TILE", tile)
        answers.append(told(Products(bound_units(0.05), dim).among(both)))
    assert answers[0] == answers[1] == answers[2] == plainly_above(both, 50_000)
    near = sum((i, i + 150) in answers[0] for i in range(150))
    assert 60 <= near <= 100


def plainly_above(x: np.ndarray, bound: int) -> dict[tuple[int, int], int]:
    return {p: d for p, d in plainly(x, x, bound).items() if p[0] < p[1]}


@pytest.mark.parametrize("dim", [3, 64, 512, 2048])
def test_the_margin_is_larger_than_any_error(dim: int) -> None:
    """Of float32 products summed in three orders, one after another being the worst, against exact ones."""
    x, y = on_grid(directions(200, dim, 1)), on_grid(0.9 * directions(200, dim, 1) + 0.1 * directions(200, dim, 2))
    exact = (x.astype(np.float64) * y.astype(np.float64)).sum(axis=1) / (lengths_of(x) * lengths_of(y))
    one_by_one = np.zeros(200, np.float32)
    for a, b in zip(x.T, y.T, strict=True):
        one_by_one += a * b
    for found in (one_by_one, np.diag(x @ y.T), (x * y)[:, ::-1].sum(axis=1)):
        assert np.abs(found - exact).max() < margin(dim)
    assert margin(dim) < 4e-4, "or the filter lets too much through"


def test_copies_are_at_distance_zero_and_opposites_at_two() -> None:
    x = on_grid(np.array([[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0]]))
    assert told(Products(bound_units(0), 2).among(x)) == {(0, 1): 0}
    assert told(Products(bound_units(2), 2).among(x)) == {(0, 1): 0, (0, 2): 2 * UNIT, (1, 2): 2 * UNIT}


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    blind_torch(monkeypatch)
    with pytest.raises(ValueError, match="near vectors: device: cuda, but torch finds no GPU here"):
        Products(1, 2, "cuda")


def torch_without_gpu(monkeypatch: pytest.MonkeyPatch, *modules: Any) -> None:
    """The way of a GPU, walked on the CPU by torch."""
    torch = pytest.importorskip("torch")
    for found in modules:
        monkeypatch.setattr(found, "gpu_torch", lambda _: torch)
        monkeypatch.setattr(found, "GPU", "cpu")


def test_the_way_of_a_gpu_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_without_gpu(monkeypatch, module)
    monkeypatch.setattr(module, "GPU_TILE", 32)
    x = on_grid(clumps(8, 12, 16, 0.4))
    for bound in (bound_units(0.05), bound_units(0.5)):
        assert told(Products(bound, 16, "cuda").among(x)) == told(Products(bound, 16).among(x)) != {}
        assert told(Products(bound, 16, "cuda").between(x[:50], x[50:])) == told(
            Products(bound, 16).between(x[:50], x[50:])
        )


def test_in_a_crowd_a_gpu_gives_no_more_at_once_than_a_tile_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_without_gpu(monkeypatch, module)
    monkeypatch.setattr(module, "GPU_TILE", 64)
    x = on_grid(clumps(1, 90, 16, 0.1))
    expected = told(Products(bound_units(0.05), 16).among(x))
    monkeypatch.setattr(module, "TILE", 20)
    found = list(Products(bound_units(0.05), 16, "cuda").by_tile(x))
    assert max(len(i) for i, _, _ in found) <= 20 * 20
    together = tuple(np.concatenate([f[n] for f in found]) for n in range(3))
    assert told(together) == expected  # type: ignore[arg-type]
    assert len(expected) == 90 * 89 / 2
