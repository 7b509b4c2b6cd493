"""What frozen features know when labels are given: logistic regression, and the vote of nearest neighbours.

    probe = linear_probe(train_features, train_labels, classes=10)
    probe.predict(test_features, test_labels).metrics()
    knn(train_features, train_labels, test_features, classes=10, k=20)             # int64 [n]

The probe follows Radford et al. 2021, A.3: L-BFGS, at most 1,000 iterations, the L2 strength chosen on a part of the
training set that is held out, then a fit on all of it. The vote follows Wu et al. 2018, "Unsupervised Feature Learning
via Non-Parametric Instance Discrimination": neighbours weigh exp(cosine / 0.07).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.evaluate.ranks import ROWS, require_finite
from training_smoke.evaluate.zero_shot import Predictions, predict

STRENGTHS = tuple(10.0**e for e in range(1, -9, -1))
"""Weights of the penalty that are tried, strongest first. scikit-learn's C is 1 / (strength x items)."""


@dataclass(frozen=True)
class LinearProbe:
    """weight [classes, dim], bias [classes], double. strength: the penalty it was fitted with.

    converged: the optimiser met its tolerance within 1,000 iterations. held_out: accuracy by strength on the part held
    out; empty where one strength was given.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    converged: bool
    held_out: dict[float, float]

    def predict(self, features: Tensor, labels: np.ndarray) -> Predictions:
        """Of features float [n, dim] with labels int64 [n]."""
        return predict(features.to(self.weight), self.weight, labels, bias=self.bias)


def linear_probe(
    features: Tensor,
    labels: np.ndarray,
    *,
    classes: int,
    strengths: Sequence[float] = STRENGTHS,
    held_out: float = 0.2,
    seed: int = 0,
) -> LinearProbe:
    """Logistic regression with the best of several penalties; of equally accurate ones the strongest.

    Args:
        features: float [n, dim]; computed with in double, on their device.
        labels: int64 [n].
        held_out: share of each class that chooses the penalty, drawn by `seed`.

    Raises:
        TrainingError: features not finite, a label that is no class, or classes too small to hold anything out.
    """
    labels = np.asarray(labels, np.int64)
    require_finite(features)
    if len(labels) != len(features) or not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise TrainingError(f"{len(labels)} labels for {len(features)} items and {classes} classes do not fit")
    accuracy = {} if len(strengths) == 1 else _sweep(features, labels, classes, strengths, held_out, seed)
    best = max(sorted(strengths, reverse=True), key=lambda s: accuracy.get(s, 0.0))
    weight, bias, converged = fit(features, labels, classes, best)
    return LinearProbe(weight, bias, best, converged, accuracy)


def _sweep(
    features: Tensor, labels: np.ndarray, classes: int, strengths: Sequence[float], share: float, seed: int
) -> dict[float, float]:
    """Accuracy on the part held out, by strength: a path from strong to weak, each fit starting from the one before."""
    chosen = held_out_part(labels, share, seed)
    if not chosen.any():
        raise TrainingError(f"no class has enough items to hold out {share:.0%}: give one strength instead of several")
    mask = torch.from_numpy(chosen).to(features.device)
    accuracy, start = {}, None
    for strength in sorted(strengths, reverse=True):
        weight, bias, _ = start = fit(features[~mask], labels[~chosen], classes, strength, start)
        found = predict(features[mask].to(weight), weight, labels[chosen], bias=bias)
        accuracy[strength] = float(found.correct().mean())
    return accuracy


def held_out_part(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """bool [n]: floor(share x size) of each class, by the seed; a class of few items may have none."""
    order = np.argsort(np.random.Philox(key=seed).random_raw(len(labels)), kind="stable")
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # within its class
    chosen = np.zeros(len(labels), bool)
    chosen[by_class] = place < np.repeat(np.floor(share * counts), counts)
    return chosen


def fit(
    features: Tensor,
    labels: np.ndarray,
    classes: int,
    strength: float,
    start: tuple[Tensor, Tensor, bool] | None = None,
) -> tuple[Tensor, Tensor, bool]:
    """Minimises mean cross-entropy + strength / 2 |W|^2 over W and the bias, which is not penalised.

    With strength > 0 the minimum is unique in W, so the start decides how long it takes and not what comes out.

    Returns:
        weight [classes, dim], bias [classes], double, on the features' device; whether it converged.
    """
    x = features.double()  # [n, dim]
    y = F.one_hot(torch.from_numpy(labels).to(x.device), classes).double()  # [n, classes]

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = _unpacked(parameters, classes, x)
        log_p = F.log_softmax(x @ weight.T + bias, dim=1)
        loss = -(y * log_p).sum() / len(x) + strength / 2 * weight.square().sum()
        error = (log_p.exp() - y) / len(x)
        gradient = torch.cat([error.T @ x + strength * weight, error.sum(0).unsqueeze(1)], dim=1)
        return float(loss), gradient.cpu().numpy().ravel()

    before = torch.zeros(classes, x.shape[1] + 1) if start is None else torch.cat([start[0], start[1][:, None]], 1)
    options = {"maxiter": 1000, "maxfun": 2000, "gtol": 1e-8, "ftol": 1e-12}
    found = minimize(
        loss_and_gradient, before.double().cpu().numpy().ravel(), jac=True, method="L-BFGS-B", options=options
    )
    weight, bias = _unpacked(found.x, classes, x)
    return weight, bias, bool(found.success)


def _unpacked(parameters: np.ndarray, classes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.from_numpy(parameters.reshape(classes, -1)).to(like)
    return both[:, :-1], both[:, -1]


def knn(
    train_features: Tensor,
    train_labels: np.ndarray,
    features: Tensor,
    *,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """The class with most votes among the k nearest; of equal votes the lower class.

    All neighbours as near as the k-th vote, so that the order of the training set does not matter.

    Args:
        train_features: float [m, dim], unit length. train_labels: int64 [m]. features: float [n, dim], unit length.

    Returns:
        int64 [n].

    Raises:
        TrainingError: fewer than k training items, or features not finite.
    """
    if not 1 <= k <= len(train_features):
        raise TrainingError(f"{k} neighbours of {len(train_features)} training items: k must be from 1 to that many")
    labels = torch.from_numpy(np.asarray(train_labels, np.int64)).to(features.device)
    predicted = []
    for rows in features.split(ROWS):
        cosine = rows @ train_features.T  # [rows, m]
        require_finite(cosine)
        nearest = cosine.topk(k, dim=1).values[:, -1:]
        weights = torch.where(cosine >= nearest, ((cosine - 1) / temperature).exp(), 0.0)
        votes = torch.zeros(len(rows), classes, dtype=weights.dtype, device=weights.device)
        predicted.append(votes.index_add_(1, labels, weights).argmax(1))
    return torch.cat(predicted).cpu().numpy()
