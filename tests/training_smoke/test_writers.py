"""Lines of metrics, and the same numbers for TensorBoard."""

from __future__ import annotations

from pathlib import Path

import pytest

from training_smoke.writers import Metrics, read_metrics


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard: what it is told is not read"
    )
    found = accumulator.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return [(e.step, round(e.value, 6)) for e in found.Scalars(name)]


def test_tensorboard_has_each_step_once_also_after_going_on(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="no tensorboard: nothing is written for it")
    first = Metrics(tmp_path, 0, ("tensorboard",))
    for step in (10, 20, 30):
        first.add(step=step, loss=1.0 / step, samples=step * 4)
    first.settle()
    again = Metrics(tmp_path, 20, ("tensorboard",))  # its checkpoint is that of step 20
    again.add(step=30, loss=0.5, samples=120)
    again.settle()
    assert [(m["step"], m["loss"]) for m in read_metrics(tmp_path)] == [(10, 0.1), (20, 0.05), (30, 0.5)]
    assert scalars(tmp_path, "loss") == [(10, 0.1), (20, 0.05), (30, 0.5)]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0)
    metrics.add(step=10, loss=0.1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "lo')
    assert [m["step"] for m in read_metrics(tmp_path)] == [10]
    Metrics(tmp_path, 10).add(step=20, loss=0.2)
    assert [m["step"] for m in read_metrics(tmp_path)] == [10, 20]
