"""A BLIP of width 32 that has hardly learned, clean pairs and web pairs for it."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.training_smoke.families.blip_cases import SETTINGS
from tests.training_smoke.pack_parts import TWO, packed, pictures
from training_smoke.config import Config, scale
from training_smoke.packs import Pack
from training_smoke.towers_file import save_model
from training_smoke.train import train

torch.set_num_threads(1)
CLEAN, WEB = 12, 20


def clean_pack(root: Path) -> Pack:
    """CLEAN pairs, the last with two texts."""
    return Pack.open(packed(root / "clean", [*pictures(CLEAN - 1), *pictures(1, CLEAN - 1, emit=TWO)], samples=8))


def web_pack(root: Path) -> Pack:
    """WEB pairs of other pictures."""
    return Pack.open(packed(root / "web", pictures(WEB, 100), samples=16))


def config(**changes: object) -> Config:
    towers = {"image_size": 16, "context": 12}
    return scale("tiny", "blip").but(towers=towers, settings=SETTINGS, batch=4, samples=8).but(**changes)


def blip(root: Path, pack: Pack) -> Path:
    """The file of a BLIP after two steps."""
    begun = config()
    model = train(root / "blip", begun, {pack: 1.0})
    save_model(root / "blip.pt", model, begun, {})
    return root / "blip.pt"
