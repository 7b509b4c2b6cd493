"""MERU: values, its definition by hyperbolic trigonometry, its bounds, and texts that come to lie inside pictures."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_parts import IMAGES, TEXTS, Lorentz, double, meru_by_loops, unit_rows
from torch import Tensor, nn

import training_smoke.objectives.meru as meru
from training_smoke.hyperbolic import beyond_cone, expm0, logm0
from training_smoke.objectives import MERU, meru_loss

SEEDS = st.integers(0, 2**32 - 1)


def loss(images: Tensor, texts: Tensor, at: Lorentz, groups: Tensor | None = None, weight: float = 0.2) -> float:
    scalars = (double(value).log() for value in at)
    return meru_loss(images, texts, *scalars, entailment=weight, groups=groups).item()


@pytest.mark.parametrize(
    ("at", "expected", "contrastive"),
    [
        (Lorentz(), 2.159057, 1.821582),
        (Lorentz(scale=1), 1.319291, 0.981816),
        (Lorentz(10, curvature=2, image=0.5, text=1.5), 1.437822, 0.867652),
    ],
)
def test_value(at: Lorentz, expected: float, contrastive: float) -> None:
    """Of the specification's features; two implementations, tensors here and trigonometry there, give these."""
    alone = torch.arange(3)  # groups of one sample each
    for weight, value in ((0.2, expected), (0.0, contrastive)):
        assert loss(IMAGES, TEXTS, at, weight=weight) == pytest.approx(value, abs=1e-6)
        assert meru_by_loops(IMAGES, TEXTS, alone, at, weight) == pytest.approx(value, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    batch=st.integers(1, 6),
    kinds=st.integers(1, 6),
    seed=SEEDS,
    at=st.builds(Lorentz, *[st.floats(0.3, 3)] * 4),
    long=st.sampled_from([0.3, 1.0, 4.0]),
)
def test_is_its_definition_pair_by_pair(batch: int, kinds: int, seed: int, at: Lorentz, long: float) -> None:
    images, texts = long * unit_rows(batch, 3, seed), unit_rows(batch, 3, seed + 1)
    groups = torch.randint(kinds, (batch,), generator=torch.Generator().manual_seed(seed))
    assert loss(images, texts, at, groups) == pytest.approx(meru_by_loops(images, texts, groups, at), rel=1e-6)


def test_equal_features_cost_the_log_of_the_batch() -> None:
    same = torch.ones(4, 2, dtype=torch.float64)
    assert loss(same, same, Lorentz(), weight=0) == pytest.approx(math.log(4), abs=1e-12)


def test_images_and_texts_may_not_change_places() -> None:
    """A text may say less than its picture, and not the other way round."""
    general, specific = unit_rows(5, 4, 0), 3 * unit_rows(5, 4, 0)
    assert loss(specific, general, Lorentz(), weight=1) - loss(specific, general, Lorentz(), weight=0) == 0
    assert loss(general, specific, Lorentz(), weight=1) - loss(general, specific, Lorentz(), weight=0) > 1


def test_module_starts_where_the_paper_does_and_is_the_function() -> None:
    objective = MERU().double()
    learned = {"logit_scale", "log_curvature", "image_scale", "text_scale"}
    assert objective.state_dict().keys() == learned
    assert objective.told() == pytest.approx({"scale": 1 / 0.07, "curvature": 1.0})
    assert objective(IMAGES, TEXTS).item() == pytest.approx(loss(IMAGES, TEXTS, Lorentz()), rel=1e-6)
    tangent = logm0(objective.lift_images(torch.ones(1, 9, dtype=torch.float64)), 1.0)  # entries of 1: of length 1
    assert tangent.norm().item() == pytest.approx(1)


@pytest.mark.parametrize(("start", "end"), [(50.0, 10.0), (0.01, 0.1), (3.0, 3.0)])
def test_after_a_step_the_curvature_is_held(start: float, end: float) -> None:
    objective = MERU()
    objective.log_curvature.data.fill_(math.log(start))
    objective.after_step()
    assert objective.curvature.item() == pytest.approx(end, rel=1e-6)


def test_after_a_step_vectors_are_not_made_longer() -> None:
    objective = MERU().double()
    objective.image_scale.data.fill_(5.0)
    objective.text_scale.data.fill_(-5.0)
    objective(IMAGES, TEXTS)
    objective.after_step()
    torch.testing.assert_close(objective.lift_images(IMAGES), expm0(IMAGES, objective.curvature))
    assert objective.text_scale.item() == -5.0


def test_training_puts_pictures_behind_their_texts() -> None:
    """Eight pairs, learned by heart: right pairs are the nearest, and the cones of texts hold their pictures."""
    torch.manual_seed(0)
    images, texts = (nn.Parameter(torch.randn(8, 16)) for _ in range(2))
    objective = MERU()
    optimiser = torch.optim.Adam([images, texts, *objective.parameters()], lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        objective(images, texts).backward()
        optimiser.step()
        objective.after_step()
    x, y = objective.lift_images(images), objective.lift_texts(texts)
    assert objective(images, texts).item() < 0.02
    assert (beyond_cone(y, x, objective.curvature) < 0.05).all()
    assert y.norm(dim=1).mean() < x.norm(dim=1).mean()  # what says less lies nearer to the origin


def test_example_in_the_docstring() -> None:
    assert doctest.testmod(meru) == (0, 3)
