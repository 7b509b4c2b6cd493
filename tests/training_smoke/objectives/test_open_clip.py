"""Our losses and their gradients are open_clip's, on random features, at the scales where training starts and ends."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from objective_parts import double, unit_rows
from torch import Tensor

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
