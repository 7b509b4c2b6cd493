"""Evaluate a model on a folder, on one of the 38 tasks, or on all that lie below a root.

    evaluate(model, "evalsets/wds_cifar10_test")                  # {"dataset": ..., "task": ..., "metrics": {...}}
    summary, why = evaluate_tasks(model, "evalsets", "run/results.jsonl", checkpoint="<digest>")

Lines are those of CLIP_benchmark and DataComp, so that DataComp's aggregate_scores.py reads them too. Killed and
started again, `evaluate_tasks` goes on with the next task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.evaluate import winogavil
from training_smoke.evaluate.aggregate import Record, Summary, read_results, summarise, write_results
from training_smoke.evaluate.continuous import Objective, average_precision, class_loss, held_out
from training_smoke.evaluate.encode import Encoders, encode_texts, image_batches
from training_smoke.evaluate.folders import Folder, Sample
from training_smoke.evaluate.groups import worst_group
from training_smoke.evaluate.probe import knn, linear_probe
from training_smoke.evaluate.retrieval import retrieve
from training_smoke.evaluate.tables import AssociationTable, CaptionTable, Instance
from training_smoke.evaluate.tasks import TASKS, WORST_GROUP, Task
from training_smoke.evaluate.zero_shot import Predictions, predict, prompts, zero_shot_head

FEW = 100
"""Groups of fewer items are left out of the steadier worst-group figure that stands beside DataComp's."""

Captioned = Folder | CaptionTable
Source = Captioned | AssociationTable


@dataclass(frozen=True)
class Encoded:
    """A split as features: float32 [n, dim], the answers of its samples, and their metadata where they have it."""

    features: Tensor
    answers: list[Any]
    metadata: list[np.ndarray | None]


def encode(model: Encoders, samples: Iterable[Sample]) -> Encoded:
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


# ---- one set


def evaluate(
    model: Encoders,
    source: str | Captioned,
    *,
    split: str = "test",
    name: str | None = None,
    objective: Objective | None = None,
) -> Record:
    """Zero-shot metrics of the kind that the set is of; main_metric is acc1, mean_average_precision or mean_recall@1.

    Args:
        source: a folder by path or URL, or opened.
        name: what the line calls the set; its path where not given.
        objective: the one that the model was trained with: measures that move before accuracy does stand beside, see
            `continuous.held_out`.

    Raises:
        TrainingError: the folder, a sample or the model's features are not as they should be.
    """
    source = Folder.open(source) if isinstance(source, str) else source
    kind = source.kind if isinstance(source, Folder) else "retrieval"
    task, main, measured = MEASURES[kind]
    metrics = measured(model, source, split, objective)
    return {"dataset": name or source.path, "task": task, "metrics": metrics | {"main_metric": metrics[main]}}


def classification(model: Encoders, folder: Folder, split: str, objective: Objective | None) -> dict[str, Any]:
    encoded, head = encode(model, folder.samples(split)), classifier(model, folder)
    labels = np.asarray(encoded.answers, np.int64)
    found = predict(encoded.features, head, labels).metrics() | {"n": len(labels)}
    return found if objective is None else found | {"loss": class_loss(objective, encoded.features, head, labels)}


def classified(model: Encoders, folder: Folder, split: str = "test") -> tuple[Predictions, Encoded]:
    """What zero-shot classification says of every sample; `bootstrap_items` takes `.correct()` of two models."""
    encoded = encode(model, folder.samples(split))
    return predict(encoded.features, classifier(model, folder), np.asarray(encoded.answers, np.int64)), encoded


def classifier(model: Encoders, folder: Folder) -> Tensor:
    """The zero-shot head of a folder's class names and templates: float32 [classes, dim]."""
    features = encode_texts(model, prompts(folder.classnames, folder.templates))
    return zero_shot_head(features.view(len(folder.classnames), len(folder.templates), -1))


def multilabel(model: Encoders, folder: Folder, split: str, objective: Objective | None) -> dict[str, Any]:
    """Mean over the classes that occur of their average precision; by its nature continuous, with any objective."""
    del objective
    encoded = encode(model, folder.samples(split))
    truth = np.stack(encoded.answers) > 0  # [n, classes]
    if truth.shape[1] != len(folder.classnames):
        raise TrainingError(f"labels say {truth.shape[1]} classes, classnames.txt says {len(folder.classnames)}")
    scores = (encoded.features @ classifier(model, folder).T).numpy()  # [n, classes]
    found = [average_precision(scores[:, c], truth[:, c]) for c in np.flatnonzero(truth.any(0))]
    return {"mean_average_precision": float(np.mean(found)), "n": len(truth)}


