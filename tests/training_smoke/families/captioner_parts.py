"""Captioners of a few numbers, in double precision, and batches of theirs."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from training_smoke.families.base import Moment
from training_smoke.families.captioner import Captioning
from training_smoke.families.decoder import Size

SIZE = Size(16, 10, width=32, heads=2, layers=2, decoder=2, text=1, patch=8, stem="conv", vocabulary=600)
TEXTS = ("a dog runs", "two men", "", "a child in a pink dress is climbing up the stairs of a house", "a man, a dog")
NOW = Moment(step=3, steps=10, seed=5)

Made = TypeVar("Made", bound=Captioning)


def made(kind: type[Made], size: Size = SIZE, **settings: object) -> Made:
    """The family with random weights, the same each time, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        built = kind(size, kind.checked(settings)).double().eval()
        for parameter in built.parameters():  # larger than they begin: whatever is looked at, shows
            parameter.data.mul_(2.0)
    return built


def pictures(count: int = len(TEXTS), size: int = SIZE.image_size, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def log_odds(model: Captioning, hidden: Tensor) -> Tensor:
    """Log probabilities of the next token by place."""
    odds: Tensor = model.decoder.head(hidden).log_softmax(dim=-1)
    return odds
