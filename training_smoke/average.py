"""Weights averaged while they are trained, exactly resumed: "ema:0.999", "last:5".

    average = Average.parse("ema:0.999")
    with averaging(folder, config, average) as mean:
        towers = train(folder, config, packs)
        mean.put_into(towers)

ema:D: each step's weights count by 1 - D; at first, where that would leave mostly the random beginning, equally.
last:K: the plain mean of the weights after each of the last K twentieths of the run (Izmailov et al. 2018). Averages
are kept beside the run's checkpoints, one for each, so that a run that is killed ends with the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from training_smoke import checkpoint
from training_smoke.config import Config
from training_smoke.errors import TrainingError
from training_smoke.objectives import OBJECTIVES
from training_smoke.optimiser import adamw
from training_smoke.towers import TwoTowers

PARTS = 20  # points of a run that last:K takes the last of
KEPT = 2  # as many as the loop keeps checkpoints


@dataclass(frozen=True)
class Average:
    """How much the weights after a step count. decay: of an exponential mean; last: points at the end; one of them."""

    decay: float | None = None
    last: int | None = None

    @classmethod
    def parse(cls, said: str) -> Average:
        """
        Raises:
            TrainingError: it is neither "ema:D" with 0 < D < 1 nor "last:K" with K from 2 to 20.
        """
        kind, _, value = said.partition(":")
        try:
            if kind == "ema" and 0 < float(value) < 1:
                return cls(decay=float(value))
            if kind == "last" and 2 <= int(value) <= PARTS:
                return cls(last=int(value))
        except ValueError:
            pass
        raise TrainingError(
            f"average {said!r}: it is ema:D with D between 0 and 1, as ema:0.999, or last:K with K from 2 to {PARTS}"
        )

    def __str__(self) -> str:
        return f"ema:{self.decay:g}" if self.decay is not None else f"last:{self.last}"

    def share(self, step: int, steps: int) -> float:
        """Of the weights after `step` (from 1) in the average that includes them; 0: they do not count."""
        if self.decay is not None:
            return max(1 - self.decay, 1 / step)
        assert self.last is not None
        points = {steps - round(part * steps / PARTS) for part in range(self.last)}
        # A run of few steps has fewer points; its beginning is none.
        return 1 / sum(0 < point <= step for point in points) if step in points else 0.0


class Mean:
    """The average of a run, as far as it has come: one tensor for each parameter that the optimiser trains."""

    def __init__(self, folder: Path, config: Config, average: Average) -> None:
        self._folder, self._config, self._average = folder / "checkpoints", config, average
        found = checkpoint.checkpoints(self._folder)
        self.step = checkpoint.step_of(found[-1]) if found else 0
        self._values: list[Tensor] = []
        if self.step and self._path(self.step).exists():
            self._values = checkpoint.load(self._path(self.step))["values"]
        elif self.step > 1:  # a run may begin with a checkpoint that was put there
            raise TrainingError(f"{folder} was trained without this average so far: give another folder, or remove it")

    @torch.no_grad()
    def after_step(self, optimiser: torch.optim.Optimizer, *_: Any) -> None:
        """Called by torch when the optimiser has changed the weights."""
        self.step += 1
        now = [p.detach() for p in _trained(optimiser)]
        share = self._average.share(self.step, self._config.steps)
        if not self._values:
            self._values = [p.clone() for p in now]
        elif share:
            self._values = [v.to(p.device) for v, p in zip(self._values, now, strict=True)]
            torch._foreach_lerp_(self._values, now, share)
        every = self._config.save_every
        if self.step == self._config.steps or (every and self.step % every == 0):
            self._save()

    @torch.no_grad()
    def put_into(self, towers: TwoTowers) -> None:
        """Give trained towers the average. Buffers, which no optimiser knows, stay those of the last step."""
        objective = OBJECTIVES[self._config.objective]().to(towers.mean.device)
        # Made as the loop makes it, the optimiser has the parameters in the order in which they were averaged.
        optimiser = adamw({"": towers, "objective": objective}, self._config.optimiser)
        for parameter, value in zip(_trained(optimiser), self._values, strict=True):
            parameter.copy_(value)

    def _save(self) -> None:
        """Before the loop writes its checkpoint of this step, so that there is none without an average."""
        path = self._path(self.step)
        part = path.with_suffix(f".saving-{os.getpid()}")
        with part.open("wb") as file:
            torch.save({"values": [v.cpu() for v in self._values]}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        for old in sorted(self._folder.glob("average-*.pt"))[:-KEPT]:
            old.unlink()

    def _path(self, step: int) -> Path:
        return self._folder / f"average-{step:09d}.pt"


def _trained(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimiser.param_groups for p in group["params"]]


@contextmanager
def averaging(folder: Path, config: Config, average: Average) -> Iterator[Mean]:
    """Average what is trained in the block, which is to be one run, by one process, in this folder."""
    mean = Mean(folder, config, average)
    handle = register_optimizer_step_post_hook(mean.after_step)
    try:
        yield mean
    finally:
        handle.remove()
