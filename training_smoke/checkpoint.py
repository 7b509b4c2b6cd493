"""Where a run is, whole or not at all: a folder's newest checkpoint, written beside its place and then renamed.

    save(folder, gathered({"step": 100, "towers": towers.state_dict(), ...}))
    state = load_newest(folder)          # None: nothing yet
    restore({"towers": towers, "optimiser": optimiser}, state)

A checkpoint is one file of whole tensors, also where FSDP spread them over processes, so that a run goes on with
another number of processes, and whoever wants the weights needs none.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training_smoke.errors import TrainingError

_NAME = re.compile(r"step-(\d{9})\.pt")
KEPT = 2  # the newest, and one before it, should the newest be unreadable
PATIENCE_S = 10.0  # that a process which is being killed may take to leave a folder


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else trains in this folder until the block ends; the kernel frees it when its holder dies.

    Raises:
        TrainingError: somebody does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        _take(lock, folder)
        yield
    finally:
        os.close(lock)


def save(folder: Path, state: dict[str, Any]) -> Path:
    """Write the state, whose "step" names the file; older ones but KEPT - 1 go, and what killed processes left."""
    path = path_of(folder, state["step"])
    for left in folder.glob("*.part"):
        left.unlink()
    part = path.with_suffix(".part")
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


def path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}.pt"


def step_of(path: Path) -> int:
    """How many steps a checkpoint has behind it."""
    return int(path.stem.removeprefix("step-"))


def load(path: Path) -> dict[str, Any]:
    """
    Raises:
        TrainingError: it cannot be read; tensors and plain values only are, so that a file from elsewhere runs no code.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # unpickling raises whatever the bytes make it
        raise TrainingError(
            f"{path} cannot be read as a checkpoint: {e}. Without this file the run goes on from the one before it"
        ) from e
    return state


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The last state of a run, None before its first."""
    found = checkpoints(folder)
    return load(found[-1]) if found else None


# ------------------------------------------------------------------------------------------ over several processes


def gathered(state: Any, keep: bool = True) -> Any:
    """A state with whole tensors, on the CPU, in place of those that FSDP spread. Every process calls it.

    Args:
        keep: whether this process wants them; without, it helps the others and gets None for each.
    """
    if isinstance(state, dict):
        return {name: gathered(value, keep) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(gathered(value, keep) for value in state)
    if hasattr(state, "full_tensor"):
        whole = state.full_tensor()
        return whole.cpu() if keep else None
    return state


def restore(parts: Mapping[str, nn.Module | torch.optim.Optimizer], state: Mapping[str, Any]) -> None:
    """Give each part its state of a checkpoint; of whole tensors, a process takes what it holds of them."""
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            own = part.state_dict()
            part.load_state_dict({key: _share(value, own.get(key)) for key, value in state[name].items()})
            continue
        parameters = [p for group in part.param_groups for p in group["params"]]
        of_parameters = {
            number: {
                key: _share(value, parameters[number]) if key.startswith("exp_avg") else value
                for key, value in kept.items()
            }
            for number, kept in state[name]["state"].items()
        }
        part.load_state_dict({**state[name], "state": of_parameters})


def _share(whole: Tensor, like: Tensor | None) -> Tensor:
    if not hasattr(like, "device_mesh"):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    # Each process has read all of it: nothing travels.
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _take(lock: int, folder: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            if time.monotonic() > until:
                raise TrainingError(f"{folder}: another process trains in this folder; wait for it or end it") from e
            time.sleep(0.1)
        except OSError as e:  # a file system without locks
            warnings.warn(f"{folder}: no lock ({e}): see that no other process trains in this folder", stacklevel=4)
            return None
