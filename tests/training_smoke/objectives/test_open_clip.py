"""Our losses and their gradients are open_clip's, on random features, at the scales where training starts and ends; and
the values of the specification's table are open_clip's, too."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from objective_parts import IMAGES, TEXTS, double, unit_rows
from torch import Tensor

from tests.training_smoke.objectives.table_cases import (
    CLIP_SLOPE,
    CLIP_TABLE,
    EXACT,
    PLAIN,
    SIGLIP_SLOPES,
    SIGLIP_TABLE,
    START,
    Plain,
)
from training_smoke.objectives import clip_loss, siglip_loss

SCALES = [1.0, 10.0, 1 / 0.07, 100.0]


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    """open_clip/loss.py by itself, which needs torch only: the package would import timm and torchvision first."""
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        pytest.skip("no open_clip: parity with its losses is skipped")
    spec = importlib.util.spec_from_file_location(
        "open_clip_loss", Path(package.submodule_search_locations[0]) / "loss.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(*further: Tensor) -> list[Tensor]:
    return [leaf.requires_grad_() for leaf in (unit_rows(16, 8, 0), unit_rows(16, 8, 1), *further)]


def assert_same(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs))


@pytest.mark.parametrize("scale", SCALES)
def test_clip(theirs: ModuleType, scale: float) -> None:
    inputs = images, texts, logit_scale = leaves(double(scale).log())
    assert_same(clip_loss(*inputs), theirs.ClipLoss()(images, texts, logit_scale.exp()), inputs)


@pytest.mark.parametrize("bias", [0.0, -10.0])
@pytest.mark.parametrize("scale", SCALES)
def test_siglip(theirs: ModuleType, scale: float, bias: float) -> None:
    inputs = images, texts, logit_scale, logit_bias = leaves(double(scale).log(), double(bias))
    assert_same(siglip_loss(*inputs), theirs.SigLipLoss()(images, texts, logit_scale.exp(), logit_bias), inputs)


# ------------------------------------------------------------------------------------------- values of the table


@pytest.mark.parametrize(("scale", "to_text", "to_image", "expected"), CLIP_TABLE)
def test_clip_at_the_table(theirs: ModuleType, scale: float, to_text: float, to_image: float, expected: float) -> None:
    criterion, right = theirs.ClipLoss(), torch.arange(3)
    halves = [F.cross_entropy(x, right).item() for x in criterion.get_logits(IMAGES, TEXTS, double(scale))]
    assert halves == pytest.approx([to_text, to_image], abs=EXACT)
    assert criterion(IMAGES, TEXTS, double(scale)).item() == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(("scale", "bias", "expected"), SIGLIP_TABLE)
def test_siglip_at_the_table(theirs: ModuleType, scale: float, bias: float, expected: float) -> None:
    found = theirs.SigLipLoss()(IMAGES, TEXTS, double(scale), double(bias)).item()
    assert found == pytest.approx(expected, abs=EXACT)


def test_gradients_at_the_table(theirs: ModuleType) -> None:
    log_scale = double(START).log().requires_grad_()
    (clip,) = torch.autograd.grad(theirs.ClipLoss()(IMAGES, TEXTS, log_scale.exp()), log_scale)
    assert clip.item() == pytest.approx(CLIP_SLOPE, abs=EXACT)
    inputs = log_scale, bias = double(10).log().requires_grad_(), double(-10).requires_grad_()
    siglip = torch.autograd.grad(theirs.SigLipLoss()(IMAGES, TEXTS, log_scale.exp(), bias), inputs)
    assert [slope.item() for slope in siglip] == pytest.approx(SIGLIP_SLOPES, abs=EXACT)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_features_of_which_a_formula_tells_the_loss(theirs: ModuleType, case: Plain) -> None:
    if case.of == "clip":
        found = theirs.ClipLoss()(case.images, case.texts, double(START))
    else:
        found = theirs.SigLipLoss()(case.images, case.texts, double(10), double(-10))
    assert found.item() == pytest.approx(case.value, abs=case.off)


def test_coca_at_the_table(theirs: ModuleType) -> None:
    """Its padding has a number, here 4, which is the third label."""
    logits = torch.tensor([[2.0, 1, 0, -1, 0], [0, 3, 0, 0, 1], [1, 1, 1, 1, 1]], dtype=torch.float64).expand(3, 3, 5)
    labels = torch.tensor([0, 1, 4]).expand(3, 3)
    parts = theirs.CoCaLoss(2.0, 1.0, pad_id=4)(IMAGES, TEXTS, logits, labels, double(START))
    assert [part.item() for part in parts] == pytest.approx([1.244279, 0.774267], abs=EXACT)
    assert sum(parts).item() == pytest.approx(2.018546, abs=EXACT)
