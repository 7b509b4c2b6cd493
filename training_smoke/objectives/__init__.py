"""Objectives: pure functions of features, and thin modules that own the scale which is learned with them."""

from __future__ import annotations

from training_smoke.objectives.cached import cached_step
from training_smoke.objectives.clip import CLIP, clip_loss
from training_smoke.objectives.siglip import SigLIP, siglip_loss

Objective = CLIP | SigLIP

OBJECTIVES: dict[str, type[CLIP] | type[SigLIP]] = {"clip": CLIP, "siglip": SigLIP}

__all__ = ["CLIP", "OBJECTIVES", "Objective", "SigLIP", "cached_step", "clip_loss", "siglip_loss"]
