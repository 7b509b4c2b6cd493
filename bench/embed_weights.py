"""Weights drawn at random: what they are decides nothing of what a forward pass costs.

path = random_weights("ViT-B-32")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from common import WORK


def random_weights(model: str) -> Path:
    """A file of weights of a configuration of open_clip, made once."""
    path = WORK / f"random-{model}.pt"
    if not path.exists():
        import open_clip

        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        net: Any = open_clip.create_model(model)
        torch.save(net.state_dict(), temporary)
        temporary.replace(path)
    return path
