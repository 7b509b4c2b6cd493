"""Geometry: values of the specification, the published formulas letter by letter, and what no number may do."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training_smoke import hyperbolic
from training_smoke.hyperbolic import (
    aperture,
    beyond_cone,
    beyond_cones,
    distance,
    distances,
    expm0,
    exterior_angle,
    exterior_angles,
    inner,
    inners,
    logm0,
)

Vector = tuple[float, float]
SEEDS = st.integers(0, 2**32 - 1)
CURVATURES = st.sampled_from([0.1, 0.7, 1.0, 3.0, 10.0])


def at(*vectors: tuple[float, float], curvature: float = 1.0) -> Tensor:
    return expm0(torch.tensor(vectors, dtype=torch.float64), curvature)


def drawn(rows: int, dim: int, seed: int, length: float = 1.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, dim)) * length / math.sqrt(dim))


class Reference:
    """The formulas as they are published, one pair of numpy vectors at a time."""

    def __init__(self, x: np.ndarray, y: np.ndarray, c: float) -> None:
        self.x, self.y, self.c = x, y, c
        self.x_t, self.y_t = (math.sqrt(1 / c + (p**2).sum()) for p in (x, y))
        self.inner = float(x @ y) - self.x_t * self.y_t

    def distance(self) -> float:
        return math.acosh(max(-self.c * self.inner, 1.0)) / math.sqrt(self.c)

    def aperture(self) -> float:
        return math.asin(min(0.2 / (math.sqrt(self.c) * float(np.linalg.norm(self.x))), 1.0))

    def exterior(self) -> float:
        steep = math.sqrt(max((self.c * self.inner) ** 2 - 1, 1e-30))
        cosine = (self.y_t + self.x_t * self.c * self.inner) / (float(np.linalg.norm(self.x)) * steep)
        return math.acos(min(max(cosine, -1.0), 1.0))

    @classmethod
    def lifted(cls, v: Vector, w: Vector) -> Reference:
        """Of tangent vectors, at a curvature of 1."""
        return cls(*(np.array(u) * math.sinh(math.hypot(*u)) / math.hypot(*u) for u in (v, w)), 1.0)


# ---------------------------------------------------------------- values of the specification, 10.10


@pytest.mark.parametrize(("v", "w", "expected"), [((1, 0), (2, 0), 1.0), ((1, 0), (0, 2), 2.44443)])
def test_distances_of_the_specification(v: Vector, w: Vector, expected: float) -> None:
    """Ours, and the published formula."""
    a, b = at(v, w)
    assert distance(a, b, 1.0).item() == pytest.approx(expected, abs=1e-12 if expected == 1 else 5e-6)
    assert Reference.lifted(v, w).distance() == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize(
    ("v", "w", "expected"), [((1, 0), (2, 0), -0.17102), ((2, 0), (1, 0), 3.08642), ((1, 0), (0, 2), 2.2836)]
)
def test_cones_of_the_specification(v: Vector, w: Vector, expected: float) -> None:
    """Likewise."""
    (a, b), said = at(v, w), Reference.lifted(v, w)
    decimals = 5e-6 if expected != 2.2836 else 5e-5
    assert beyond_cone(a, b, 1.0).item() == pytest.approx(expected, abs=decimals)
    assert said.exterior() - said.aperture() == pytest.approx(expected, abs=decimals)


def test_a_point_straight_behind_another_is_seen_at_no_angle() -> None:
    """The reference's clamp makes 1.4e-4 of it."""
    near, far = at((1, 0), (2, 0))
    assert exterior_angle(near, far, 1.0).item() == 0
    assert exterior_angle(far, near, 1.0).item() == pytest.approx(math.pi, abs=1e-12)
    assert exterior_angles(near[None], far[None], 1.0).item() == pytest.approx(0, abs=1e-7)


# ---------------------------------------------------------------- against the published formulas


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, c=CURVATURES, length=st.sampled_from([0.05, 0.5, 2.0, 5.0]))
def test_is_the_published_formulas(seed: int, c: float, length: float) -> None:
    x, y = expm0(drawn(4, 3, seed, length), c), expm0(drawn(4, 3, seed + 1, length), c)
    for i in range(4):
        for j in range(4):
            said = Reference(x[i].numpy(), y[j].numpy(), c)
            assert inners(x, y, c)[i, j].item() == pytest.approx(said.inner, rel=1e-9)
            assert distances(x, y, c)[i, j].item() == pytest.approx(said.distance(), rel=1e-6, abs=1e-6)
            assert aperture(x, c)[i].item() == pytest.approx(said.aperture(), rel=1e-9)
            assert exterior_angles(x, y, c)[i, j].item() == pytest.approx(said.exterior(), rel=1e-6, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, c=CURVATURES)
def test_row_by_row_is_the_diagonal_of_all_pairs(seed: int, c: float) -> None:
    x, y = expm0(drawn(5, 4, seed), c), expm0(drawn(5, 4, seed + 1), c)
    for one, all_pairs in ((inner, inners), (distance, distances), (beyond_cone, beyond_cones)):
        torch.testing.assert_close(one(x, y, c), all_pairs(x, y, c).diagonal(), rtol=1e-9, atol=1e-7)


