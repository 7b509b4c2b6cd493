"""What a configuration trains: two towers, or a family that is one module with its loss.

model = build_model(config)              # weights drawn by config.init_seed, or loaded
"""

from __future__ import annotations

from training_smoke.config import Config
from training_smoke.families import FAMILIES, family
from training_smoke.families.base import Family
from training_smoke.towers import TwoTowers, build

Model = TwoTowers | Family

LENGTHS_COUNT = ("meru",)
"""Objectives for which towers give vectors of any length."""


def build_model(config: Config) -> Model:
    """
    Raises:
        TrainingError: no such towers, weights or settings.
    """
    if config.objective in FAMILIES:
        return family(config.objective).build(config.towers, config.settings, config.init_seed)
    towers = build(config.towers, config.init_seed)
    towers.unit = config.objective not in LENGTHS_COUNT
    return towers
