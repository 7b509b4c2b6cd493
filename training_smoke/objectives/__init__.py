"""Objectives: pure functions of features, and thin modules that own the scale which is learned with them."""

from __future__ import annotations

from training_smoke.objectives.cached import cached_step
from training_smoke.objectives.clip import CLIP, clip_loss
from training_smoke.objectives.meru import MERU, meru_loss
from training_smoke.objectives.siglip import SigLIP, siglip_loss

Objective = CLIP | SigLIP | MERU

OBJECTIVES: dict[str, type[CLIP] | type[SigLIP] | type[MERU]] = {"clip": CLIP, "siglip": SigLIP, "meru": MERU}

__all__ = [
    "CLIP",
    "MERU",
    "OBJECTIVES",
    "Objective",
    "SigLIP",
    "cached_step",
    "clip_loss",
    "meru_loss",
    "siglip_loss",
]
