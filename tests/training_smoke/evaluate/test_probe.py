"""The linear probe is at the minimum it claims, chooses its penalty on held-out items; the vote of neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training_smoke.errors import TrainingError
from training_smoke.evaluate.probe import fit, held_out_part, knn, linear_probe


def blobs(n: int, classes: int = 3, dim: int = 6, noise: float = 0.6, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.eye(classes, dim)
    return F.normalize(centres[labels] + noise * torch.randn(n, dim, generator=generator), dim=-1), labels.numpy()


@pytest.mark.parametrize("strength", [1.0, 1e-3])
def test_the_fit_is_where_the_gradient_is_zero(strength: float) -> None:
    features, labels = blobs(60)
    weight, bias, converged = fit(features, labels, 3, strength)
    weight.requires_grad_()
    bias.requires_grad_()
    loss = F.cross_entropy(features.double() @ weight.T + bias, torch.from_numpy(labels))
    (loss + strength / 2 * weight.square().sum()).backward()
    assert converged
    assert weight.grad is not None
    assert bias.grad is not None
    assert weight.grad.abs().max() < 1e-6
    assert bias.grad.abs().max() < 1e-6


def test_the_start_does_not_decide() -> None:
    features, labels = blobs(60)
    cold = fit(features, labels, 3, 1e-2)
    warm = fit(features, labels, 3, 1e-2, start=fit(features, labels, 3, 10.0))
    torch.testing.assert_close(warm[0], cold[0], atol=1e-5, rtol=0)


def test_a_strong_penalty_leaves_the_frequencies() -> None:
    features, _ = blobs(40)
    labels = np.array([0] * 30 + [1] * 10)
    weight, bias, _ = fit(features, labels, 2, 1e6)
    torch.testing.assert_close(
        torch.softmax(bias, 0), torch.tensor([0.75, 0.25], dtype=torch.float64), atol=1e-4, rtol=0
    )
    assert weight.abs().max() < 1e-4


def test_the_penalty_is_chosen_on_the_part_held_out() -> None:
    features, labels = blobs(150, dim=100, noise=0.3)  # more dimensions than classes can fill: over-fitting costs
    probe = linear_probe(features, labels, classes=3)
    assert probe.held_out[probe.strength] == max(probe.held_out.values())
    best = [s for s, accuracy in probe.held_out.items() if accuracy == max(probe.held_out.values())]
    assert probe.strength == max(best)
    test_features, test_labels = blobs(300, dim=100, noise=0.3, seed=1)
    assert probe.predict(test_features, test_labels).metrics()["acc1"] > 0.6


def test_labels_at_random_teach_nothing() -> None:
    features, _ = blobs(200)
    test_features, test_labels = blobs(300, seed=2)
    labels = np.random.default_rng(0).integers(0, 3, 200)
    accuracy = linear_probe(features, labels, classes=3).predict(test_features, test_labels).metrics()["acc1"]
    assert abs(accuracy - 1 / 3) < 0.25


def test_one_strength_holds_nothing_out() -> None:
    features, labels = blobs(6)
    probe = linear_probe(features, labels, classes=3, strengths=[0.1])
    assert (probe.held_out, probe.strength) == ({}, 0.1)


def test_the_held_out_part_is_even_over_classes_and_keyed() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [50, 20, 4, 1]))
    chosen = held_out_part(labels, 0.2, seed=3)
    assert np.bincount(labels[chosen], minlength=4).tolist() == [10, 4, 0, 0]
    np.testing.assert_array_equal(chosen, held_out_part(labels, 0.2, seed=3))
    assert (chosen != held_out_part(labels, 0.2, seed=4)).any()


@pytest.mark.parametrize(
    ("labels", "said"), [([0, 1, 3], "do not fit"), ([0, 1], "do not fit"), ([0, 1, 2], "hold out")]
)
def test_what_cannot_be_probed(labels: list[int], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        linear_probe(torch.eye(3), np.array(labels), classes=3)


def test_neighbours_vote_by_nearness() -> None:
    train = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [0.2, 1.0]]), dim=-1)
    labels = np.array([0, 0, 1, 1, 1])
    asked = F.normalize(torch.tensor([[1.0, 0.05], [0.05, 1.0]]), dim=-1)
    assert knn(train, labels, asked, classes=2, k=3).tolist() == [0, 1]
    assert knn(train, labels, asked, classes=2, k=5).tolist() == [0, 1]  # three far ones do not outvote two near ones


def test_ties_of_neighbours_do_not_depend_on_order() -> None:
    train, labels = torch.ones(6, 1), np.array([2, 1, 1, 2, 2, 0])
    for order in (np.arange(6), np.arange(6)[::-1].copy()):
        assert knn(train[order], labels[order], torch.ones(1, 1), classes=3, k=1).tolist() == [2]


def test_neighbours_by_brute_force() -> None:
    train, labels = blobs(80, noise=1.0)
    asked, _ = blobs(30, noise=1.0, seed=5)
    cosine = (asked @ train.T).numpy()
    expected = []
    for row in cosine:
        votes = np.zeros(3)
        for j in np.argsort(-row)[:7]:
            votes[labels[j]] += np.exp(row[j] / 0.07)
        expected.append(int(votes.argmax()))
    assert knn(train, labels, asked, classes=3, k=7).tolist() == expected


def test_more_neighbours_than_there_are() -> None:
    with pytest.raises(TrainingError, match="4 neighbours of 3"):
        knn(torch.eye(3), np.arange(3), torch.eye(3), classes=3, k=4)
