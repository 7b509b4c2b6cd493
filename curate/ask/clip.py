"""Texts as vectors, by the text tower of a CLIP: what stands behind clip_text('...') in a query.

clip = Clip.named("ViT-B-32:laion2b_s34b_b79k")      # or ViT-B-32:/weights.pt, hf-hub:org/name, local-dir:/folder
clip.vectors(["a dog on a beach"])                   # {text: float32 (dim,), of length 1}

torch and open_clip are loaded when the first text is asked for, not before.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import UserError

HOW = "--clip MODEL:WEIGHTS on the command line, curate.open(pool, clip='MODEL:WEIGHTS') in Python"
EXAMPLE = "for example ViT-B-32:laion2b_s34b_b79k or ViT-B-32:/path/to/weights.pt"
_SPEC = re.compile(r"((?:hf-hub:|local-dir:)?[^:]+)(?::(.+))?")
_FILE = re.compile(r"[/\\]|\.(pt|pth|bin|ckpt|safetensors)$")


@dataclass
class Clip:
    """A CLIP of open_clip. weights: a file, or one of the model's pretrained tags; None: the model brings its own."""

    model: str
    weights: str | None
    _known: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def named(cls, spec: str) -> Clip:
        """MODEL or MODEL:WEIGHTS.

        Raises:
            UserError: open_clip is not installed, the name is none, or the file of weights is missing.
        """
        parts = _SPEC.fullmatch(spec.strip())
        if parts is None:
            raise UserError(f"clip {spec!r}: it is MODEL or MODEL:WEIGHTS of open_clip, {EXAMPLE}")
        for package in ("torch", "open_clip"):
            if importlib.util.find_spec(package) is None:
                raise UserError(f"clip {spec}: {package} is not installed; pip install 'curate[models]'")
        model, weights = parts[1], parts[2]
        if weights and _FILE.search(weights) and not Path(weights).is_file():
            raise UserError(f"clip {spec}: no weights at {weights}; give MODEL:WEIGHTS, {EXAMPLE}")
        if model.startswith("local-dir:") and not Path(model.removeprefix("local-dir:")).is_dir():
            raise UserError(f"clip {spec}: no folder at {model.removeprefix('local-dir:')}")
        return cls(model, weights)

    def __str__(self) -> str:
        return self.model if self.weights is None else f"{self.model}:{self.weights}"

    def vectors(self, texts: Iterable[str]) -> Mapping[str, np.ndarray]:
        """float32 (dim,) of length 1 for each text: what open_clip's encode_text(normalize=True) gives.

        Raises:
            UserError: open_clip does not know the model or its weights, or cannot get or read them.
        """
        import torch

        wanted = list(dict.fromkeys(texts))
        for text in wanted:
            if text not in self._known:  # one at a time, so that a vector does not depend on its company
                model, tokenizer = self._tower
                with torch.inference_mode():
                    vector = model.encode_text(tokenizer([text]), normalize=True)[0]
                self._known[text] = vector.float().numpy()
        return {text: self._known[text] for text in wanted}

    @cached_property
    def _tower(self) -> tuple[Any, Any]:
        """(model in evaluation, tokenizer)."""
        import open_clip

        weights = self._known_weights()
        try:
            model = open_clip.create_model(self.model, pretrained=weights, require_pretrained=True, weights_only=True)
            tokenizer = open_clip.get_tokenizer(self.model)
        except Exception as e:  # whatever torch, the hub or a damaged file throws: it is told, and ends the query
            remedy = f"without a network give a file of weights: {self.model}:/path/to/weights.pt"
            raise UserError(f"clip {self}: open_clip cannot load it: {type(e).__name__}: {e}; {remedy}") from e
        return model.eval(), tokenizer

    def _known_weights(self) -> str | None:
        """The file or tag to load; of a model named alone its only tag, or None where it brings its own weights."""
        import open_clip

        if self.model.startswith(("hf-hub:", "local-dir:")):
            return self.weights
        if self.model not in open_clip.list_models():
            near = difflib.get_close_matches(self.model, open_clip.list_models(), 3)
            raise UserError(
                f"clip {self}: open_clip has no model of this name" + (f"; nearest: {', '.join(near)}" if near else "")
            )
        tags = open_clip.list_pretrained_tags_by_model(self.model)
        chosen = self.weights or (str(tags[0]) if len(tags) == 1 else None)
        if chosen is None or not (chosen in tags or Path(chosen).is_file()):
            problem = "say which weights" if chosen is None else f"{chosen!r} is neither a file nor a tag of it"
            said = f"one of {', '.join(tags)}, or a file" if tags else "a file"
            raise UserError(f"clip {self}: {problem}; {self.model}:WEIGHTS with {said}")
        return chosen


def macro(vectors: Mapping[str, np.ndarray]) -> str:
    """SQL that makes clip_text give FLOAT[dim] for these texts: numbers that round to exactly these float32."""
    from filters.base import sql_string

    dim = len(next(iter(vectors.values())))
    cases = " ".join(f"WHEN {sql_string(text)} THEN {_array(vector)}" for text, vector in vectors.items())
    return f"CREATE TEMP MACRO clip_text(words) AS CAST(CASE words {cases} END AS FLOAT[{dim}])"


def _array(vector: np.ndarray) -> str:
    return f"CAST([{', '.join(f'{float(v):.17e}' for v in vector)}] AS FLOAT[{len(vector)}])"
