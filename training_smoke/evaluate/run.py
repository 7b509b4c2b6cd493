"""Evaluate a model on a folder, on one of the 38 tasks, or on all that lie below a root.

    evaluate(model, "evalsets/wds_cifar10_test")                  # {"dataset": ..., "task": ..., "metrics": {...}}
    evaluate(captioner, "evalsets/wds_flickr8k", effort=Effort(pictures=1000))
    summary, why = evaluate_tasks(model, "evalsets", "run/results.jsonl", checkpoint="<digest>")

Lines are those of CLIP_benchmark and DataComp, so that DataComp's aggregate_scores.py reads them too. Killed and
started again, `evaluate_tasks` goes on with the next task.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from torch import Tensor

from training_smoke.abilities import Encoders, ImageVectors
from training_smoke.errors import TrainingError
from training_smoke.evaluate.aggregate import Record, Summary, read_results, summarise, write_results
from training_smoke.evaluate.continuous import Objective
from training_smoke.evaluate.effort import Effort
from training_smoke.evaluate.encode import ImageEncoder
from training_smoke.evaluate.folders import Folder
from training_smoke.evaluate.hyperbolic import HyperbolicEncoders
from training_smoke.evaluate.kinds import Asked, NotAble, by_vectors, measured
from training_smoke.evaluate.measured import Items, Measured
from training_smoke.evaluate.measures import Captioned, associate, encode, worst_group_accuracy
from training_smoke.evaluate.probe import knn, linear_probe
from training_smoke.evaluate.tables import AssociationTable, CaptionTable
from training_smoke.evaluate.tasks import TASKS, WORST_GROUP, Task

NEIGHBOURS = 20
Source = Captioned | AssociationTable


@dataclass(frozen=True)
class Evaluated:
    """record: the line of results. items: float64 [n], one number an item, whose mean is the main metric; None where
    that is no mean over items. every: the same by metric, of all that are, controls too. numbers: of metrics of a part
    of the set, which pictures that is; see `Measured`."""

    record: Record
    items: np.ndarray | None
    every: Items = field(default_factory=dict)
    numbers: Items = field(default_factory=dict)


# ---- one set


def evaluate(
    model: object,
    source: str | Captioned,
    *,
    split: str = "test",
    name: str | None = None,
    objective: Objective | None = None,
    effort: Effort | None = None,
    second: Encoders | None = None,
) -> Record:
    """All metrics of the kind that the set is of and the model able to; see `training_smoke.evaluate.kinds`.

    Args:
        model: whatever has some of the methods of `training_smoke.abilities`.
        source: a folder by path or URL, or opened.
        name: what the line calls the set; its path where not given.
        objective: the one that the model was trained with: measures that move before accuracy does stand beside, see
            `continuous.held_out`.
        effort: how much is generated.
        second: another model, with whose vectors captions are scored (CLIPScore).

    Raises:
        NotAble: the model can do nothing that the set asks for.
        TrainingError: the folder, a sample or what the model says is not as it should be.
    """
    return evaluated(model, source, split=split, name=name, objective=objective, effort=effort, second=second).record


def evaluated(
    model: object,
    source: str | Captioned,
    *,
    split: str = "test",
    name: str | None = None,
    objective: Objective | None = None,
    effort: Effort | None = None,
    second: Encoders | None = None,
) -> Evaluated:
    """As `evaluate`, with what stands behind each metric of each item."""
    source = Folder.open(source) if isinstance(source, str) else source
    answer = measured(model, Asked(source, split, objective, effort or Effort(), second))
    metrics = answer.found.metrics | {"main_metric": answer.found.metrics[answer.main]}
    record = {"dataset": name or source.path, "task": answer.task, "metrics": metrics}
    return Evaluated(record, answer.found.items.get(answer.main), answer.found.items, answer.found.numbers)


def evaluate_probe(
    model: object, folder: str | Folder, *, seed: int = 0, neighbours: int | None = None
) -> dict[str, Any]:
    """Linear probe and nearest neighbours on train/, measured on test/; names as CLIP_benchmark's (lp_acc1, ...).

    Args:
        seed: of what is held out of train/ to choose the penalty.
        neighbours: that vote; default 20, or all of train/ where it has fewer.

    Raises:
        NotAble: the model has no vectors.
        TrainingError: the folder has no train/, is no classification, or as `evaluate`.
    """
    encoder = _for_probes(model)
    folder = Folder.open(folder) if isinstance(folder, str) else folder
    if folder.kind != "classification":
        raise TrainingError(f"{folder.path} is for {folder.kind}: a probe needs classes")
    train, test = (encode(encoder, folder.samples(split)) for split in ("train", "test"))
    labels, right, classes = np.asarray(train.answers), np.asarray(test.answers), len(folder.classnames)
    fitted = linear_probe(train.features, labels, classes=classes, seed=seed)
    found = {f"lp_{name}": value for name, value in fitted.predict(test.features, right).metrics().items()}
    k = min(NEIGHBOURS, len(labels)) if neighbours is None else neighbours
    voted = knn(train.features, labels, test.features, classes=classes, k=k)
    return found | {
        "lp_strength": fitted.strength,
        "lp_converged": fitted.converged,
        "knn_acc1": float((voted == right).mean()),
    }


@dataclass(frozen=True)
class _Looking:
    """A model without vectors of texts, as an encoder of pictures."""

    model: ImageVectors

    @property
    def image_size(self) -> int:
        return self.model.image_size

    def encode_images(self, images: Tensor) -> Tensor:
        return self.model.image_vectors(images)


def _for_probes(model: object) -> ImageEncoder:
    if isinstance(model, HyperbolicEncoders):
        return model.flat
    if isinstance(model, Encoders):
        return model
    if isinstance(model, ImageVectors):
        return _Looking(model)
    raise NotAble("probes look at vectors of pictures, and the model has none")


# ---- the 38


def evaluate_task(model: object, task: Task, root: str) -> Record:
    """One of the 38, from where it lies below the root.

    Where the main metric is a worst group's, the same over groups of at least 100 stands beside it as <metric>_min100:
    DataComp counts groups of any size, and FMoW has one of four pictures.

    Raises:
        TrainingError: the set is not there or is not whole, or cannot be evaluated.
    """
    return evaluated_task(model, task, root).record


def evaluated_task(model: object, task: Task, root: str) -> Evaluated:
    """As `evaluate_task`, with what stands behind the main metric of each item."""
    source = find(task, root)
    kind, found = _measured(model, task, source)
    if task.main_metric not in found.metrics:
        raise TrainingError(
            f"{source.path} gives {', '.join(found.metrics)}, but {task.name} is measured by {task.main_metric}"
        )
    if found.metrics["n"] != task.size:
        raise TrainingError(f"{source.path} holds {found.metrics['n']:,} of the {task.size:,} samples of {task.name}")
    metrics = found.metrics | {"main_metric": found.metrics[task.main_metric]}
    record = {"key": task.key, "dataset": task.name, "task": kind, "metrics": metrics}
    return Evaluated(record, found.items.get(task.main_metric), found.items)


def _measured(model: object, task: Task, source: Source) -> tuple[str, Measured]:
    """(CLIP_benchmark's name of the kind of task, what was found)."""
    if not isinstance(model, Encoders):
        raise NotAble(f"{task.name} is measured by vectors of pictures and texts, and the model has none")
    if isinstance(source, AssociationTable):
        return "winogavil", associate(model, source.instances())
    if task.main_metric in WORST_GROUP and isinstance(source, Folder):
        return "zeroshot_classification", worst_group_accuracy(model, source, task.main_metric)
    answer = by_vectors(model, Asked(source))
    return answer.task, answer.found


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


def evaluate_tasks(
    model: object,
    root: str,
    results: str | Path,
    *,
    checkpoint: str,
    tasks: Collection[Task] = tuple(TASKS.values()),
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
