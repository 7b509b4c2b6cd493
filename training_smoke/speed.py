"""How fast a run is and what it waits for: samples a second, the share of waiting for data, MFU, time left.

MFU: floating-point operations of the model (three times those of a forward pass, recomputation not counted) over those
that this device's matrix product does in the same time, measured here at the start, and not over a vendor's figure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from training_smoke.families.base import Family, Moment
from training_smoke.models import Model

SIDE = {"cpu": 512, "cuda": 8192}  # of the matrices whose product is timed


def flops_per_sample(model: Model) -> int:
    """Of a forward and a backward pass of one pair, counted by running it."""
    device, texts = model.mean.device, ["a word"]
    if isinstance(model, Family):
        texts = ["a word", "another"]  # hard negatives need a second one
    images = torch.zeros(len(texts), 3, model.image_size, model.image_size, dtype=torch.uint8, device=device)
    tokens = model.tokenize(texts).to(device)
    with FlopCounterMode(display=False) as counter, _at_rest(model), torch.random.fork_rng(devices=[]):
        if isinstance(model, Family):
            with model.inference():
                model(images, tokens, None, Moment(0, 1, 0))
        else:
            model(images, tokens)
    return 3 * int(counter.get_total_flops()) // len(texts)


@cache  # of a process: short runs follow each other in one
def matmul_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.1) -> float:
    """Floating-point operations a second of a large product: the best of as many as fit into so much time."""
    side = SIDE["cuda" if device.type == "cuda" else "cpu"]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until or not best:
        _finish(device)
        began = time.perf_counter()
        a @ b
        _finish(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


class Speed:
    """Of one process; `told` at each interval's end."""

    def __init__(self, flops: int, peak: float, batch: int, left: int) -> None:
        """
        Args:
            flops: of a sample. peak: of a second, over all processes. batch: of all processes. left: samples to go.
        """
        self._flops, self._peak, self._batch, self._left = flops, peak, batch, left
        self._began = time.perf_counter()
        self._steps, self._waited = 0, 0.0

    def step(self, waited: float) -> None:
        self._steps += 1
        self._waited += waited

    def told(self) -> dict[str, Any]:
        """Of the steps since the last time. The device has been waited for: a loss was read."""
        now = time.perf_counter()
        took, samples = now - self._began, self._steps * self._batch
        self._left -= samples
        said = {
            "samples_per_s": round(samples / took, 1),
            "wait_share": round(self._waited / took, 4),
            "mfu": round(self._flops * samples / took / self._peak, 4),
            "left_s": round(self._left * took / samples),
        }
        self._began, self._steps, self._waited = now, 0, 0.0
        return said


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Without gradient, and no parameter asks for one: the counter puts hooks on all that does."""
    learned = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in learned:
            parameter.requires_grad_(False)
        with torch.no_grad():
            yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
