"""Where a run is, whole or not at all: a folder's newest checkpoint, written beside its place and then renamed.

save(folder, state)
state = load_newest(folder)          # None: nothing yet
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch

from training_smoke.errors import TrainingError

_NAME = re.compile(r"step-(\d{9})\.pt")
KEPT = 2  # the newest, and one before it, should the newest be unreadable


def save(folder: Path, state: dict[str, Any]) -> Path:
    """Write the state, whose "step" names the file; older ones but KEPT - 1 go."""
    path = folder / f"step-{state['step']:09d}.pt"
    part = path.with_suffix(f".part-{os.getpid()}")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """In the order of their steps."""
    return sorted(p for p in folder.glob("step-*.pt") if _NAME.fullmatch(p.name))


def load(path: Path) -> dict[str, Any]:
    """
    Raises:
        TrainingError: it cannot be read; tensors and plain values only are, so that a file from elsewhere runs no code.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # unpickling raises whatever the bytes make it
        raise TrainingError(f"{path} cannot be read as a checkpoint: {e}") from e
    return state


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The last state of a run, None before its first."""
    found = checkpoints(folder)
    return load(found[-1]) if found else None