def retrieval(model: Encoders, source: Captioned, split: str, objective: Objective | None) -> dict[str, Any]:
    """Both ways over all pictures and all their captions; held-out measures over each picture's first caption."""
    encoded = encode(model, source.samples(split))
    captions = [caption for captions in encoded.answers for caption in captions]
    image_of_text = np.repeat(np.arange(len(encoded.answers)), [len(c) for c in encoded.answers])
    texts = encode_texts(model, captions)
    found = retrieve(encoded.features, texts, image_of_text).metrics() | {"n": len(encoded.answers)}
    if objective is None:
        return found
    first = np.unique(image_of_text, return_index=True)[1]
    return found | held_out(objective, encoded.features, texts[torch.from_numpy(first)])


Measure = Callable[[Encoders, Any, str, Objective | None], dict[str, Any]]
MEASURES: dict[str, tuple[str, str, Measure]] = {
    "classification": ("zeroshot_classification", "acc1", classification),
    "multilabel": ("zeroshot_classification", "mean_average_precision", multilabel),
    "retrieval": ("zeroshot_retrieval", "mean_recall@1", retrieval),
}
"""Kind of set -> CLIP_benchmark's name of the task, the main metric, and how all are measured."""


def evaluate_probe(model: Encoders, folder: str | Folder, *, seed: int = 0, neighbours: int = 20) -> dict[str, Any]:
    """Linear probe and nearest neighbours on train/, measured on test/; names as CLIP_benchmark's (lp_acc1, ...)."""
    folder = Folder.open(folder) if isinstance(folder, str) else folder
    train, test = (encode(model, folder.samples(split)) for split in ("train", "test"))
    labels, right, classes = np.asarray(train.answers), np.asarray(test.answers), len(folder.classnames)
    fitted = linear_probe(train.features, labels, classes=classes, seed=seed)
    found = {f"lp_{name}": value for name, value in fitted.predict(test.features, right).metrics().items()}
    voted = knn(train.features, labels, test.features, classes=classes, k=neighbours)
    return found | {
        "lp_strength": fitted.strength,
        "lp_converged": fitted.converged,
        "knn_acc1": float((voted == right).mean()),
    }


def associate(model: Encoders, instances: Iterable[Instance]) -> dict[str, Any]:
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
    return {**winogavil.metrics(scores, [len(digests) for _, digests, _ in asked]), "n": len(asked)}


# ---- the 38


def evaluate_task(model: Encoders, task: Task, root: str) -> Record:
    """One of the 38, from where it lies below the root.

    Where the main metric is a worst group's, the same over groups of at least 100 stands beside it as <metric>_min100:
    DataComp counts groups of any size, and FMoW has one of four pictures.

    Raises:
        TrainingError: the set is not there or is not whole, or cannot be evaluated.
    """
    source = find(task, root)
    if isinstance(source, AssociationTable):
        kind, found = "winogavil", associate(model, source.instances())
    elif task.main_metric in WORST_GROUP and isinstance(source, Folder):
        kind, found = "zeroshot_classification", worst_group_accuracy(model, source, task.main_metric)
    else:
        record = evaluate(model, source)
        kind, found = record["task"], record["metrics"]
    if task.main_metric not in found:
        raise TrainingError(
            f"{source.path} gives {', '.join(found)}, but {task.name} is measured by {task.main_metric}"
        )
    if found["n"] != task.size:
        raise TrainingError(f"{source.path} holds {found['n']:,} of the {task.size:,} samples of {task.name}")
    metrics = found | {"main_metric": found[task.main_metric]}
    return {"key": task.key, "dataset": task.name, "task": kind, "metrics": metrics}


def find(task: Task, root: str) -> Source:
    """The first of the task's folders that is there.

    Raises:
        TrainingError: none is.
    """
    fs, below = fsspec.url_to_fs(root.rstrip("/"))
    for folder in task.folders:
        if fs.exists(f"{below}/{folder}"):
            path = f"{root.rstrip('/')}/{folder}"
            if task.key.startswith("misc/"):
                return AssociationTable(path)
            return CaptionTable(path) if folder.startswith("hf_cache/") else Folder.open(path)
    raise TrainingError(f"{root} has no {' or '.join(task.folders)}")


def worst_group_accuracy(model: Encoders, folder: Folder, main: str) -> dict[str, Any]:
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
    return predictions.metrics() | found


def evaluate_tasks(
    model: Encoders, root: str, results: str | Path, *, checkpoint: str, tasks: Collection[Task] = tuple(TASKS.values())
) -> tuple[Summary, dict[str, str]]:
    """All tasks that are whole below the root; a line is written as each is done, and those with a line are not redone.

    Returns:
        The summary, and for each task without a score the reason.

    Raises:
        TrainingError: the results file is of another checkpoint.
    """
    records = read_results(results)
    if foreign := {str(r.get("checkpoint")) for r in records} - {checkpoint}:
        raise TrainingError(f"{results} has results of checkpoint {', '.join(foreign)}, not {checkpoint}: name another")
    done = {r["dataset"] for r in records}
    why: dict[str, str] = {}
    for task in tasks:
        if task.name in done:
            continue
        try:
            records.append(evaluate_task(model, task, root) | {"checkpoint": checkpoint})
        except TrainingError as e:
            why[task.name] = str(e)
            continue
        write_results(results, records)
    return summarise(records), why
