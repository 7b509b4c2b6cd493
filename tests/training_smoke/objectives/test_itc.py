"""ITC: values of the specification's table, the definition pair by pair, what gets gradients, and ranks."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_parts import IMAGES, TEXTS, double, unit_rows
from torch import Tensor
from torch.nn import functional as F

from training_smoke.objectives import itc
from training_smoke.objectives.itc import Contrast, itc_loss

MOMENTUM_IMAGES = torch.tensor([[0.8, 0.6], [1, 0], [0, 1]], dtype=torch.float64)
MOMENTUM_TEXTS = F.normalize(torch.tensor([[0.6, 0.8], [1, 1], [-1, 2]], dtype=torch.float64))
TEXT_QUEUE, IMAGE_QUEUE = torch.tensor([[[0, -1.0]], [[-1.0, 0]]], dtype=torch.float64)
FEATURES = (IMAGES, TEXTS, MOMENTUM_IMAGES, MOMENTUM_TEXTS)


def by_loops(
    features: tuple[Tensor, ...], tau: float, alpha: float, queues: tuple[Tensor, Tensor], groups: list[int]
) -> tuple[float, float]:
    """Both halves, from the definition, in plain Python: a candidate of another sample's group is none."""
    images, texts, slow_images, slow_texts = (f.numpy() for f in features)
    image_queue, text_queue = (q.numpy() for q in queues)

    def probabilities(query: np.ndarray, candidates: list[np.ndarray | None]) -> list[float]:
        odds = [
            0.0 if c is None else math.exp(sum(a * b for a, b in zip(query, c, strict=True)) / tau) for c in candidates
        ]
        return [o / sum(odds) for o in odds]

    def half(queries: np.ndarray, teachers: np.ndarray, batch: np.ndarray, queue: np.ndarray) -> float:
        total = 0.0
        for i in range(len(queries)):
            own = [c if j == i or groups[j] != groups[i] else None for j, c in enumerate(batch)] + list(queue)
            said, opinion = probabilities(queries[i], own), probabilities(teachers[i], own)
            for j, (p, q) in enumerate(zip(said, opinion, strict=True)):
                target = alpha * q + (1 - alpha) * (j == i)
                total -= target * math.log(p) if target else 0.0
        return total / len(queries)

    return half(images, slow_images, slow_texts, text_queue), half(texts, slow_texts, slow_images, image_queue)


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, 0.988563), (0.2, 0.901855), (0.4, 0.815146)])
def test_value(alpha: float, expected: float) -> None:
    queues = IMAGE_QUEUE, TEXT_QUEUE
    found = itc_loss(*FEATURES, double(0.07), alpha=alpha, image_queue=queues[0], text_queue=queues[1])
    assert found.loss.item() == pytest.approx(expected, abs=5e-7)
    parts = by_loops(FEATURES, 0.07, alpha, queues, [0, 1, 2])
    assert sum(parts) / 2 == pytest.approx(expected, abs=5e-7)
    if alpha == 0.4:
        assert parts == pytest.approx((0.469608, 1.160684), abs=5e-7)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 6),
    queue=st.integers(0, 4),
    kinds=st.integers(1, 6),
    alpha=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 9),
)
def test_is_its_definition_pair_by_pair(batch: int, queue: int, kinds: int, alpha: float, seed: int) -> None:
    features = tuple(unit_rows(batch, 4, seed + i) for i in range(4))
    queues = unit_rows(queue, 4, seed + 4), unit_rows(queue, 4, seed + 5)
    groups = torch.randint(kinds, (batch,), generator=torch.Generator().manual_seed(seed))
    found = itc_loss(
        *features, double(0.2), alpha=alpha, image_queue=queues[0], text_queue=queues[1], groups=groups
    ).loss.item()
    assert found == pytest.approx(sum(by_loops(features, 0.2, alpha, queues, groups.tolist())) / 2, rel=1e-9, abs=1e-12)


def test_hard_targets_are_cross_entropy_with_the_pairs_themselves() -> None:
    """alpha 0 and no queue, momentum encoders that are the encoders: CLIP's loss at a scale of 1 / tau."""
    from training_smoke.objectives import clip_loss

    found = itc_loss(IMAGES, TEXTS, IMAGES, TEXTS, double(0.07)).loss
    torch.testing.assert_close(found, clip_loss(IMAGES, TEXTS, double(1 / 0.07).log()), rtol=1e-12, atol=0)


