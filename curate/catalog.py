"""What a recipe may name: built-in stages, barriers and filters, name -> import path; a user's own by path.

load("image_size", FILTERS)                    # filters.image_size:ImageSize
load("my_package.my_module:MyFilter", FILTERS)
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache

from stages.base import Barrier, Column, Parameters, Stage

OWN = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
"""What a path to a user's own class looks like."""

STAGES = {
    "image_facts": "stages.image_facts:ImageFacts",
    "text_facts": "stages.text_facts:TextFacts",
    "language": "stages.language:Language",
    "phash": "stages.phash:PHash",
    "clip_embedding": "stages.clip:ClipEmbedding",
    "clip_score": "stages.clip:ClipScore",
    "hash_groups": "stages.hash_groups:HashGroups",
}

FILTERS = {
    "where": "filters.where:Where",
    "image_size": "filters.image_size:ImageSize",
    "caption_length": "filters.caption_length:CaptionLength",
    "language": "filters.language:Language",
    "top_fraction": "filters.top_fraction:TopFraction",
    "random_subset": "filters.random_subset:RandomSubset",
    "keep_one": "filters.keep_one:KeepOne",
    "in_subset": "filters.in_subset:InSubset",
    "union": "filters.combined:Union",
    "intersect": "filters.combined:Intersect",
    "not": "filters.combined:Not",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where one of the known names is near, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


@cache
def _load(path: str) -> type[Parameters]:
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as e:
        near = nearest(module_name, _siblings(module_name))
        raise ValueError(f"{path}: cannot import {module_name} ({e}){near or '; is it on PYTHONPATH?'}") from e
    found = getattr(module, class_name, None)
    if found is None:
        there = [n for n in vars(module) if not n.startswith("_")]
        raise ValueError(f"{path}: {module_name} has no {class_name!r}{nearest(class_name, there)}")
    if not (isinstance(found, type) and issubclass(found, Parameters)):
        raise ValueError(f"{path}: is not a stage, barrier or filter (a class over stages.base.Parameters)")
    return found


def _siblings(module_name: str) -> list[str]:
    """Modules of the package that the name lies in, where there is such a package."""
    package = module_name.rpartition(".")[0]
    found = sys.modules.get(package)
    return [f"{package}.{m.name}" for m in pkgutil.iter_modules(getattr(found, "__path__", []))]


def load(name: str, table: Mapping[str, str]) -> type[Parameters]:
    """The class of a built-in name, or of ``package.module:Class``.

    Raises:
        ValueError: naming what was tried and the nearest name.
    """
    if name in table:
        return _load(table[name])
    if re.fullmatch(OWN, name):
        return _load(name)
    known = ", ".join(table)
    raise ValueError(
        f"{name!r} is not known{nearest(name, table)} (built in: {known}; your own as package.module:Class)"
    )


@cache
def default_fields() -> dict[str, Column]:
    """Plain column name -> the built-in stage, with default parameters, that writes it."""
    fields: dict[str, Column] = {}
    for name in ("image_facts", "text_facts", "language", "phash"):
        stage = load(name, STAGES)()
        assert isinstance(stage, Stage | Barrier)
        for field in stage.writes().names:
            if field != "error":
                fields[field] = Column(stage, field)
    return fields
