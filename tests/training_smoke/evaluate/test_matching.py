"""Pairs that are matched, of pictures that are all different, by one who knows them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from training_smoke.errors import TrainingError
from training_smoke.evaluate.effort import Effort
from training_smoke.evaluate.matching import matching
from training_smoke.evaluate.pictures import Pictures, others
from training_smoke.evaluate.rerank import Pairs, reranked


class Knows:
    """Picture i is all i; text j is "j"; `wrong` of them it mistakes."""

    image_size = 4

    def __init__(self, wrong: Sequence[int] = ()) -> None:
        self.wrong = set(wrong)

    def match(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        same = torch.tensor([int(i[0, 0, 0]) == int(t) for i, t in zip(images, texts, strict=True)])
        mistaken = torch.tensor([int(t) in self.wrong for t in texts])
        return torch.where(same ^ mistaken, 0.8, 0.1)


class Broken(Knows):
    def match(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        return super().match(images, texts) * torch.nan


def numbered(n: int) -> Pictures:
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).repeat(1, 3, 4, 4)
    return Pictures(images, [(str(i),) for i in range(n)], [str(i) for i in range(n)], [])


@pytest.mark.parametrize("n", [4, 5, 6, 7, 12, 31, 100])
def test_controls_belong_to_no_text(n: int) -> None:
    metrics = matching(Knows(), numbered(n)).metrics
    assert metrics["itm_accuracy"] == metrics["itm_auroc"] == metrics["itm_pair_accuracy"] == 1
    for control in ("blind", "shuffled"):
        assert metrics[f"itm_accuracy_{control}"] == 0.5  # "no" to all
        assert metrics[f"itm_auroc_{control}"] == metrics[f"itm_pair_accuracy_{control}"] == 0.5


class Cautious(Knows):
    """Says no to nearly all, as after training on many wrong pairs."""

    def match(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        return super().match(images, texts) / 2


def test_which_of_two_does_not_depend_on_the_prior() -> None:
    metrics = matching(Cautious(), numbered(8)).metrics
    assert (metrics["itm_accuracy"], metrics["itm_pair_accuracy"], metrics["itm_auroc"]) == (0.5, 1, 1)


def test_by_hand() -> None:
    """Text 0 is mistaken: no with its picture, yes with the one that it is the wrong text of: 3."""
    wrong = others(6, -2).tolist()
    assert wrong.index(0) == 3
    found = matching(Knows(wrong=[0]), numbered(6))
    assert found.items["itm_accuracy"].tolist() == [0.5, 1, 1, 0.5, 1, 1]
    assert found.metrics["itm_accuracy"] == pytest.approx(5 / 6)
    assert found.items["itm_pair_accuracy"].tolist() == [0.5, 1, 1, 0.5, 1, 1]  # no to both of 0, yes to both of 3
    # 5 of 6 right pairs are above 5 of 6 wrong ones; ties: 1 of 6 with 5 below, and 5 with the one above
    assert found.metrics["itm_auroc"] == pytest.approx((5 * 5 + 0.5 * 5 + 0.5 * 5) / 36)


def test_probabilities_that_are_none() -> None:
    with pytest.raises(TrainingError, match="no probability"):
        matching(Broken(), numbered(5))


# ---- after retrieval


def pairs_of(some: Pictures, noise: float, texts_each: int = 2) -> Pairs:
    n = len(some)
    draws = torch.Generator().manual_seed(0)
    images = torch.eye(n)
    owner = np.repeat(np.arange(n), texts_each)
    texts = images[torch.from_numpy(owner)] + noise * torch.randn(n * texts_each, n, generator=draws)
    captions = [str(i) for i in owner]
    return Pairs(images, normalize(texts, dim=1), captions, owner, normalize(torch.ones(n), dim=0))


def test_matches_order_what_vectors_found() -> None:
    some = numbered(40)
    pairs = pairs_of(some, noise=0.7)
    fetched: list[int] = []

    def fetch(numbers: object) -> dict[int, Tensor]:
        fetched.extend(sorted(numbers))  # type: ignore[call-overload]
        return {i: some.images[i] for i in fetched}

    metrics = reranked(Knows(), pairs, fetch, Effort(queries=40, k=40)).metrics
    assert metrics["retrieved_mean_recall@1"] < 0.8
    assert metrics["reranked_mean_recall@1"] == 1
    assert metrics["reranked_mean_recall@1_shuffled"] == 0
    assert metrics["reranked_mean_recall@1_blind"] <= 1 / 40
    assert fetched == list(range(40))
    metrics = reranked(Knows(), pairs, fetch, Effort(queries=40, k=1)).metrics
    assert metrics["reranked_mean_recall@1"] == metrics["retrieved_mean_recall@1"]


def test_a_second_implementation_of_reranking_agrees() -> None:
    """Loops over queries; texts 3 and 7 are mistaken, so that matching harms too."""
    some, model, k = numbered(30), Knows(wrong=[3, 7]), 4
    pairs = pairs_of(some, noise=0.5)
    found = reranked(model, pairs, lambda _: dict(enumerate(some.images)), Effort(queries=30, k=k))
    similar = (pairs.images.double() @ pairs.texts.double().T).numpy()  # [pictures, texts]
    right: dict[str, list[float]] = {"": [], "_shuffled": []}
    stands = {int(shown): place for place, shown in enumerate(others(30, 15))}
    for picture in range(30):
        text = 2 * picture
        first = sorted(range(60), key=lambda t: -similar[picture, t])[:k]
        best = max(first, key=lambda t: float(model.match(some.images[[picture]], [pairs.captions[t]])))
        by_text = sorted(range(30), key=lambda p: -similar[p, text])[:k]
        found_picture = max(by_text, key=lambda p: float(model.match(some.images[[p]], [pairs.captions[text]])))
        owner = int(pairs.captions[best])
        right[""].append(((owner == picture) + (found_picture == picture)) / 2)
        # picture p then stands in the place whose other it is
        right["_shuffled"].append(((stands[picture] == owner) + (stands[found_picture] == picture)) / 2)
    for control, values in right.items():
        assert found.items[f"reranked_mean_recall@1{control}"].tolist() == values
    assert 0.5 < found.metrics["reranked_mean_recall@1"] < 1
