"""The specification's table (specs/training.md, section 2): features and values of CLIP and SigLIP, by which our
losses, the definitions as loops and open_clip's losses are each checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from objective_parts import IMAGES, TEXTS
from torch import Tensor

EXACT = 5e-7  # the table has six decimals
START = 1 / 0.07  # CLIP's first scale

CLIP_TABLE = [
    (1.0, 0.939775, 0.910663, 0.925219),
    (START, 1.096015, 1.392544, 1.244279),
    (100.0, 4.342116, 9.428090, 6.885103),
]
"""Scale; image to text, text to image, loss; of IMAGES and TEXTS."""
CLIP_SLOPE = 0.803690
"""Of the loss in the logarithm of the scale, at START."""
SIGLIP_TABLE = [(1.0, 0.0, 2.305162), (10.0, -10.0, 2.572175), (100.0, -10.0, 91.287842)]
"""Scale, bias, loss; of IMAGES and TEXTS."""
SIGLIP_SLOPES = (-4.350040, -0.611397)
"""Of the loss in the logarithm of the scale and in the bias, at 10 and -10."""


class Plain(NamedTuple):
    """Features of which a formula tells the loss. of: "clip" at START, or "siglip" at 10 and -10."""

    of: str
    images: Tensor
    texts: Tensor
    value: float
    formula: float
    off: float = EXACT

    def __str__(self) -> str:
        return f"{self.of} {self.value}"


def _same(batch: int) -> tuple[Tensor, Tensor]:
    one = torch.eye(2, dtype=torch.float64)[:1].expand(batch, 2)
    return one, one


def _crossed(batch: int) -> tuple[Tensor, Tensor]:
    """All images at right angles to all texts."""
    one, other = torch.eye(2, dtype=torch.float64).split(1)
    return one.expand(batch, 2), other.expand(batch, 2)


def right_angles(batch: int) -> float:
    """SigLIP: each image pays for its own text, and a little for each other one."""
    return math.log1p(math.exp(10)) + (batch - 1) * math.log1p(math.exp(-10))


EYE = torch.eye(4, dtype=torch.float64)
PLAIN = [
    Plain("clip", EYE, EYE, 1.874623e-06, math.log1p(3 * math.exp(-START)), 5e-13),
    Plain("clip", *_same(4), 1.386294, math.log(4)),
    Plain("siglip", EYE, EYE, 0.693283, math.log(2) + 3 * math.log1p(math.exp(-10))),
    Plain("siglip", *_same(4), 2.772589, 4 * math.log(2)),
    Plain("siglip", *_same(256), 177.445678, 256 * math.log(2)),
    Plain("siglip", *_crossed(4), 10.000182, right_angles(4)),
    Plain("siglip", *_crossed(256), 10.011622, right_angles(256)),
]


def clip_halves(scale: float) -> tuple[float, float]:
    """Image to text and text to image, of IMAGES and TEXTS, in Python's floats: of each the mean of minus the log of
    the right one's share."""

    def one_way(queries: list[list[float]], answers: list[list[float]]) -> float:
        total = 0.0
        for i, query in enumerate(queries):
            likeness = [sum(a * b for a, b in zip(query, answer, strict=True)) for answer in answers]
            odds = [math.exp(scale * z) for z in likeness]
            total -= math.log(odds[i] / sum(odds))
        return total / len(queries)

    images, texts = IMAGES.tolist(), TEXTS.tolist()
    return one_way(images, texts), one_way(texts, images)


def slope(loss: Callable[[float], float], at: float, step: float = 1e-5) -> float:
    """A derivative by a difference."""
    return (loss(at + step) - loss(at - step)) / (2 * step)
