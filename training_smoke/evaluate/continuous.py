"""Measures that move before accuracy does, for small models: held-out loss, rank of the positive, AUROC, AP.

    held_out(objective, image_features, text_features)        # loss, positive_rank, auroc
    positive_rank(image_features, text_features)
    auroc(scores, clean), average_precision(scores, clean)

Rankings by such measures at a small scale foretell those by accuracy at a larger one better than accuracy does
(Magnusson et al. 2025, "DataDecide").
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from stages.auroc import auroc as chance_above
from training_smoke.errors import TrainingError
from training_smoke.evaluate.hyperbolic import OnHyperboloid
from training_smoke.evaluate.pictures import rolled
from training_smoke.evaluate.retrieval import retrieve

Objective = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(image_features, text_features, groups) -> loss; what training_smoke.objectives has."""


def held_out_loss(
    objective: Objective, image_features: Tensor, text_features: Tensor, *, batch: int, groups: Tensor | None = None
) -> float:
    """Mean training loss over full batches of held-out pairs, taken in order; an incomplete last one is left out.

    A contrastive loss depends on how many candidates there are: compare only values of one `batch`, best that of
    training. The candidates are those of the batch, so the order of pairs is part of the measure: keep it.

    Args:
        objective: the model's own, with its scale and bias.
        image_features, text_features: float [n, dim], as encoded, row i of one belonging to row i of the other.
        groups: int64 [n] or None: pairs of one group are no negatives of each other.

    Raises:
        TrainingError: fewer pairs than one batch.
    """
    n = len(image_features) // batch * batch
    if not n:
        raise TrainingError(f"{len(image_features)} held-out pairs do not fill one batch of {batch}")
    with torch.no_grad():
        losses = [
            objective(
                image_features[i : i + batch],
                text_features[i : i + batch],
                None if groups is None else groups[i : i + batch],
            )
            for i in range(0, n, batch)
        ]
    return float(torch.stack(losses).double().mean())


def positive_rank(image_features: Tensor, text_features: Tensor) -> float:
    """Mean rank of the right partner among all n, from 1, over both directions; chance is (n + 1) / 2.

    Args:
        image_features, text_features: float [n, dim], row i of one belonging to row i of the other.
    """
    found = retrieve(image_features, text_features, torch.arange(len(image_features)))
    return float(found.images.mean() + found.texts.mean()) / 2 + 1


def held_out(objective: Objective, image_features: Tensor, text_features: Tensor, batch: int = 256) -> dict[str, float]:
    """Of held-out pairs: their loss (over batches of `batch`, or of all if there are fewer), the mean rank of the
    positive, and how well similarity tells right pairs from wrong ones (each image with another's text).

    Args:
        objective: of the training, with its scale and bias; it is moved to main memory.
        image_features, text_features: float [n, dim], as encoded, row i of one belonging to row i of the other.
    """
    loss = held_out_loss(objective, image_features, text_features, batch=min(batch, len(image_features)))
    return {"loss": loss} | told_apart(image_features, text_features)


def told_apart(image_features: Tensor, text_features: Tensor) -> dict[str, float]:
    """The mean rank of the positive, and how well similarity tells right pairs from wrong ones: each image with a text
    of another, drawn without regard to the order of the set (`rolled`).

    Args:
        image_features, text_features: float [n, dim], row i of one belonging to row i of the other.
    """
    n = len(image_features)
    right = (image_features * text_features).sum(dim=1)
    wrong = (image_features * rolled(text_features)).sum(dim=1)
    return {
        "positive_rank": positive_rank(image_features, text_features),
        "auroc": auroc(torch.cat([right, wrong]).numpy(), np.arange(2 * n) < n),
    }


def class_loss(objective: Objective, features: Tensor, head: Tensor, labels: np.ndarray) -> float:
    """Cross-entropy of the right class among all, at the scale that training learned.

    Args:
        features: float [n, dim]. head: float [classes, dim]. labels: int64 [n].
    """
    if isinstance(objective, OnHyperboloid):
        logits = objective.logits(features, head)
    else:
        scale = objective.logit_scale.detach().cpu().exp()  # type: ignore[attr-defined]
        logits = scale * (features @ head.T)
    return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)))


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """The chance that a positive scores above a negative, ties counting half: Mann-Whitney U / (positives negatives).

    Example: scores [.1, .4, .4, .8], positive [0, 0, 1, 1]: (.5 + 1 + 1 + 1) / 4 = 0.875.

    Args:
        scores: float [n]. positive: bool [n].

    Raises:
        TrainingError: only one kind, or a score that is not finite.
    """
    score, truth = _checked(scores, positive)
    if truth.all():
        raise TrainingError("AUROC needs negatives too")
    return chance_above(score, truth)


def average_precision(scores: ArrayLike, positive: ArrayLike) -> float:
    """Sum over thresholds of (recall gained) x precision, items of one score entering together.

    Independent of the order of ties, as scikit-learn's average_precision_score. Example: scores [.1, .4, .4, .8],
    positive [0, 0, 1, 1]: .5 x 1 + .5 x 2/3 = 0.8333.

    Args:
        scores: float [n]. positive: bool [n].

    Raises:
        TrainingError: no positive, or a score that is not finite.
    """
    score, truth = _checked(scores, positive)
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    hits = np.cumsum(truth[order])[last_of_tie]
    taken = np.flatnonzero(last_of_tie) + 1
    return float((np.diff(hits, prepend=0) * hits / taken).sum() / truth.sum())


def _checked(scores: ArrayLike, positive: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    score, truth = np.asarray(scores, np.float64), np.asarray(positive, bool)
    if score.shape != truth.shape or score.ndim != 1:
        raise ValueError(f"scores {score.shape} and truth {truth.shape} must be lists of one length")
    if not np.isfinite(score).all():
        raise TrainingError("a score is NaN or infinite; leave such samples out before measuring, and say how many")
    if not truth.any():
        raise TrainingError("no positive among the samples: nothing to measure")
    return score, truth
