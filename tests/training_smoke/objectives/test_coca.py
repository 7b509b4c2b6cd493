"""CoCa: the value of the specification's table, the definition as loops, and open_clip's loss."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from objective_parts import IMAGES, TEXTS, clip_by_loops, double, unit_rows
from torch import Tensor

import training_smoke.objectives.coca as coca
from training_smoke.objectives.coca import coca_loss

ALONE = torch.arange(3)  # groups of one sample each
CAPTION = torch.tensor([[2.0, 1, 0, -1, 0], [0, 3, 0, 0, 1], [1, 1, 1, 1, 1]], dtype=torch.float64).expand(3, 3, 5)
LABELS = torch.tensor([0, 1, -100]).expand(3, 3)


def caption_by_loops(logits: Tensor, labels: Tensor) -> float:
    total, places = 0.0, 0
    for row, said in zip(logits.tolist(), labels.tolist(), strict=True):
        for scores, label in zip(row, said, strict=True):
            if label != -100:
                total += math.log(sum(math.exp(s) for s in scores)) - scores[label]
                places += 1
    return total / places


def test_value() -> None:
    """Ours, and the definition as loops."""
    found = coca_loss(IMAGES, TEXTS, double(1 / 0.07).log(), CAPTION, LABELS)
    ours = found.contrastive.item(), 2 * found.caption.item(), found.loss.item()
    by_loops = clip_by_loops(IMAGES, TEXTS, 1 / 0.07, ALONE), 2 * caption_by_loops(CAPTION, LABELS)
    for parts in (ours, (*by_loops, sum(by_loops))):
        assert parts == pytest.approx((1.244279, 0.774267, 2.018546), abs=5e-7)


@pytest.mark.parametrize("weights", [(1.0, 2.0), (0.5, 0.25), (0.0, 1.0)])
def test_definition_by_loops(weights: tuple[float, float]) -> None:
    images, texts, logits = unit_rows(6, 5, 0), unit_rows(6, 5, 1), 3 * unit_rows(24, 7, 2).view(6, 4, 7)
    labels = torch.randint(-1, 7, (6, 4), generator=torch.manual_seed(3))
    labels[labels < 0] = -100
    groups = torch.tensor([0, 1, 0, 2, 3, 3])
    both = {"contrastive_weight": weights[0], "caption_weight": weights[1]}
    found = coca_loss(images, texts, double(10).log(), logits, labels, groups=groups, **both)
    parts = clip_by_loops(images, texts, 10, groups), caption_by_loops(logits, labels)
    assert (found.contrastive.item(), found.caption.item()) == pytest.approx(parts, rel=1e-12)
    assert found.loss.item() == pytest.approx(weights[0] * parts[0] + weights[1] * parts[1], rel=1e-12)


def test_value_and_gradients_are_open_clips() -> None:
    open_clip = pytest.importorskip("open_clip")
    inputs = [unit_rows(8, 5, 0), unit_rows(8, 5, 1), double(1 / 0.07).log(), 2 * unit_rows(32, 9, 2).view(8, 4, 9)]
    images, texts, logit_scale, logits = (leaf.requires_grad_() for leaf in inputs)
    labels = torch.randint(0, 9, (8, 4), generator=torch.manual_seed(3))  # their padding is 0
    ours = coca_loss(images, texts, logit_scale, logits, labels.masked_fill(labels == 0, -100)).loss
    parts = open_clip.CoCaLoss(2.0, 1.0)(images, texts, logits, labels, logit_scale.exp())
    torch.testing.assert_close(ours, sum(parts), rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(ours, inputs), torch.autograd.grad(sum(parts), inputs))


def test_only_places_with_a_label_is_all_places() -> None:
    whole = coca_loss(IMAGES, TEXTS, double(2), CAPTION, LABELS)
    there = LABELS >= 0
    assert torch.equal(coca_loss(IMAGES, TEXTS, double(2), CAPTION[there], LABELS[there]).loss, whole.loss)


def test_permuting_pairs_changes_nothing_and_one_side_does() -> None:
    order = torch.tensor([2, 0, 1])
    logits = unit_rows(15, 5, 1).view(3, 5, 5)
    labels = torch.tensor([[0, 1, 2, 3, 4], [1, 1, -100, -100, -100], [2, 0, 3, -100, -100]])
    plain = coca_loss(IMAGES, TEXTS, double(2), logits, labels)
    moved = coca_loss(IMAGES[order], TEXTS[order], double(2), logits[order], labels[order])
    torch.testing.assert_close(moved.loss, plain.loss, rtol=0, atol=1e-12)
    assert abs(coca_loss(IMAGES, TEXTS, double(2), logits, labels[order]).caption - plain.caption) > 1e-3
    assert abs(coca_loss(IMAGES, TEXTS[order], double(2), logits, labels).contrastive - plain.contrastive) > 1e-3


def test_low_precision_is_computed_in_fp32() -> None:
    low = [x.to(torch.bfloat16) for x in (IMAGES, TEXTS, CAPTION)]
    found = coca_loss(low[0], low[1], double(10).log().float(), low[2], LABELS)
    assert found.loss.dtype == torch.float32
    plain = coca_loss(IMAGES, TEXTS, double(10).log(), CAPTION, LABELS).loss
    assert found.loss.item() == pytest.approx(plain.item(), rel=2e-2)


def test_example_in_the_docstring() -> None:
    assert doctest.testmod(coca).failed == 0
    assert doctest.testmod(coca).attempted == 6
