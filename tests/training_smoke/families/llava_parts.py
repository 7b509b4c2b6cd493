"""A LLaVA of width 32, and pictures and texts for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training_smoke.config import Config, Towers
from training_smoke.families.base import Moment
from training_smoke.families.llava import Llava
from training_smoke.families.llava_settings import SIZES

VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 16,
}  # fmt: skip
LANGUAGE = {
    "vocab_size": 1024, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip
SIZES["mini"] = (VISION, LANGUAGE)

TEXTS = [
    "Two brown dogs run on the beach .",
    "a man",
    "A girl in a red shirt sits on a bench beside a small white dog and looks at the water .",
    '[{"from": "human", "value": "<image>\\nwhat is it?"}, {"from": "gpt", "value": "a horse"}, '
    '{"from": "human", "value": "where?"}, {"from": "gpt", "value": "in the snow"}]',
]
FIRST, SECOND = Moment(0, 10, seed=0), Moment(9, 10, seed=0)
"""A step of each stage, where there are two."""


def mini(context: int = 64, weights: str | None = None, seed: int = 0, **settings: Any) -> Llava:
    """Wide initial weights, so that pictures and words make a difference."""
    made = Llava.build(Towers("mini", weights=weights, context=context), {"train_vision": True, **settings}, seed)
    assert isinstance(made, Llava)
    if weights is None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return made


def pictures(count: int = len(TEXTS), size: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(7)).to(torch.uint8)


def config(**changes: Any) -> Config:
    """Eight steps of four, and the first four of them are stage 1."""
    said: dict[str, Any] = {
        "objective": "llava",
        "towers": Towers("mini", context=32),
        "settings": {"alignment": 0.5, "train_vision": True, **changes.pop("settings", {})},
        "samples": 32,
        "batch": 4,
        "log_every": 1,
        "save_every": 2,
        **changes,
    }
    return Config(**said)


def exported(model: Llava, folder: Path) -> str:
    model.export(folder)
    return str(folder)
