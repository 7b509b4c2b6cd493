"""What is measured of a model on one set: metrics, and for each item what it has to do with the main one.

    found = classification(model, Folder.open("evalsets/wds_cifar10_test"), "test", None)
    found.metrics["acc1"], found.items["acc1"].mean()             # the same number

Numbers of single items are for `training_smoke.statistics.bootstrap_items`: how far could a difference of two models be
off for the choice of test items?
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.evaluate import winogavil
from training_smoke.evaluate.continuous import Objective, average_precision, class_loss, held_out, told_apart
from training_smoke.evaluate.encode import Encoders, ImageEncoder, encode_texts, image_batches
from training_smoke.evaluate.folders import Folder, Sample
from training_smoke.evaluate.groups import worst_group
from training_smoke.evaluate.hyperbolic import HyperbolicEncoders
from training_smoke.evaluate.measured import Measured
from training_smoke.evaluate.pictures import grey_sample, rolled
from training_smoke.evaluate.rerank import Pairs
from training_smoke.evaluate.retrieval import Retrieved, retrieve
from training_smoke.evaluate.tables import CaptionTable, Instance
from training_smoke.evaluate.tasks import WORST_GROUP
from training_smoke.evaluate.zero_shot import Predictions, predict, prompts, zero_shot_head

FEW = 100
"""Groups of fewer items are left out of the steadier worst-group figure that stands beside DataComp's."""

Captioned = Folder | CaptionTable


@dataclass(frozen=True)
class Encoded:
    """A split as features: float32 [n, dim], the answers of its samples, and their metadata where they have it."""

    features: Tensor
    answers: list[Any]
    metadata: list[np.ndarray | None]


def encode(model: ImageEncoder, samples: Iterable[Sample]) -> Encoded:
    """Features of a whole split in memory; the pictures are let go.

    Raises:
        TrainingError: no samples; and what `image_batches` raises.
    """
    features: list[Tensor] = []
    answers: list[Any] = []
    metadata: list[np.ndarray | None] = []
    for rows, some in image_batches(model, samples):
        features.append(rows)
        answers += [s.answer for s in some]
        metadata += [s.metadata for s in some]
    if not features:
        raise TrainingError("the evaluation set has no samples")
    return Encoded(torch.cat(features), answers, metadata)


# ---- classes


def classification(model: Encoders, folder: Folder, split: str, objective: Objective | None) -> Measured:
    encoded, head = encode(model, folder.samples(split)), classifier(model, folder)
    labels = np.asarray(encoded.answers, np.int64)
    predictions = predict(encoded.features, head, labels)
    metrics = predictions.metrics() | {"n": len(labels)}
    if objective is not None:
        metrics["loss"] = class_loss(objective, encoded.features, head, labels)
    items = items_of_classes(predictions)
    for control, features in _controls(model, encoded.features).items():
        items[f"acc1{control}"] = predict(features, head, labels).correct().astype(np.float64)
        metrics[f"acc1{control}"] = float(items[f"acc1{control}"].mean())
    return Measured(metrics, items)


def _controls(model: Encoders, features: Tensor) -> dict[str, Tensor]:
    """Features [n, dim] of as many grey pictures, and of others'."""
    blind = encode(model, [grey_sample(model.image_size)]).features
    return {"_blind": blind.expand(len(features), -1), "_shuffled": rolled(features)}


def items_of_classes(found: Predictions) -> dict[str, np.ndarray]:
    """Right or wrong; for the mean recall of classes, weighted so that each class has the same part in the mean."""
    right = found.correct().astype(np.float64)
    _, index, counts = np.unique(found.labels, return_inverse=True, return_counts=True)
    return {"acc1": right, "mean_per_class_recall": right * len(right) / (len(counts) * counts[index])}


def classified(model: Encoders, folder: Folder, split: str = "test") -> tuple[Predictions, Encoded]:
    """What zero-shot classification says of every sample."""
    encoded = encode(model, folder.samples(split))
    return predict(encoded.features, classifier(model, folder), np.asarray(encoded.answers, np.int64)), encoded


def classifier(model: Encoders, folder: Folder) -> Tensor:
    """The zero-shot head of a folder's class names and templates: float32 [classes, dim]."""
    features = encode_texts(model, prompts(folder.classnames, folder.templates))
    features = features.view(len(folder.classnames), len(folder.templates), -1)
    return model.class_vectors(features) if isinstance(model, HyperbolicEncoders) else zero_shot_head(features)


def multilabel(model: Encoders, folder: Folder, split: str, objective: Objective | None) -> Measured:
    """Mean over the classes that occur of their average precision; by its nature continuous, with any objective."""
    del objective
    encoded = encode(model, folder.samples(split))
    truth = np.stack(encoded.answers) > 0  # [n, classes]
    if truth.shape[1] != len(folder.classnames):
        raise TrainingError(f"labels say {truth.shape[1]} classes, classnames.txt says {len(folder.classnames)}")
    head = classifier(model, folder)
    metrics = {"mean_average_precision": _precision(encoded.features, head, truth), "n": len(truth)}
    for control, features in _controls(model, encoded.features).items():
        metrics[f"mean_average_precision{control}"] = _precision(features, head, truth)
    return Measured(metrics)


