"""A small CoCa of two kinds: `tiny`, and one as published ones are; with pictures and texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

from training_smoke.config import Towers
from training_smoke.families import coca_config
from training_smoke.families.base import Moment
from training_smoke.families.coca import CoCa

TEXTS = [
    "a dog runs through the grass!",
    "two men",
    "A woman in a red coat is walking down a very long street at night",
]
NOW = Moment(step=0, steps=10, seed=0)
SIZE = 32
TINY = Towers("tiny", image_size=SIZE, context=12)
PLAIN = "coca_of-these-tests"  # as published ones are: CLIP's vocabulary, pooled queries, other heads and layers


@contextmanager
def narrow(folder: Path) -> Iterator[None]:
    """`tiny` of width 32, and PLAIN in open_clip's own list."""
    patch = pytest.MonkeyPatch()
    tiny = coca_config.tiny
    patch.setattr(coca_config, "tiny", lambda: tiny(width=32))
    config = tiny(width=32)
    for part in ("text_cfg", "multimodal_cfg"):
        config[part] |= {"vocab_size": 49408, "context_length": 16, "heads": 2}
    del config["text_cfg"]["hf_tokenizer_name"]
    pooled = {"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 2, "pool_type": "tok"}
    config["vision_cfg"] |= {**pooled, "patch_size": 8, "layers": 1}
    config["multimodal_cfg"]["layers"] = 2
    path = folder / f"{PLAIN}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    yield
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
    open_clip.factory._MODEL_CONFIGS.pop(PLAIN)
    patch.undo()


def build(name: str) -> CoCa:
    """ "tiny" or PLAIN, with weights as after a training."""
    return moved(CoCa.build(replace(TINY, name=name), {}, seed=0))


def moved(made: CoCa, seed: int = 1) -> CoCa:
    """With weights further apart than a start has them: what is said then depends on pictures and on every weight."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if "scale" not in name:
                p.add_(torch.randn(p.shape, generator=draws), alpha=0.15)
    return made.eval()


def pictures(count: int = 3, seed: int = 0) -> Tensor:
    """Of a colour each, with some noise."""
    draws = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 216, (count, 3, 1, 1), generator=draws)
    return (colours + torch.randint(0, 40, (count, 3, SIZE, SIZE), generator=draws)).to(torch.uint8)