def test_permuting_pairs_changes_nothing_but_queues_do() -> None:
    features, groups = [unit_rows(6, 4, i) for i in range(4)], torch.tensor([0, 1, 1, 2, 3, 0])
    queues = {"image_queue": unit_rows(3, 4, 8), "text_queue": unit_rows(3, 4, 9)}
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    expected = itc_loss(*features, double(0.1), alpha=0.4, groups=groups, **queues).loss
    found = itc_loss(*(f[order] for f in features), double(0.1), alpha=0.4, groups=groups[order], **queues).loss
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert itc_loss(*features, double(0.1), alpha=0.4, groups=groups).loss < expected - 0.1


def test_only_what_learns_has_gradients_and_they_are_right() -> None:
    leaves = [unit_rows(4, 3, i).requires_grad_() for i in range(4)]
    queue, tau, groups = unit_rows(2, 3, 9).requires_grad_(), double(0.3).requires_grad_(), torch.tensor([0, 1, 0, 2])
    found = itc_loss(*leaves, tau, alpha=0.4, image_queue=queue.detach(), text_queue=queue.detach(), groups=groups)
    found.loss.backward()
    assert leaves[2].grad is None
    assert leaves[3].grad is None
    assert not found.image_to_text.requires_grad

    def loss(images: Tensor, texts: Tensor) -> Tensor:
        return itc_loss(images, texts, *leaves[2:], tau.detach(), alpha=0.4, groups=groups).loss

    assert torch.autograd.gradcheck(loss, (leaves[0], leaves[1]))


def test_the_temperature_of_the_target_has_no_gradient() -> None:
    """By a difference: the target at a temperature that stays, the prediction at one that moves."""
    tau, step = 0.3, 1e-6

    def cross_entropy(of_prediction: float) -> float:
        logits, opinion = IMAGES @ MOMENTUM_TEXTS.T / of_prediction, MOMENTUM_IMAGES @ MOMENTUM_TEXTS.T / tau
        other, its = TEXTS @ MOMENTUM_IMAGES.T / of_prediction, MOMENTUM_TEXTS @ MOMENTUM_IMAGES.T / tau
        halves = [
            -((0.4 * o.softmax(1) + 0.6 * torch.eye(3)) * p.log_softmax(1)).sum(1).mean()
            for p, o in ((logits, opinion), (other, its))
        ]
        return float(sum(halves) / 2)

    leaf = double(tau).requires_grad_()
    itc_loss(*FEATURES, leaf, alpha=0.4).loss.backward()
    assert leaf.grad is not None
    slope = (cross_entropy(tau + step) - cross_entropy(tau - step)) / (2 * step)
    assert leaf.grad.item() == pytest.approx(slope, rel=1e-6)


def test_similarities_are_those_of_the_batch() -> None:
    found = itc_loss(*FEATURES, double(0.07), image_queue=IMAGE_QUEUE, text_queue=TEXT_QUEUE)
    torch.testing.assert_close(found.image_to_text, IMAGES @ MOMENTUM_TEXTS.T / 0.07)
    torch.testing.assert_close(found.text_to_image, TEXTS @ MOMENTUM_IMAGES.T / 0.07)


def test_narrow_features_are_computed_in_fp32_whatever_autocast_says() -> None:
    features = [f.to(torch.bfloat16) for f in FEATURES]
    expected = itc_loss(*(f.float() for f in features), torch.tensor([0.07]), alpha=0.4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found: Contrast = itc_loss(*features, torch.tensor([0.07]), alpha=0.4)
    assert found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss.squeeze(), expected.loss.squeeze(), rtol=0, atol=0)


def test_what_is_no_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="momentum features must be"):
        itc_loss(IMAGES, TEXTS, MOMENTUM_IMAGES[:2], MOMENTUM_TEXTS[:2], double(0.07))
    with pytest.raises(ValueError, match="alpha must lie"):
        itc_loss(*FEATURES, double(0.07), alpha=1.5)
    with pytest.raises(ValueError, match="must both be"):
        itc_loss(IMAGES, TEXTS[:2], *FEATURES[2:], double(0.07))


def test_examples_in_the_docstrings() -> None:
    found = doctest.testmod(itc)
    assert found.failed == 0
    assert found.attempted >= 4
