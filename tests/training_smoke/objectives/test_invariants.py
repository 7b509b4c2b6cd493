"""What holds for every contrastive objective, on features that nobody chose."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_parts import clip_by_loops, siglip_by_loops, unit_rows
from torch import Tensor, nn

from training_smoke.objectives import OBJECTIVES

NAMES = sorted(OBJECTIVES)
SYMMETRIC = [name for name in NAMES if name != "meru"]  # a text may say less than its picture, not the other way round
SEEDS = st.integers(0, 2**32 - 1)


def loss(name: str, images: Tensor, texts: Tensor, groups: Tensor | None = None) -> Tensor:
    return OBJECTIVES[name]().double()(images, texts, groups)


@settings(max_examples=50, deadline=None)
@given(batch=st.integers(1, 7), kinds=st.integers(1, 7), seed=SEEDS)
def test_is_its_definition_pair_by_pair(batch: int, kinds: int, seed: int) -> None:
    """Duplicate groups among them, of any size: a pair of two samples of one group counts for nothing."""
    images, texts = unit_rows(batch, 3, seed), unit_rows(batch, 3, seed + 1)
    groups = torch.randint(kinds, (batch,), generator=torch.Generator().manual_seed(seed))
    clip = clip_by_loops(images, texts, 1 / 0.07, groups)
    siglip = siglip_by_loops(images, texts, 10, -10, groups)
    assert loss("clip", images, texts, groups).item() == pytest.approx(clip, rel=1e-6, abs=1e-9)
    assert loss("siglip", images, texts, groups).item() == pytest.approx(siglip, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(batch=st.integers(3, 20), seed=SEEDS)
def test_order_of_pairs_does_not_matter_but_pairing_does(name: str, batch: int, seed: int) -> None:
    images, texts = unit_rows(batch, 4, seed), unit_rows(batch, 4, seed + 1)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    groups = torch.arange(batch) // 2
    expected = loss(name, images, texts, groups)
    torch.testing.assert_close(loss(name, images[order], texts[order], groups[order]), expected, rtol=0, atol=1e-12)
    assert abs(loss(name, images.roll(1, 0), texts) - loss(name, images, texts)) > 1e-6


@pytest.mark.parametrize("name", SYMMETRIC)
@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_images_and_texts_may_change_places(name: str, seed: int) -> None:
    images, texts, groups = unit_rows(6, 4, seed), unit_rows(6, 4, seed + 1), torch.tensor([0, 1, 0, 2, 3, 3])
    torch.testing.assert_close(loss(name, images, texts, groups), loss(name, texts, images, groups), rtol=0, atol=1e-12)


@given(batch=st.integers(2, 64), seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_clip_is_bounded_by_its_scale(batch: int, seed: int) -> None:
    found = loss("clip", unit_rows(batch, 4, seed), unit_rows(batch, 4, seed + 1)).item()
    assert 0 < found < math.log(batch) + 2 / 0.07


@pytest.mark.parametrize("name", NAMES)
def test_groups_of_one_mask_nothing(name: str) -> None:
    images, texts = unit_rows(8, 4, 0), unit_rows(8, 4, 1)
    torch.testing.assert_close(loss(name, images, texts, torch.arange(8).flip(0)), loss(name, images, texts))


@pytest.mark.parametrize("name", NAMES)
def test_a_duplicate_no_longer_pushes_its_twin_away(name: str) -> None:
    """Two pairs of one group: the text of the one gives no gradient to the image of the other."""
    images, texts = unit_rows(2, 4, 0).requires_grad_(), unit_rows(2, 4, 1)

    def gradient(second_text: Tensor) -> Tensor:
        value = loss(name, images, torch.stack([texts[0], second_text]), torch.tensor([7, 7]))
        return torch.autograd.grad(value, images)[0][0]

    assert torch.equal(gradient(texts[1]), gradient(-texts[1]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_features_are_computed_in_fp32_whatever_autocast_says(name: str, dtype: torch.dtype) -> None:
    images, texts = unit_rows(32, 16, 0).to(dtype), unit_rows(32, 16, 1).to(dtype)
    objective = OBJECTIVES[name]()
    expected = objective(images.float(), texts.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = objective(images, texts)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_towers_under_bf16_autocast_stay_within_two_percent(name: str) -> None:
    torch.manual_seed(0)
    towers = nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 16)) for _ in range(2))
    pixels, words = torch.randn(2, 64, 32)

    def step() -> Tensor:
        images, texts = (nn.functional.normalize(tower(x)) for tower, x in zip(towers, (pixels, words), strict=True))
        return OBJECTIVES[name]()(images, texts).detach()

    exact = step()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(step(), exact, rtol=2e-2, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("start", "end"), [(1e6, 100.0), (1e-6, 1.0), (20.0, 20.0)])
def test_after_a_step_the_scale_is_held(name: str, start: float, end: float) -> None:
    objective = OBJECTIVES[name](init_scale=start)
    objective.after_step()
    assert objective.logit_scale.exp().item() == pytest.approx(end, rel=1e-6)
    assert objective.logit_scale.requires_grad


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("images", "texts", "groups"),
    [
        ((4, 8), (3, 8), None),
        ((4, 8), (4, 7), None),
        ((8,), (8,), None),
        ((0, 8), (0, 8), None),
        ((4, 8), (4, 8), (3,)),
    ],
    ids=["rows", "dim", "one vector", "empty", "groups"],
)
def test_features_of_other_pairs_are_refused(
    name: str, images: tuple[int, ...], texts: tuple[int, ...], groups: tuple[int, ...] | None
) -> None:
    with pytest.raises(ValueError, match="must"):
        OBJECTIVES[name]()(torch.ones(images), torch.ones(texts), None if groups is None else torch.zeros(groups))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    objective = OBJECTIVES[name]().double()
    groups = torch.tensor([0, 1, 0, 2])
    leaves = unit_rows(4, 3, 0).requires_grad_(), unit_rows(4, 3, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda images, texts: objective(images, texts, groups), leaves)
