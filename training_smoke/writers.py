"""A line per interval: metrics.jsonl always, TensorBoard and W&B where a run asks for them, and one for people.

with Metrics(folder, step=0, to=("tensorboard",)) as metrics:
    metrics.add(step=20, loss=5.1, ...)
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from training_smoke.errors import TrainingError

Number = float | int


class Metrics:
    """Of a run that goes on from `step`: lines of later steps, of an attempt that was cut off, go."""

    def __init__(self, folder: Path, step: int, to: Sequence[str] = (), quiet: bool = True) -> None:
        self._path = folder / "metrics.jsonl"
        self._quiet = quiet
        _cut(self._path, step)
        self._others = [_WRITERS[name](folder, step) for name in to]

    def add(self, **numbers: Number) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(numbers) + "\n")
        for other in self._others:
            other(numbers)
        if not self._quiet:
            print("  ".join(f"{name} {value:g}" for name, value in numbers.items()), flush=True)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        for other in self._others:
            other.close(failed=kind is not None)

    def settle(self) -> None:
        """All lines on the disk: before a checkpoint that has them behind it."""
        if self._path.exists():
            with self._path.open("a") as file:
                os.fsync(file.fileno())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All whole lines; one that was cut off by a crash is left out."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]


def _cut(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    part.write_text("".join(json.dumps(line) + "\n" for line in kept))
    part.replace(path)


class _TensorBoard:
    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as e:
            raise TrainingError(f"TensorBoard is asked for but not installed: pip install tensorboard ({e})") from e
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def __call__(self, numbers: dict[str, Number]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, numbers["step"])
        self._writer.flush()

    def close(self, failed: bool) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, folder: Path, _: int) -> None:
        try:
            import wandb  # type: ignore[import-not-found]
        except ImportError as e:
            raise TrainingError(f"W&B is asked for but not installed: pip install wandb ({e})") from e
        try:
            self._run = wandb.init(
                project="curate",
                name=folder.name,
                id=_kept_id(folder / "wandb.id"),  # going on it is the same run there, and takes no step twice
                resume="allow",
                dir=str(folder),
                config=json.loads((folder / "config.json").read_text()),
            )
        except wandb.errors.Error as e:
            raise TrainingError(
                f"W&B cannot begin this run: {str(e).splitlines()[0]}; `wandb login`, or set WANDB_MODE=offline, which "
                "keeps its files in the run's folder for `wandb sync`"
            ) from e

    def __call__(self, numbers: dict[str, Number]) -> None:
        self._run.log(numbers, step=int(numbers["step"]))

    def close(self, failed: bool) -> None:
        """Else the next run of this process would be taken for this one."""
        self._run.finish(exit_code=int(failed))


def _kept_id(path: Path) -> str:
    if not path.exists():
        path.write_text(uuid.uuid4().hex)
    return path.read_text()


_WRITERS: dict[str, Any] = {"tensorboard": _TensorBoard, "wandb": _WandB}
