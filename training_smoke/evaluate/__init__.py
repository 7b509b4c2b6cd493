"""What a trained model is good for: zero-shot, retrieval, probes, DataComp's 38 tasks, captions, matching, answers to
questions, and measures that move sooner.

    from training_smoke.evaluate import evaluate, evaluate_tasks

    evaluate(model, "evalsets/wds_cifar10_test")["metrics"]["acc1"]
    summary, why = evaluate_tasks(model, "evalsets", "run/results.jsonl", checkpoint="<digest>")

A model is anything that has some of the methods of `training_smoke.abilities`; kinds says what is measured of which on
which set. The measures themselves are functions, usable on their own: of features zero_shot, retrieval, probe,
winogavil, groups, continuous; of what a model writes or says caption_metrics, captions, likelihood, matching, rerank,
answers. Pictures, captions and labels come from folders (CLIP_benchmark's layout) or tables (Hugging Face's cache), and
run puts them together.
"""

from __future__ import annotations

from training_smoke.evaluate.aggregate import Summary, difference, read_results, summarise
from training_smoke.evaluate.effort import Effort
from training_smoke.evaluate.encode import Encoders
from training_smoke.evaluate.folders import Folder, Question, Sample
from training_smoke.evaluate.kinds import NotAble
from training_smoke.evaluate.run import evaluate, evaluate_probe, evaluate_task, evaluate_tasks
from training_smoke.evaluate.tasks import TASKS, Task

__all__ = [
    "TASKS",
    "Effort",
    "Encoders",
    "Folder",
    "NotAble",
    "Question",
    "Sample",
    "Summary",
    "Task",
    "difference",
    "evaluate",
    "evaluate_probe",
    "evaluate_task",
    "evaluate_tasks",
    "read_results",
    "summarise",
]
