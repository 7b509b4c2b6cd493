"""Stop where a loss is no number or leaps, and say which samples were in that step.

guard = Guard(spike=5.0)
guard.step(loss, uids)           # keeps both, looks at neither
guard.look()                     # raises TrainingError; once in a while, as it waits for the device
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from training_smoke.errors import TrainingError

WARM = 50  # steps before a leap counts
KEEP = 0.98  # of the running mean, a step
DIVERGED = "training diverged"  # how the message begins
NAMED = 8  # uids in the message; all of them are in the error


class Diverged(TrainingError):
    """`uids` of the step, all of this process's."""

    def __init__(self, message: str, step: int, uids: Sequence[str]) -> None:
        super().__init__(message)
        self.step, self.uids = step, list(uids)


class Guard:
    """mean: running mean of the loss; None before the first step."""

    def __init__(self, spike: float | None, mean: float | None = None, seen: int = 0) -> None:
        self.spike, self.mean, self.seen = spike, mean, seen
        self._held: list[tuple[int, Tensor, Sequence[str]]] = []

    def step(self, step: int, loss: Tensor, uids: Sequence[str]) -> None:
        self._held.append((step, loss.detach(), uids))

    def look(self) -> list[float]:
        """Losses of the steps since the last look.

        Raises:
            Diverged: one is no number, or `spike` times the mean.
        """
        if not self._held:
            return []
        held, self._held = self._held, []
        losses = torch.stack([loss.float() for _, loss, _ in held]).tolist()
        for (step, _, uids), loss in zip(held, losses, strict=True):
            if not math.isfinite(loss):
                raise Diverged(self._message(f"the loss is {loss}", step, uids), step, uids)
            if self.mean is not None and self.spike is not None and self.seen > WARM and loss > self.spike * self.mean:
                what = f"the loss leapt from {self.mean:.4g} to {loss:.4g}"
                raise Diverged(self._message(what, step, uids), step, uids)
            self.mean = loss if self.mean is None else KEEP * self.mean + (1 - KEEP) * loss
            self.seen += 1
        return losses

    def _message(self, what: str, step: int, uids: Sequence[str]) -> str:
        named = ", ".join(uids[:NAMED]) + (f" and {len(uids) - NAMED} more" if len(uids) > NAMED else "")
        return (
            f"{DIVERGED} at step {step}: {what}. Samples of this step: {named}. Look at them with `curate show`; a "
            "lower learning rate, a longer warm-up or optimiser.clip_norm often helps"
        )
