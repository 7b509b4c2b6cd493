"""Heads, ranks with ties, and classification metrics, against values by hand and plain sorting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training_smoke.errors import TrainingError
from training_smoke.evaluate import ranks as ranks_module
from training_smoke.evaluate.ranks import ranks
from training_smoke.evaluate.zero_shot import (
    macro_f1,
    mean_per_class_recall,
    predict,
    prompts,
    zero_shot_head,
)

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=30)


def test_prompts_go_class_by_class_and_take_any_name() -> None:
    assert prompts(["{c}at", "{dog}"], ["a {c}.", "{c}, {c}"]) == [
        "a {c}at.",
        "{c}at, {c}at",
        "a {dog}.",
        "{dog}, {dog}",
    ]


def test_head_of_two_templates() -> None:
    head = zero_shot_head(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    torch.testing.assert_close(head, torch.tensor([[0.5**0.5, 0.5**0.5]]))


def test_head_is_unit_length_and_blind_to_order_and_length_of_templates() -> None:
    features = torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(0))
    head = zero_shot_head(features)
    torch.testing.assert_close(head.norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(zero_shot_head(features.flip(1)), head, atol=1e-7, rtol=0)
    longer = features * torch.arange(1, 8).view(1, 7, 1)
    torch.testing.assert_close(zero_shot_head(longer), head)


def test_ties_go_to_the_lower_index() -> None:
    scores = torch.tensor([[0.2, 0.7, 0.7]]).expand(3, 3)
    assert ranks(scores, torch.tensor([0, 1, 2])).tolist() == [2, 0, 1]


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=8), st.integers(0, 3))
def test_ranks_are_places_in_a_stable_sort(rows: list[list[int]], target: int) -> None:
    expected = [sorted(range(4), key=lambda c: -row[c]).index(target) for row in rows]
    found = ranks(torch.tensor(rows, dtype=torch.float32), torch.full((len(rows),), target))
    assert found.tolist() == expected


def test_nan_is_no_rank() -> None:
    with pytest.raises(TrainingError, match="NaN"):
        ranks(torch.tensor([[float("nan"), 1.0]]), torch.tensor([0]))


def test_predictions_by_hand() -> None:
    features = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6]])
    found = predict(features, torch.eye(3), np.array([0, 2, 1, 2]))
    assert found.predicted.tolist() == [0, 1, 2, 2]
    assert found.ranks.tolist() == [0, 1, 2, 0]
    assert found.correct().tolist() == [True, False, False, True]
    assert found.correct(2).tolist() == [True, True, False, True]
    metrics = found.metrics()
    assert metrics["acc1"] == 0.5
    assert metrics["acc5"] is None
    assert metrics["mean_rank"] == 1.75
    assert metrics["mean_per_class_recall"] == pytest.approx((1 + 0 + 0.5) / 3)


def test_five_classes_have_acc5() -> None:
    found = predict(torch.eye(6), torch.eye(6), np.arange(6))
    assert found.metrics()["acc5"] == found.metrics()["acc1"] == 1


@pytest.mark.parametrize("classes", [2, 10])
def test_a_collapsed_model_is_at_chance(classes: int) -> None:
    same = torch.ones(classes * 3, 4)
    found = predict(same, torch.ones(classes, 4), np.arange(classes * 3) % classes)
    assert found.metrics()["acc1"] == pytest.approx(1 / classes)
    assert found.metrics()["mean_rank"] == pytest.approx((classes + 1) / 2)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, head = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).split([23, 7])
    labels = np.arange(23) % 7
    whole = predict(features, head, labels, bias=torch.arange(7.0))
    monkeypatch.setattr("training_smoke.evaluate.zero_shot.ROWS", 5)
    parts = predict(features, head, labels, bias=torch.arange(7.0))
    assert ranks_module.ROWS > 23
    np.testing.assert_array_equal(whole.ranks, parts.ranks)
    np.testing.assert_array_equal(whole.predicted, parts.predicted)


@pytest.mark.parametrize(("labels", "said"), [([], "empty"), ([3], "from 3 to 3.*3 classes"), ([-1], "from -1")])
def test_labels_that_do_not_fit(labels: list[int], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        predict(torch.eye(3)[: len(labels)], torch.eye(3), np.array(labels, np.int64))


def test_f1_by_hand() -> None:
    assert macro_f1(np.array([0, 0, 1]), np.array([0, 2, 1])) == pytest.approx((2 / 3 + 1) / 2)


@given(LABELS)
@settings(max_examples=50)
def test_recall_and_f1_by_their_definitions(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(pairs).T
    recalls, f1s = [], []
    for c in sorted(set(labels.tolist())):
        hits = int(((labels == c) & (predicted == c)).sum())
        recall = hits / int((labels == c).sum())
        precision = hits / max(1, int((predicted == c).sum()))
        recalls.append(recall)
        f1s.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    assert mean_per_class_recall(labels, predicted) == pytest.approx(np.mean(recalls))
    assert macro_f1(labels, predicted) == pytest.approx(np.mean(f1s))
