"""Measures that move before accuracy: by hand, by brute force over pairs, and against the specification's loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.evaluate.continuous import auroc, average_precision, held_out_loss, positive_rank, told_apart

RANKED = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=25)
IMAGES = torch.tensor([[0.6, 0.8], [1, 0], [0, 1]], dtype=torch.float64)
TEXTS = F.normalize(torch.tensor([[0.8, 0.6], [1, 1], [-1, 1]], dtype=torch.float64), dim=-1)


def clip(image_features: Tensor, text_features: Tensor, groups: Tensor | None) -> Tensor:
    logits = image_features @ text_features.T
    right = torch.arange(len(logits))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def test_held_out_loss_of_the_specification() -> None:
    assert held_out_loss(clip, IMAGES, TEXTS, batch=3) == pytest.approx(0.925219, abs=1e-6)


def test_held_out_loss_is_the_mean_over_full_batches() -> None:
    more = torch.cat([IMAGES, IMAGES, IMAGES[:2]]), torch.cat([TEXTS, TEXTS, TEXTS[:2]])
    assert held_out_loss(clip, *more, batch=3) == pytest.approx(0.925219, abs=1e-6)
    with pytest.raises(TrainingError, match="3 held-out pairs do not fill one batch of 4"):
        held_out_loss(clip, IMAGES, TEXTS, batch=4)


def test_held_out_loss_hands_each_batch_its_groups() -> None:
    seen: list[list[int]] = []

    def objective(image_features: Tensor, text_features: Tensor, groups: Tensor | None) -> Tensor:
        assert groups is not None
        seen.append(groups.tolist())
        return torch.zeros(())

    held_out_loss(objective, torch.eye(5), torch.eye(5), batch=2, groups=torch.arange(5))
    assert seen == [[0, 1], [2, 3]]


def test_positive_rank() -> None:
    assert positive_rank(torch.eye(4), torch.eye(4)) == 1
    assert positive_rank(torch.ones(5, 2), torch.ones(5, 2)) == 3  # chance
    similarities = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.8, 0.9], [0.6, 0.4, 0.5]])  # 1, 2, 2 and 1, 1, 2
    assert positive_rank(similarities, torch.eye(3)) == 1.5


def test_auroc_by_hand() -> None:
    assert auroc([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1]) == 0.875
    assert auroc([1, 1, 1, 1], [0, 1, 0, 1]) == 0.5


def test_average_precision_by_hand() -> None:
    assert average_precision([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1]) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision([1, 1, 1, 1], [0, 1, 0, 0]) == 0.25
    assert average_precision([3, 2, 1], [1, 0, 1]) == pytest.approx((1 + 2 / 3) / 2)


@given(RANKED)
def test_auroc_over_all_pairs(ranked: list[tuple[int, bool]]) -> None:
    scores, truth = [s for s, _ in ranked], [t for _, t in ranked]
    good = [s for s, t in ranked if t]
    bad = [s for s, t in ranked if not t]
    if not good or not bad:
        with pytest.raises(TrainingError):
            auroc(scores, truth)
        return
    wins = [1.0 if g > b else 0.5 if g == b else 0.0 for g in good for b in bad]
    assert auroc(scores, truth) == pytest.approx(sum(wins) / len(wins))
    assert auroc([-s for s in scores], truth) == pytest.approx(1 - auroc(scores, truth))


@given(RANKED, st.randoms(use_true_random=False))
def test_average_precision_over_thresholds_in_any_order(ranked: list[tuple[int, bool]], random: object) -> None:
    total = sum(t for _, t in ranked)
    if not total:
        return
    expected, recall = 0.0, 0.0
    for threshold in sorted({s for s, _ in ranked}, reverse=True):
        taken = [t for s, t in ranked if s >= threshold]
        expected += (sum(taken) / total - recall) * sum(taken) / len(taken)
        recall = sum(taken) / total
    random.shuffle(ranked)  # type: ignore[attr-defined]
    assert average_precision([s for s, _ in ranked], [t for _, t in ranked]) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [auroc, average_precision])
def test_what_cannot_be_ranked(measure: object) -> None:
    for scores, truth, error in (
        ([1.0, math.nan], [0, 1], TrainingError),
        ([1.0, 2.0], [0, 0], TrainingError),
        ([1.0], [0, 1], ValueError),
    ):
        with pytest.raises(error):
            measure(np.array(scores), truth)  # type: ignore[operator]


def test_wrong_pairs_of_a_set_in_order_are_wrong() -> None:
    """Ten classes in turn: half of a hundred pairs away the same class would stand, and nothing be told apart."""
    features = torch.eye(10).repeat(10, 1)
    assert told_apart(features, features)["auroc"] > 0.9
