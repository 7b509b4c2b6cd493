"""SigLIP: values of the specification's table, chunks, and where its module starts."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from objective_parts import IMAGES, TEXTS, double, siglip_by_loops, unit_rows
from torch import Tensor

import training_smoke.objectives.siglip as siglip
from tests.training_smoke.objectives.table_cases import (
    EXACT,
    PLAIN,
    SIGLIP_SLOPES,
    SIGLIP_TABLE,
    Plain,
    right_angles,
    slope,
)
from training_smoke.objectives import SigLIP, siglip_loss


def loss_at(images: Tensor, texts: Tensor, scale: float = 10, bias: float = -10, chunk: int | None = None) -> float:
    return siglip_loss(images, texts, double(scale).log(), double(bias), chunk=chunk).item()


def by_loops(images: Tensor, texts: Tensor, scale: float = 10, bias: float = -10) -> float:
    return siglip_by_loops(images, texts, scale, bias, torch.arange(len(images)))


@pytest.mark.parametrize(("scale", "bias", "expected"), SIGLIP_TABLE)
def test_value(scale: float, bias: float, expected: float) -> None:
    for loss in (loss_at, by_loops):
        assert loss(IMAGES, TEXTS, scale, bias) == pytest.approx(expected, abs=EXACT)


def test_gradients_in_log_scale_and_bias() -> None:
    """Ours, and differences of the definition."""
    logit_scale, logit_bias = double(10).log().requires_grad_(), double(-10).requires_grad_()
    siglip_loss(IMAGES, TEXTS, logit_scale, logit_bias).backward()
    assert logit_scale.grad is not None
    assert logit_bias.grad is not None
    assert (logit_scale.grad.item(), logit_bias.grad.item()) == pytest.approx(SIGLIP_SLOPES, abs=EXACT)
    differences = (
        slope(lambda log: by_loops(IMAGES, TEXTS, math.exp(log)), math.log(10)),
        slope(lambda bias: by_loops(IMAGES, TEXTS, bias=bias), -10.0),
    )
    assert differences == pytest.approx(SIGLIP_SLOPES, abs=EXACT)


@pytest.mark.parametrize("case", [case for case in PLAIN if case.of == "siglip"], ids=str)
def test_features_of_which_a_formula_tells_the_loss(case: Plain) -> None:
    assert loss_at(case.images, case.texts) == pytest.approx(case.formula, rel=1e-12)
    for loss in (loss_at, by_loops):
        assert loss(case.images, case.texts) == pytest.approx(case.value, abs=case.off)


def test_32k_pairs_are_left_to_the_formula() -> None:
    assert right_angles(32_768) == pytest.approx(11.487631, abs=EXACT)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 8, 20])
def test_chunked_is_unchunked(chunk: int, grouped: bool) -> None:
    groups = torch.tensor([0, 1, 0, 2, 3, 3, 4, 0]) if grouped else None

    def loss_and_gradients(chunk: int | None) -> list[Tensor]:
        leaves = [unit_rows(8, 5, 0), unit_rows(8, 5, 1), double(10).log(), double(-2)]
        images, texts, logit_scale, logit_bias = (leaf.requires_grad_() for leaf in leaves)
        loss = siglip_loss(images, texts, logit_scale, logit_bias, groups=groups, chunk=chunk)
        return [loss, *torch.autograd.grad(loss, leaves)]

    for chunked, whole in zip(loss_and_gradients(chunk), loss_and_gradients(None), strict=True):
        torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-13)


def test_chunks_hold_no_logits_for_the_backward_pass() -> None:
    def held(chunk: int | None) -> int:
        """Entries of all tensors kept between the passes, but for the features."""
        images, texts = unit_rows(64, 8, 0).requires_grad_(), unit_rows(64, 8, 1).requires_grad_()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            siglip_loss(images, texts, double(10).log(), double(-10), chunk=chunk)
        return sum(sizes)

    assert held(None) >= 64 * 64
    assert held(4) == 0


def test_chunk_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        loss_at(IMAGES, TEXTS, chunk=0)


def test_one_group_leaves_positives_only() -> None:
    groups = torch.zeros(3, dtype=torch.int64)
    loss = siglip_loss(IMAGES, TEXTS, double(10).log(), double(-10), groups=groups).item()
    positives = 10 * (IMAGES * TEXTS).sum(dim=1) - 10
    assert loss == pytest.approx(torch.log1p((-positives).exp()).mean().item(), rel=1e-12)


def test_module_starts_where_the_paper_does_and_is_the_function() -> None:
    objective = SigLIP(chunk=2)
    assert objective.logit_scale.item() == pytest.approx(math.log(10), abs=1e-6)
    assert objective.logit_bias.item() == -10
    expected = siglip_loss(IMAGES, TEXTS, objective.logit_scale, objective.logit_bias)
    torch.testing.assert_close(objective(IMAGES, TEXTS), expected)


def test_example_in_the_docstring() -> None:
    assert doctest.testmod(siglip) == (0, 3)
