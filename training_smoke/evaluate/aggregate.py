"""DataComp's score from results of single tasks: the mean of 38 main metrics, and of parts of them.

    summary = summarise(read_results("run/results.jsonl"))
    summary.average                           # None unless all 38 are there; summary.missing names the others
    difference(summary, other)                # task by task; refused where the two have other tasks

A mean over the tasks that happen to be there is another number from run to run, and looks like the same one. It is
therefore never taken: a mean over a group is there when the whole group is.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training_smoke.errors import TrainingError
from training_smoke.evaluate.tasks import IMAGENET, IMAGENET_SHIFTS, RETRIEVAL, TASKS, VTAB

Record = dict[str, Any]
"""A line of results: {"dataset": name, "metrics": {..., "main_metric": score}} and what else a tool adds."""


@dataclass(frozen=True)
class Summary:
    """Main metrics, their means (None where a part is missing), and what cannot be told from guessing.

    scores: by task, of the 38. missing: names of the others. imagenet (1 task), imagenet_shifts (6), vtab (13),
    retrieval (3), average (38): plain means, as DataComp's. above_chance: over all 38, mean of
    (score - chance) / (1 - chance): 0 is guessing, 1 is perfect. near_chance: tasks no more than two standard errors
    above chance, so that at this scale they mostly add noise.
    """

    scores: dict[str, float]
    missing: tuple[str, ...]
    imagenet: float | None
    imagenet_shifts: float | None
    vtab: float | None
    retrieval: float | None
    average: float | None
    above_chance: float | None
    near_chance: tuple[str, ...]

    @property
    def n_tasks(self) -> int:
        """Of the 38."""
        return len(self.scores)


def summarise(records: Iterable[Record]) -> Summary:
    """Sets that are not among the 38, and lines without a main metric (FairFace, UTKFace), have no part in it.

    Raises:
        TrainingError: two different scores of one task, or a score outside [0, 1].
    """
    found: dict[str, float] = {}
    for record in records:
        name, score = record["dataset"], record["metrics"].get("main_metric")
        if name not in TASKS or score is None:
            continue
        if not 0 <= score <= 1:
            raise TrainingError(f"{name}: the main metric is {score}; a share from 0 to 1 was expected")
        if found.setdefault(name, score) != score:
            raise TrainingError(f"{name} has two scores, {found[name]} and {score}: which is meant?")
    scores = {name: found[name] for name in TASKS if name in found}
    gains = {name: (score - TASKS[name].chance) / (1 - TASKS[name].chance) for name, score in scores.items()}
    return Summary(
        scores=scores,
        missing=tuple(name for name in TASKS if name not in scores),
        imagenet=_mean(scores, IMAGENET),
        imagenet_shifts=_mean(scores, IMAGENET_SHIFTS),
        vtab=_mean(scores, VTAB),
        retrieval=_mean(scores, RETRIEVAL),
        average=_mean(scores, frozenset(TASKS)),
        above_chance=_mean(gains, frozenset(TASKS)),
        near_chance=tuple(name for name, score in scores.items() if score <= _luck(name)),
    )


def _mean(scores: dict[str, float], names: frozenset[str]) -> float | None:
    if not names <= scores.keys():
        return None
    return math.fsum(scores[name] for name in names) / len(names)


def _luck(name: str) -> float:
    """Two binomial standard errors above chance."""
    task = TASKS[name]
    return task.chance + 2 * math.sqrt(task.chance * (1 - task.chance) / task.size)


def difference(a: Summary, b: Summary) -> dict[str, float]:
    """a - b for every task.

    Raises:
        TrainingError: the two were evaluated on different sets; names them.
    """
    if only := set(a.scores) ^ set(b.scores):
        names = ", ".join(name for name in TASKS if name in only)
        raise TrainingError(f"only one of the two was evaluated on {names}: results on different sets do not compare")
    return {name: score - b.scores[name] for name, score in a.scores.items()}


def read_results(path: str | Path) -> list[Record]:
    """The lines of a results file, DataComp's, CLIP_benchmark's or ours; none where there is no file.

    Raises:
        TrainingError: a line is no result.
    """
    records: list[Record] = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return records
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            _ = record["dataset"], record["metrics"].get("main_metric")
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise TrainingError(f"{path}, line {number} is no result of an evaluation: {line[:80]}") from e
        records.append(record)
    return records


def write_results(path: str | Path, records: Iterable[Record]) -> None:
    """Replaces the file by one with these lines, in one step: a reader sees the old one or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in records)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
