"""Recall both ways, with several texts an image and ties, against the specification's values and plain sorting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training_smoke.errors import TrainingError
from training_smoke.evaluate.retrieval import retrieve

S = torch.tensor([[0.9, 0.1, 0.3, 0.2], [0.2, 0.8, 0.7, 0.1], [0.6, 0.4, 0.5, 0.3], [0.1, 0.2, 0.6, 0.4]])


def test_values_of_the_specification() -> None:
    found = retrieve(S, torch.eye(4), torch.arange(4))
    by_hand = [[sum(z > row[i] for z in row) for i, row in enumerate(way)] for way in (S.tolist(), S.T.tolist())]
    assert by_hand == [[0, 0, 1, 1], [0, 0, 2, 0]]
    assert found.texts.tolist() == [0, 0, 1, 1]
    assert found.images.tolist() == [0, 0, 2, 0]
    metrics = found.metrics(recalls=(1, 2))
    assert (metrics["text_retrieval_recall@1"], metrics["text_retrieval_recall@2"]) == (0.5, 1.0)
    assert metrics["image_retrieval_recall@1"] == 0.75
    assert metrics["mean_recall@1"] == 0.625
    assert (metrics["text_retrieval_mean_rank"], metrics["text_retrieval_median_rank"]) == (1.5, 1.5)
    assert (metrics["image_retrieval_mean_rank"], metrics["image_retrieval_median_rank"]) == (1.5, 1.0)


def test_any_of_several_texts_will_do() -> None:
    texts = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.1, 0.9]])  # the first belongs to image 0, and lies by image 1
    found = retrieve(torch.eye(2), texts, torch.tensor([0, 0, 1]))
    assert found.texts.tolist() == [0, 1]
    assert found.images.tolist() == [1, 0, 0]


def test_a_collapsed_model_is_at_chance() -> None:
    found = retrieve(torch.ones(10, 3), torch.ones(20, 3), torch.arange(20) // 2)
    metrics = found.metrics()
    assert metrics["image_retrieval_recall@1"] == metrics["text_retrieval_recall@1"] == 0.1
    assert metrics["text_retrieval_recall@10"] == 0.5


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**31))
@settings(max_examples=60)
def test_as_plain_sorting_has_it(images: int, texts_each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(images), texts_each))
    scores = rng.integers(0, 3, (images, len(owner))).astype(np.float32)  # many ties
    found = retrieve(torch.from_numpy(scores), torch.eye(len(owner)), owner)
    for i in range(images):
        order = sorted(range(len(owner)), key=lambda t: -scores[i, t])
        assert found.texts[i] == min(order.index(t) for t in np.flatnonzero(owner == i))
    for t in range(len(owner)):
        order = sorted(range(images), key=lambda i: -scores[i, t])
        assert found.images[t] == order.index(owner[t])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    image_features, text_features = torch.randn(44, 6, generator=torch.Generator().manual_seed(0)).split([11, 33])
    owner = torch.arange(33) % 11
    whole = retrieve(image_features, text_features, owner)
    monkeypatch.setattr("training_smoke.evaluate.retrieval.ROWS", 4)
    parts = retrieve(image_features, text_features, owner)
    np.testing.assert_array_equal(whole.images, parts.images)
    np.testing.assert_array_equal(whole.texts, parts.texts)


@pytest.mark.parametrize("owner", [[0, 0, 0], [0, 1, 2], [0, 1], [0, 1, -1]])
def test_everything_needs_a_partner(owner: list[int]) -> None:
    with pytest.raises(TrainingError, match="no partner"):
        retrieve(torch.eye(2), torch.randn(3, 2), torch.tensor(owner))


@pytest.mark.parametrize("broken", ["images", "texts"])
def test_nan_is_refused(broken: str) -> None:
    good, bad = torch.eye(2), torch.tensor([[float("nan"), 0.0], [0.0, 1.0]])
    with pytest.raises(TrainingError, match="NaN"):
        retrieve(bad if broken == "images" else good, bad if broken == "texts" else good, torch.arange(2))
