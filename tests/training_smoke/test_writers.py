"""Lines of metrics, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


WANDB = """
import json, sys
from pathlib import Path
from training_smoke.errors import TrainingError
from training_smoke.writers import Metrics

root = Path(sys.argv[1])
for name, start in (("a", 0), ("b", 0), ("b", 20)):  # one process trains several runs; b goes on from its step 20
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"seed": name}))
    try:
        with Metrics(folder, start, ("wandb",)) as metrics:
            for step in (start + 10, start + 20):
                metrics.add(step=step, loss=1 / step)
    except TrainingError as e:
        print("refused:", e)
        break
"""


def with_wandb(root: Path, **environment: str) -> str:
    """In a process of its own: W&B keeps threads and another process behind it."""
    pytest.importorskip("wandb", reason="no wandb: what it is told is not read")
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env |= {"WANDB_SILENT": "true", "HOME": str(root), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", WANDB, str(root)]
    done = subprocess.run(
        command,
        env=env | environment,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
    )
    return done.stdout


def told(folder: Path) -> list[tuple[str, list[tuple[int, float]]]]:
    """(id, [(step, loss)]) of each attempt that W&B keeps below a folder, in order."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[import-not-found]

    found = []
    for path in sorted(folder.rglob("*.wandb")):
        steps = []
        for data in records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            said: dict[str, Any] = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
            if "loss" in said:
                steps.append((said["step"], said["loss"]))
        found.append((path.stem.removeprefix("run-"), steps))
    return found


def records(log: bytes) -> Iterator[bytes]:
    """Of LevelDB's log format, behind seven bytes of W&B's: blocks of 32 KiB; (crc, length, type) precede each part."""
    whole, at = b"", 7
    while at + 7 <= len(log):
        if 32_768 - at % 32_768 < 7:  # what is left of a block is filled up
            at += 32_768 - at % 32_768
            continue
        _, length, kind = struct.unpack_from("<IHB", log, at)
        whole += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def test_wandb_has_each_run_by_itself_and_one_that_goes_on_as_the_same(tmp_path: Path) -> None:
    assert "refused" not in with_wandb(tmp_path, WANDB_MODE="offline")
    ids = {name: (tmp_path / name / "wandb.id").read_text() for name in "ab"}
    assert ids["a"] != ids["b"]
    assert told(tmp_path / "a") == [(ids["a"], [(10, 1 / 10), (20, 1 / 20)])]
    assert sorted(told(tmp_path / "b")) == [
        (ids["b"], [(10, 1 / 10), (20, 1 / 20)]),
        (ids["b"], [(30, 1 / 30), (40, 1 / 40)]),
    ]


def test_without_an_account_wandb_is_refused_with_words(tmp_path: Path) -> None:
    assert "refused: W&B cannot begin this run: No API key configured" in with_wandb(tmp_path)