def _precision(features: Tensor, head: Tensor, truth: np.ndarray) -> float:
    scores = (features @ head.T).numpy()  # [n, classes]
    return float(np.mean([average_precision(scores[:, c], truth[:, c]) for c in np.flatnonzero(truth.any(0))]))


def worst_group_accuracy(model: Encoders, folder: Folder, main: str) -> Measured:
    """Classification with the accuracy of the worst group, groups being the first number of each sample's .npy."""
    predictions, encoded = classified(model, folder)
    first = [m.flat[0] for m in encoded.metadata if m is not None and m.size]
    if len(first) != len(encoded.metadata):
        raise TrainingError(f"{folder.path}: {main} needs groups, but samples have no .npy beside .cls")
    groups = np.array(first, np.int64)
    correct = predictions.correct(WORST_GROUP[main])
    every = worst_group(correct, groups, minimum=1)
    steadier = worst_group(correct, groups, minimum=FEW).worst if max(every.counts.values()) >= FEW else None
    found = {main: every.worst, f"{main}_min{FEW}": steadier, "n": len(groups)}
    return Measured(predictions.metrics() | found)


# ---- captions


def retrieval(model: Encoders, source: Captioned, split: str, objective: Objective | None) -> Measured:
    """As `retrieved`, of a set that is not encoded yet."""
    return retrieved(encode_pairs(model, source, split), objective)


def encode_pairs(model: Encoders, source: Captioned, split: str) -> Pairs:
    """Features of all pictures, of all their captions, and of a grey picture.

    Raises:
        TrainingError: as `encode`.
    """
    encoded = encode(model, source.samples(split))
    captions = [caption for captions in encoded.answers for caption in captions]
    owner = np.repeat(np.arange(len(encoded.answers)), [len(c) for c in encoded.answers])
    blind = encode(model, [grey_sample(model.image_size)]).features[0]
    return Pairs(encoded.features, encode_texts(model, captions), captions, owner, blind)


def retrieved(pairs: Pairs, objective: Objective | None) -> Measured:
    """Both ways over all pictures and all their captions; held-out measures over each picture's first caption; and what
    is found when every picture is grey, or another one."""
    n, owner = len(pairs.images), pairs.image_of_text
    first = pairs.texts[torch.from_numpy(np.unique(owner, return_index=True)[1])]
    found = retrieve(pairs.images, pairs.texts, owner)
    apart = told_apart(pairs.images, first) if objective is None else held_out(objective, pairs.images, first)
    metrics = found.metrics() | {"n": n} | apart
    items = items_of_pictures(found, owner)
    for control, images in (("_blind", pairs.blind.expand(n, -1)), ("_shuffled", rolled(pairs.images))):
        of_control = items_of_pictures(retrieve(images, pairs.texts, owner), owner)
        items |= {f"{name}{control}": values for name, values in of_control.items()}
    metrics |= {name: float(values.mean()) for name, values in items.items() if name not in metrics}
    return Measured(metrics, items)


def items_of_pictures(found: Retrieved, image_of_text: np.ndarray) -> dict[str, np.ndarray]:
    """A picture with its captions is one item, as they are drawn together: half of what it finds at once, and half of
    how many of its captions find it."""
    finds, n = found.texts < 1, len(found.texts)
    found_by = np.bincount(image_of_text, weights=found.images < 1, minlength=n) * n / len(image_of_text)
    return {"mean_recall@1": (finds + found_by) / 2}


def associate(model: Encoders, instances: Iterable[Instance]) -> Measured:
    """WinoGAViL. A picture stands in many instances and is encoded once."""
    row_of: dict[bytes, int] = {}
    asked: list[tuple[str, list[bytes], np.ndarray]] = []

    def unseen() -> Iterator[Sample]:
        for instance in instances:
            digests = [hashlib.blake2b(image, digest_size=16).digest() for image in instance.images]
            asked.append((winogavil.prompt(instance.cue), digests, instance.associated))
            for digest, image in zip(digests, instance.images, strict=True):
                if digest not in row_of:
                    row_of[digest] = len(row_of)
                    yield Sample(instance.name, image, ())

    features = encode(model, unseen()).features
    cues = encode_texts(model, [cue for cue, _, _ in asked])
    scores = [
        winogavil.jaccard((features[[row_of[d] for d in digests]] @ cue).numpy(), associated)
        for cue, (_, digests, associated) in zip(cues, asked, strict=True)
    ]
    sizes = np.array([len(digests) for _, digests, _ in asked])
    metrics = winogavil.metrics(scores, sizes) | {"n": len(asked)}
    return Measured(metrics, {"jaccard_score_10-12": np.asarray(scores, np.float64)[sizes >= 10]})
