"""Families of models that the judge trains beside two towers: each is one module that holds model and loss.

    made = family("blip").build(Towers("tiny"), {}, seed=0)      # training_smoke.families.base.Family
    losses = made(images, tokens, groups, Moment(step=0, steps=100, seed=0))

One table, name -> import path, so that nothing heavy is imported for a name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from training_smoke.errors import TrainingError

if TYPE_CHECKING:
    from training_smoke.families.base import Family

PAIRS = ("clip", "siglip", "meru")
"""Two towers and an objective that compares their vectors: see `training_smoke.objectives`."""

FAMILIES: dict[str, str] = {
    "siglip_caption": "training_smoke.families.siglip_caption:SigLIPCaption",
    "caption": "training_smoke.families.caption:CaptionOnly",
    "coca": "training_smoke.families.coca:CoCa",
    "blip": "training_smoke.families.blip:Blip",
    "albef": "training_smoke.families.albef:Albef",
    "blip2": "training_smoke.families.blip2:Blip2",
    "blip2_generate": "training_smoke.families.blip2_generate:Blip2Generate",
    "llava": "training_smoke.families.llava:Llava",
    "simvlm": "training_smoke.families.simvlm:SimVLM",
}
"""Models that are trained whole, by name."""

NAMES = (*PAIRS, *FAMILIES)


def family(name: str) -> type[Family]:
    """The class of a family.

    Raises:
        TrainingError: no such family, or a package that it needs is not installed.
    """
    if name not in FAMILIES:
        raise TrainingError(f"no family {name!r}: there are {', '.join(NAMES)}")
    module, _, cls = FAMILIES[name].partition(":")
    try:
        found: type[Family] = getattr(import_module(module), cls)
    except ModuleNotFoundError as e:
        if (e.name or "").split(".")[0] == "training_smoke":
            raise
        raise TrainingError(f"family {name} needs {e.name}: pip install 'curate[models]' ({e})") from e
    return found
