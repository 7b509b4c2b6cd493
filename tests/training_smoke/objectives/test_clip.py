"""CLIP: values of the specification's table, and what its module promises of the scale."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from objective_parts import IMAGES, TEXTS, double

import training_smoke.objectives.clip as clip
from training_smoke.objectives import CLIP, clip_loss


@pytest.mark.parametrize(("scale", "expected"), [(1, 0.925219), (1 / 0.07, 1.244279), (100, 6.885103)])
def test_value(scale: float, expected: float) -> None:
    assert clip_loss(IMAGES, TEXTS, double(scale).log()).item() == pytest.approx(expected, abs=5e-7)


def test_gradient_in_the_log_scale() -> None:
    logit_scale = double(1 / 0.07).log().requires_grad_()
    clip_loss(IMAGES, TEXTS, logit_scale).backward()
    assert logit_scale.grad is not None
    assert logit_scale.grad.item() == pytest.approx(0.803690, abs=5e-7)


def test_orthonormal_features() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    loss = clip_loss(eye, eye, double(1 / 0.07).log()).item()
    assert loss == pytest.approx(1.874623e-06, abs=5e-13)
    assert loss == pytest.approx(math.log1p(3 * math.exp(-1 / 0.07)), rel=1e-9)


@pytest.mark.parametrize("batch", [1, 4, 256])
def test_equal_features_cost_the_log_of_the_batch(batch: int) -> None:
    same = torch.eye(2, dtype=torch.float64)[:1].expand(batch, 2)
    assert clip_loss(same, same, double(1 / 0.07).log()).item() == pytest.approx(math.log(batch), abs=1e-12)


def test_one_group_leaves_no_negatives() -> None:
    groups = torch.zeros(3, dtype=torch.int64)
    assert clip_loss(IMAGES, TEXTS, double(1 / 0.07).log(), groups=groups).item() == 0


def test_module_starts_at_its_scale_and_is_the_function() -> None:
    objective = CLIP()
    assert objective.logit_scale.item() == pytest.approx(2.659260, abs=5e-7)
    torch.testing.assert_close(objective(IMAGES, TEXTS), clip_loss(IMAGES, TEXTS, objective.logit_scale))


def test_example_in_the_docstring() -> None:
    assert doctest.testmod(clip) == (0, 3)
