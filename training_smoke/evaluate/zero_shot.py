"""Zero-shot classification: a class is the mean direction of its prompts, an image belongs to the nearest class.

    head = zero_shot_head(text_features)                          # [classes, templates, dim] -> [classes, dim]
    found = predict(image_features, head, labels)
    found.metrics()                                               # {"acc1": ..., "acc5": ..., ...}

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", 3.1.4; numbers and names
as CLIP_benchmark gives them (LAION-AI/CLIP_benchmark, metrics/zeroshot_classification.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.evaluate.ranks import ROWS, ranks


def prompts(classnames: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every template filled with every class name at {c}: the templates of the first class, then of the next."""
    return [template.replace("{c}", name) for name in classnames for template in templates]


def zero_shot_head(text_features: Tensor) -> Tensor:
    """Each prompt to unit length, their mean, to unit length again: w_c = norm(mean_t norm(f_ct)).

    The order of templates does not matter. Example: [[(1, 0), (0, 1)]] gives [(.7071, .7071)].

    Args:
        text_features: float [classes, templates, dim].

    Returns:
        [classes, dim], unit length, in the type of the features.
    """
    directions = F.normalize(text_features.double(), dim=-1)
    return F.normalize(directions.mean(dim=1), dim=-1).to(text_features.dtype)


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of n items; int64 [n] each.

    labels: the right classes. predicted: the classes with the best score. ranks: how many classes come before the
    right one (0: it is the prediction). classes: how many there are.
    """

    labels: np.ndarray
    predicted: np.ndarray
    ranks: np.ndarray
    classes: int

    def correct(self, k: int = 1) -> np.ndarray:
        """bool [n]: the right class is among the first k. What `bootstrap_items` and `worst_group` take."""
        return self.ranks < k

    def metrics(self) -> dict[str, Any]:
        """acc1, acc5 (None below five classes), mean_per_class_recall, F1-macro_all; mean_rank counts from 1."""
        return {
            "acc1": float(self.correct().mean()),
            "acc5": float(self.correct(5).mean()) if self.classes >= 5 else None,
            "mean_per_class_recall": mean_per_class_recall(self.labels, self.predicted),
            "F1-macro_all": macro_f1(self.labels, self.predicted),
            "mean_rank": float(self.ranks.mean()) + 1,
        }


def predict(features: Tensor, head: Tensor, labels: np.ndarray, bias: Tensor | None = None) -> Predictions:
    """Classes by the inner product with the head's rows, ties to the lower class.

    Args:
        features: float [n, dim].
        head: float [classes, dim].
        labels: int64 [n].
        bias: float [classes], for linear probes.

    Raises:
        TrainingError: no items, a label that is no class, or scores that are not finite.
    """
    labels = np.asarray(labels, np.int64)
    if not len(labels):
        raise TrainingError("nothing to classify: the set is empty")
    if labels.min() < 0 or labels.max() >= len(head):
        raise TrainingError(f"labels run from {labels.min()} to {labels.max()}, but there are {len(head)} classes")
    predicted, places = [], []
    targets = torch.from_numpy(labels).to(features.device)
    for rows, target in zip(features.split(ROWS), targets.split(ROWS), strict=True):
        scores = rows @ head.T  # [rows, classes]
        scores = scores if bias is None else scores + bias
        places.append(ranks(scores, target))
        predicted.append(scores.argmax(1))  # of equal scores the first, as torch documents
    return Predictions(labels, torch.cat(predicted).cpu().numpy(), torch.cat(places).cpu().numpy(), len(head))


def mean_per_class_recall(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes that occur of the share found; scikit-learn's balanced_accuracy_score."""
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return float((np.bincount(index, weights=labels == predicted) / counts).mean())


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes that occur of 2 hits / (occurrences + predictions).

    Classes that are only predicted count as wrong predictions and have no F1 of their own: WILDS' "F1-macro_all".
    Example: labels [0, 0, 1], predicted [0, 2, 1]: (2/3 + 1) / 2 = 0.8333.
    """
    size = int(max(labels.max(), predicted.max())) + 1
    occurring = np.bincount(labels, minlength=size)
    hits = np.bincount(labels[labels == predicted], minlength=size)
    f1 = 2 * hits / np.maximum(occurring + np.bincount(predicted, minlength=size), 1)
    return float(f1[occurring > 0].mean())
