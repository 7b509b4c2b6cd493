"""BLIP-2 at its smallest: a size of its own, pictures and texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from training_smoke.families import blip2_parts
from training_smoke.families.blip2_parts import Shape, Size

MINI = Size(
    vision=Shape(32, 2), former=Shape(32, 3), language=Shape(32, 2), image_size=32, patch=16, queries=4, cross=2,
    dim=16, context=12, vocabulary=1024, dropout=0.0, init=0.08,
)  # fmt: skip
TEXTS = ["A dog runs over grass.", "two people", "a red car by the sea, seen from above", "A dog.", "snow", "a boat"]


@contextmanager
def mini() -> Iterator[None]:
    """The size "mini" is known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(blip2_parts.SIZES, "mini", MINI)
        torch.set_num_threads(1)
        yield


def pictures(count: int = len(TEXTS)) -> Tensor:
    """uint8 [count, 3, 32, 32]"""
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def shaken(model: torch.nn.Module, by: float = 0.1) -> None:
    """Weights as after some training: fresh ones give all texts nearly the same logits."""
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=draws)
