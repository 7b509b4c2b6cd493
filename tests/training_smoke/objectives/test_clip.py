"""CLIP: values of the specification's table, and what its module promises of the scale."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from objective_parts import IMAGES, TEXTS, clip_by_loops, double

import training_smoke.objectives.clip as clip
from tests.training_smoke.objectives.table_cases import (
    CLIP_SLOPE,
    CLIP_TABLE,
    EXACT,
    PLAIN,
    START,
    Plain,
    clip_halves,
    slope,
)
from training_smoke.objectives import CLIP, clip_loss

ALONE = torch.arange(3)  # groups of one sample each


@pytest.mark.parametrize(("scale", "to_text", "to_image", "expected"), CLIP_TABLE)
def test_value(scale: float, to_text: float, to_image: float, expected: float) -> None:
    """Ours, and the definition as loops, of which the halves can be seen."""
    halves = clip_halves(scale)
    assert halves == pytest.approx((to_text, to_image), abs=EXACT)
    assert clip_by_loops(IMAGES, TEXTS, scale, ALONE) == pytest.approx(expected, abs=EXACT)
    ours = clip_loss(IMAGES, TEXTS, double(scale).log()).item()
    assert ours == pytest.approx(expected, abs=EXACT)
    assert ours == pytest.approx(sum(halves) / 2, rel=1e-12)


def test_gradient_in_the_log_scale() -> None:
    logit_scale = double(START).log().requires_grad_()
    clip_loss(IMAGES, TEXTS, logit_scale).backward()
    assert logit_scale.grad is not None
    assert logit_scale.grad.item() == pytest.approx(CLIP_SLOPE, abs=EXACT)
    by_loops = slope(lambda log: clip_by_loops(IMAGES, TEXTS, math.exp(log), ALONE), math.log(START))
    assert by_loops == pytest.approx(CLIP_SLOPE, abs=EXACT)


@pytest.mark.parametrize("case", [case for case in PLAIN if case.of == "clip"], ids=str)
def test_features_of_which_a_formula_tells_the_loss(case: Plain) -> None:
    ours = clip_loss(case.images, case.texts, double(START).log()).item()
    by_loops = clip_by_loops(case.images, case.texts, START, torch.arange(len(case.images)))
    assert (ours, by_loops) == pytest.approx((case.value, case.value), abs=case.off)
    assert (ours, by_loops) == pytest.approx((case.formula, case.formula), rel=1e-9)


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
