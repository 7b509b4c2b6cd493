"""Classes told by a model that writes: the right one is whose prompts are the likeliest texts of the picture.

found = by_likelihood(model, folder, "test", Effort())
found.metrics["acc1"], found.metrics["acc1_per_token"], found.metrics["acc1_over_blind"]

Tschannen et al. 2023, "Image Captioners Are Scalable Vision Learners Too", arXiv:2306.07915, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training_smoke.abilities import Captioner
from training_smoke.errors import TrainingError
from training_smoke.evaluate.effort import Effort
from training_smoke.evaluate.folders import Folder
from training_smoke.evaluate.measured import Measured
from training_smoke.evaluate.pictures import BATCH, FEWEST, grey, part, rolled
from training_smoke.evaluate.zero_shot import Predictions, predict, prompts


@dataclass(frozen=True)
class Scores:
    """Mean over templates of the log likelihood of a class's prompts, in nats, float64 [n, classes]: of all tokens, and
    of a token."""

    total: np.ndarray
    per_token: np.ndarray


def by_likelihood(model: Captioner, folder: Folder, split: str, effort: Effort) -> Measured:
    """Accuracy by log p(prompt | picture), and beside it by that of a token (which does not prefer short names), and by
    log p(prompt | picture) - log p(prompt | grey), what the picture adds (which does not prefer common names: Holtzman
    et al. 2021, arXiv:2104.08315). loss: cross-entropy of the classes under the first.

    Each picture is scored with every class, so it is a part of the set, and of the templates, that is asked: `n`,
    `n_set` and `templates` tell how much.

    Raises:
        TrainingError: too few pictures, in the set or by the effort; a label that is no class, or likelihoods that are
            not finite.
    """
    if reason := too_many(folder, effort):
        raise TrainingError(reason)
    classes = len(folder.classnames)
    templates = folder.templates[: max(1, effort.pairs // (classes * effort.pictures))]
    asked = [prompts([name], templates) for name in folder.classnames]
    most = min(effort.pictures, effort.pairs // classes)
    some = part(folder.samples(split), model.image_size, most, folder.path)
    labels = np.asarray(some.answers, np.int64)
    own, blind = scores(model, some.images, asked), scores(model, grey(some.images[:1]), asked)
    found = _predicted(own.total, labels)
    counts = {"n": len(some), "n_set": some.total, "templates": len(templates)}
    metrics: dict[str, Any] = found.metrics() | counts
    metrics["loss"] = -float(torch.from_numpy(own.total).log_softmax(1)[np.arange(len(some)), labels].mean())
    others = {
        "acc1_per_token": own.per_token,
        "acc1_over_blind": own.total - blind.total,
        "acc1_blind": blind.total.repeat(len(some), axis=0),
        "acc1_shuffled": rolled(own.total),
    }
    every = {"acc1": found} | {name: _predicted(values, labels) for name, values in others.items()}
    items = {name: one.correct().astype(np.float64) for name, one in every.items()}
    return Measured(metrics | {name: float(values.mean()) for name, values in items.items()}, items).of(some.numbers)


def too_many(folder: Folder, effort: Effort) -> str | None:
    """Why the classes of this set are too many to be told by likelihood with so much effort, where they are."""
    classes = len(folder.classnames)
    if effort.pairs >= FEWEST * classes:
        return None
    return (
        f"{folder.path}: its {classes:,} classes are told by the likelihood of each of their prompts, and "
        f"{effort.pairs:,} pairs of a picture and a prompt are {effort.pairs // classes} pictures: it takes "
        f"{FEWEST * classes:,} pairs"
    )


def scores(model: Captioner, images: Tensor, asked: list[list[str]]) -> Scores:
    """
    Args:
        images: uint8 [n, 3, size, size]. asked: for each class as many prompts.

    Raises:
        TrainingError: a likelihood is not finite.
    """
    flat = [prompt for some in asked for prompt in some]
    losses, tokens = np.zeros((2, len(images) * len(flat)))
    for start in range(0, len(losses), BATCH):
        rows = torch.arange(start, min(start + BATCH, len(losses)))
        found = model.caption_loss(images[rows // len(flat)], [flat[i] for i in (rows % len(flat)).tolist()])
        losses[start : start + BATCH], tokens[start : start + BATCH] = (side.double().numpy() for side in found)
    if not np.isfinite(losses).all():
        raise TrainingError("likelihoods of texts have NaN or infinity: this model cannot be evaluated; see its loss")
    shape = (len(images), len(asked), -1)
    return Scores(-losses.reshape(shape).mean(2), -(losses / tokens).reshape(shape).mean(2))


def _predicted(values: np.ndarray, labels: np.ndarray) -> Predictions:
    """Of equal scores the lower class."""
    return predict(torch.from_numpy(values), torch.eye(values.shape[1], dtype=torch.float64), labels)
