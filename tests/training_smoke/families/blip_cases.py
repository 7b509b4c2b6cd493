"""A BLIP of width 32, and pictures and texts for it."""

from __future__ import annotations

import torch
from torch import Tensor

from training_smoke.config import Towers
from training_smoke.families import family
from training_smoke.families.base import Moment
from training_smoke.families.blip import Blip

torch.set_num_threads(1)
SETTINGS = {"width": 32, "layers": 2, "image_layers": 2, "queue": 8, "patch": 8, "momentum": 0.9}
TOWERS = Towers("tiny", image_size=16, context=12)
CAPTIONS = ["A dog runs over the grass.", "Two men.", "The red car is on the street", "a dog runs over the grass."]
MOMENT = Moment(step=5, steps=100, seed=0)


def made(towers: Towers = TOWERS, **settings: object) -> Blip:
    built = family("blip").build(towers, SETTINGS | settings, seed=0)
    assert isinstance(built, Blip)
    return built


def pictures(count: int = 4, size: int = 16) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=draws)


def moved(model: Blip, by: float = 0.05) -> Blip:
    """Weights of which no two parts are alike: decoder, encoder, momentum encoders, gains and biases."""
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=draws)
        model.tau.fill_(0.1)
    return model


def fair(p: Tensor) -> Tensor:
    """Theirs is of a world with two wrong pairs to a true one, as in training: odds doubled."""
    return 2 * p / (1 + p)
