"""Evaluate a model on a folder, on one of the 38 tasks, or on all that lie below a root.

    evaluate(model, "evalsets/wds_cifar10_test")                  # {"dataset": ..., "task": ..., "metrics": {...}}
    summary, why = evaluate_tasks(model, "evalsets", "run/results.jsonl", checkpoint="<digest>")

Lines are those of CLIP_benchmark and DataComp, so that DataComp's aggregate_scores.py reads them too. Killed and
started again, `evaluate_tasks` goes on with the next task.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from training_smoke.errors import TrainingError
from training_smoke.evaluate.aggregate import Record, Summary, read_results, summarise, write_results
from training_smoke.evaluate.continuous import Objective
from training_smoke.evaluate.encode import Encoders
from training_smoke.evaluate.folders import Folder
from training_smoke.evaluate.measures import MEASURES, Captioned, Measured, associate, encode, worst_group_accuracy
from training_smoke.evaluate.probe import knn, linear_probe
from training_smoke.evaluate.tables import AssociationTable, CaptionTable
from training_smoke.evaluate.tasks import TASKS, WORST_GROUP, Task

NEIGHBOURS = 20
Source = Captioned | AssociationTable


@dataclass(frozen=True)
class Evaluated:
    """record: the line of results. items: float64 [n], one number an item, whose mean is the main metric; None where
    that is no mean over items."""

    record: Record
    items: np.ndarray | None


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
    return evaluated(model, source, split=split, name=name, objective=objective).record


def evaluated(
    model: Encoders,
    source: str | Captioned,
    *,
    split: str = "test",
    name: str | None = None,
    objective: Objective | None = None,
) -> Evaluated:
    """As `evaluate`, with what stands behind the main metric of each item."""
    source = Folder.open(source) if isinstance(source, str) else source
    kind = source.kind if isinstance(source, Folder) else "retrieval"
    task, main, measure = MEASURES[kind]
    found = measure(model, source, split, objective)
    metrics = found.metrics | {"main_metric": found.metrics[main]}
    return Evaluated({"dataset": name or source.path, "task": task, "metrics": metrics}, found.items.get(main))


def evaluate_probe(
    model: Encoders, folder: str | Folder, *, seed: int = 0, neighbours: int | None = None
) -> dict[str, Any]:
    """Linear probe and nearest neighbours on train/, measured on test/; names as CLIP_benchmark's (lp_acc1, ...).

    Args:
        seed: of what is held out of train/ to choose the penalty.
        neighbours: that vote; default 20, or all of train/ where it has fewer.

    Raises:
        TrainingError: the folder has no train/, is no classification, or as `evaluate`.
    """
    folder = Folder.open(folder) if isinstance(folder, str) else folder
    if folder.kind != "classification":
        raise TrainingError(f"{folder.path} is for {folder.kind}: a probe needs classes")
    train, test = (encode(model, folder.samples(split)) for split in ("train", "test"))
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


# ---- the 38


def evaluate_task(model: Encoders, task: Task, root: str) -> Record:
    """One of the 38, from where it lies below the root.

    Where the main metric is a worst group's, the same over groups of at least 100 stands beside it as <metric>_min100:
    DataComp counts groups of any size, and FMoW has one of four pictures.

    Raises:
        TrainingError: the set is not there or is not whole, or cannot be evaluated.
    """
    return evaluated_task(model, task, root).record


def evaluated_task(model: Encoders, task: Task, root: str) -> Evaluated:
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
    return Evaluated(record, found.items.get(task.main_metric))


def _measured(model: Encoders, task: Task, source: Source) -> tuple[str, Measured]:
    """(CLIP_benchmark's name of the kind of task, what was found)."""
    if isinstance(source, AssociationTable):
        return "winogavil", associate(model, source.instances())
    if task.main_metric in WORST_GROUP and isinstance(source, Folder):
        return "zeroshot_classification", worst_group_accuracy(model, source, task.main_metric)
    kind, _, measure = MEASURES[source.kind if isinstance(source, Folder) else "retrieval"]
    return kind, measure(model, source, "test", None)


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