# ---------------------------------------------------------------- what a metric, and a map, has to do


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, c=CURVATURES)
def test_distance_is_a_metric(seed: int, c: float) -> None:
    x = expm0(drawn(9, 3, seed), c)
    d = distances(x, x, c)
    assert (distance(x, x, c) == 0).all()
    assert d.diagonal().max() < 1e-6
    torch.testing.assert_close(d, d.T, rtol=1e-9, atol=1e-9)
    assert (d[:, :, None] <= d[:, None, :] + d.T[None, :, :] + 1e-7).all()
    assert (d[~torch.eye(9, dtype=torch.bool)] > 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, c=CURVATURES, length=st.sampled_from([1e-6, 0.3, 5.0]))
def test_from_the_origin_it_is_as_far_as_the_tangent_vector_is_long(seed: int, c: float, length: float) -> None:
    tangent = drawn(6, 4, seed, length)
    if tangent.norm(dim=1).max() * math.sqrt(c) > hyperbolic.FARTHEST:
        return
    points = expm0(tangent, c)
    torch.testing.assert_close(distance(points, torch.zeros_like(points), c), tangent.norm(dim=1), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(logm0(points, c), tangent, rtol=1e-9, atol=1e-12)


def test_near_the_origin_it_is_flat() -> None:
    x, y = drawn(5, 4, 0, 1e-3), drawn(5, 4, 1, 1e-3)
    torch.testing.assert_close(distances(expm0(x, 2.0), expm0(y, 2.0), 2.0), torch.cdist(x, y), rtol=1e-5, atol=0)


def test_points_have_the_length_that_the_map_says_and_no_more() -> None:
    lengths = expm0(torch.tensor([[1e-9], [2.0], [1e4]], dtype=torch.float64), 4.0).squeeze()
    assert lengths.tolist() == pytest.approx([1e-9, math.sinh(4) / 2, 2.0**15 / 2])


def test_the_rank_by_inner_product_is_that_by_nearness() -> None:
    x, y = expm0(drawn(6, 4, 0), 1.5), expm0(drawn(20, 4, 1), 1.5)
    assert torch.equal(inners(x, y, 1.5).argsort(dim=1, descending=True), distances(x, y, 1.5).argsort(dim=1))


# ---------------------------------------------------------------- nothing is NaN


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [0, 1e-12, 1e-4, 1, 30, 1e4])
def test_no_length_makes_a_nan(dtype: torch.dtype, length: float) -> None:
    """Of values nor of gradients; among the pairs are equal points and opposite ones."""
    v = (torch.nn.functional.normalize(drawn(4, 7, 0)) * length).to(dtype).requires_grad_()
    w = torch.cat([v[:1], -v[1:2], drawn(2, 7, 1).to(dtype) * length]).detach().requires_grad_()
    c = torch.tensor(1.3, dtype=dtype, requires_grad=True)
    x, y = expm0(v, c), expm0(w, c)
    for of in (inner, distance, beyond_cone, inners, distances, beyond_cones):
        value = of(x, y, c)
        found = torch.autograd.grad(value.sum(), (v, w, c), retain_graph=True)
        assert all(f.isfinite().all() for f in (value, *found)), of.__name__


def test_gradients_agree_with_finite_differences() -> None:
    def whole(v: Tensor, w: Tensor, log_c: Tensor) -> Tensor:
        c = log_c.exp()
        x, y = expm0(v, c), expm0(w, c)
        return torch.cat([distances(x, y, c).flatten(), beyond_cone(x, y, c), inner(x, y, c), logm0(x, c).flatten()])

    leaves = [drawn(3, 4, 0), drawn(3, 4, 1), torch.tensor(0.2, dtype=torch.float64)]
    assert torch.autograd.gradcheck(whole, [leaf.requires_grad_() for leaf in leaves])


def test_examples_in_the_docstrings() -> None:
    found = doctest.testmod(hyperbolic)
    assert found.failed == 0
    assert found.attempted > 8


def test_distances_of_near_points_hold_far_from_the_origin() -> None:
    """They are the positive pairs of a trained model: in float32 the matrix of them was noise from radius 3 on."""
    away = torch.tensor([[3.0, 0.0, 4.0]]).repeat(3, 1)
    away[1] *= 1 + 0.001  # 0.005 farther out
    away[2, 1] += 1e-4
    points = expm0(away, 1.0)
    exact = distances(expm0(away.double(), 1.0), expm0(away.double(), 1.0), 1.0)
    found = distances(points, points, 1.0)
    assert found.dtype == torch.float32
    assert torch.equal(found.diagonal(), torch.zeros(3))
    torch.testing.assert_close(found.double(), exact, rtol=2e-2, atol=1e-5)
    torch.testing.assert_close(distance(points[:1], points[1:2], 1.0).double(), exact[0, 1:2], rtol=2e-2, atol=1e-5)
