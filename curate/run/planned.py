"""What a walk means to do: one line for each pass, with the folders that it fills and the notes beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.base import Need, Parameters

UNKNOWN = "to be known after ingest"
"""The generation of a pool that is still to grow."""
IMAGE_READ = "image"
"""How notes name the pixels among what is read."""


@dataclass(frozen=True)
class Made:
    """One folder that a step fills for its owner.

    todo: names of the parts that it lacks. about: the note beside the folder. root: the folder with the note, where
    that is not the one that is filled.
    """

    owner: Parameters | None
    folder: str
    todo: tuple[str, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    root: str = ""


@dataclass(frozen=True)
class Planned:
    """One line of a plan: what, over how many parts, how many of them are missing, and into which folder.

    total and missing are None where the parts follow from phases before. Of a barrier or global filter, `label` is its
    name; each `phase` is a line of its own, or one line has all `phases` where they are there altogether.
    """

    name: str
    kind: str
    folder: str
    total: int | None
    missing: int | None
    note: str = ""
    makes: tuple[Made, ...] = ()
    need: Need = field(default_factory=Need)
    label: str = ""
    phase: str = ""
    phases: tuple[str, ...] = ()
