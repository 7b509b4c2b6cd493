"""BLIP in transformers' format, both ways.

export(model, Path("mine"))         # mine/retrieval: BlipForImageTextRetrieval, mine/captioning:
                                    # BlipForConditionalGeneration, each with its processor
loaded(Towers("base", weights="mine"), BlipSettings())
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipProcessor,
    BlipTextConfig,
    BlipVisionConfig,
)

from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.families.blip_parts import Plan, layers_of
from training_smoke.families.blip_text import Words, trained_words
from training_smoke.families.published import published

if TYPE_CHECKING:
    from training_smoke.families.blip import Blip, BlipSettings

RETRIEVAL, CAPTIONING = "retrieval", "captioning"
Theirs = BlipForImageTextRetrieval | BlipForConditionalGeneration
CLASSES: dict[str, type[Theirs]] = {c.__name__: c for c in (BlipForImageTextRetrieval, BlipForConditionalGeneration)}


# ---------------------------------------------------------------------------------------------- out


def export(model: Blip, folder: Path) -> None:
    """Two folders that `from_pretrained` loads: one has the parts that contrast and match, one those that write."""
    for name, theirs in ((RETRIEVAL, _retrieval(model)), (CAPTIONING, _captioning(model))):
        theirs.save_pretrained(folder / name)
        _processor(model).save_pretrained(folder / name)


def _retrieval(model: Blip) -> BlipForImageTextRetrieval:
    with torch.device("meta"):  # a shell: its weights would be drawn for nothing
        found = BlipForImageTextRetrieval(model.plan.theirs())
    encoders = model.encoders
    found.vision_model, found.text_encoder, found.itm_head = encoders.vision, encoders.text, model.matching
    found.vision_proj, found.text_proj = encoders.image_projection, encoders.text_projection
    return found


def _captioning(model: Blip) -> BlipForConditionalGeneration:
    with torch.device("meta"):
        found = BlipForConditionalGeneration(model.plan.theirs())
    found.vision_model, found.text_decoder = model.encoders.vision, model.decoder
    return found


def _processor(model: Blip) -> BlipProcessor:
    try:
        from transformers import BlipImageProcessor
    except ImportError as e:
        raise TrainingError(f"transformers' picture processor needs torchvision: pip install torchvision ({e})") from e
    side = {"height": model.image_size, "width": model.image_size}
    numbers: dict[str, Any] = {"image_mean": model.mean.flatten().tolist(), "image_std": model.std.flatten().tolist()}
    return BlipProcessor(BlipImageProcessor(size=side, **numbers), model.words.tokenizer)


# ---------------------------------------------------------------------------------------------- in


def loaded(towers: Towers, settings: BlipSettings) -> Blip:
    """A model with the weights of `towers.weights`: a folder of `export`, one of a single model of transformers, or its
    name on the hub. What a single one does not have begins with what is nearest: self-attention of encoder or decoder
    with the other's, as both begin with BERT's in the paper; projections and the matching head are drawn.

    Raises:
        TrainingError: no such folder, or of another class; sizes that are not asked for.
    """
    from training_smoke.families.blip import Blip

    found = [_read(place) for place in _places(str(towers.weights))]
    plan, first = Plan.of(found[0].config), _places(str(towers.weights))[0]
    words = Words.theirs(published(AutoTokenizer, first), plan.text)
    size = plan.vision.image_size
    if towers.image_size not in (None, size):
        raise TrainingError(f"image_size {towers.image_size} is asked for, and {towers.weights} is for {size}")
    context = trained_words(towers.context, 30, plan.text.max_position_embeddings)
    made = Blip(plan, words, context, settings)
    retrieval = next((f for f in found if isinstance(f, BlipForImageTextRetrieval)), None)
    captioning = next((f for f in found if isinstance(f, BlipForConditionalGeneration)), None)
    _take(made, retrieval, captioning, str(towers.weights))
    made.about = as_bytes(plan, words)
    if towers.checkpointing:
        made.encoders.vision.gradient_checkpointing_enable()
    return made


def _places(weights: str) -> list[str]:
    """Folders of single models, or a name on the hub."""
    both = [Path(weights) / name for name in (RETRIEVAL, CAPTIONING)]
    return [str(p) for p in both if p.is_dir()] or [weights]


def _read(place: str) -> Theirs:
    try:
        config = BlipConfig.from_pretrained(place)
    except (OSError, ValueError) as e:
        raise TrainingError(f"{place} is no model of transformers' BLIP classes: {str(e).splitlines()[0]}") from e
    name = (config.architectures or ["none"])[0]
    if name not in CLASSES:
        raise TrainingError(f"{place} is of class {name}: BLIP begins with {' or '.join(CLASSES)}")
    return CLASSES[name].from_pretrained(place)


def _take(
    made: Blip, retrieval: BlipForImageTextRetrieval | None, captioning: BlipForConditionalGeneration | None, said: str
) -> None:
    """Copy weights; of what both have (all but the heads and self-attention), those of retrieval count."""
    encoders, decoder = made.encoders, made.decoder
    with torch.no_grad():
        if captioning is not None:
            _copy(encoders.vision, captioning.vision_model)
            _copy(decoder, captioning.text_decoder)
        if retrieval is not None:
            _copy(encoders.vision, retrieval.vision_model)
            _copy(encoders.text, retrieval.text_encoder)
            _copy(made.matching, retrieval.itm_head)
            _copy(encoders.image_projection, retrieval.vision_proj)
            _copy(encoders.text_projection, retrieval.text_proj)
        for reading, writing in zip(layers_of(encoders.text), layers_of(decoder.bert), strict=True):
            if captioning is None:
                _copy(writing.attention, reading.attention)
            if retrieval is None:
                _copy(reading.attention, writing.attention)
        made.slow = encoders.slow_copy()
    missing = [what for what, has in (("matching head", retrieval), ("writing head", captioning)) if has is None]
    if missing:
        warnings.warn(f"{said} has no {missing[0]}: its weights are drawn at random", stacklevel=2)


def _copy(into: nn.Module, of: nn.Module) -> None:
    into.load_state_dict(of.state_dict())


# ---------------------------------------------------------------------------------------------- within our own files


def as_bytes(plan: Plan, words: Words) -> torch.Tensor:
    """What a model from elsewhere is, as a buffer, so that a file of ours needs no folder of theirs: uint8 [n]."""
    parts = [plan.vision.to_dict(), plan.text.to_dict(), plan.dim]
    said = json.dumps([parts, words.as_json()])
    return torch.frombuffer(bytearray(said.encode()), dtype=torch.uint8)


def of_bytes(about: torch.Tensor) -> tuple[Plan, Words]:
    (vision, text, dim), words = json.loads(bytes(about.tolist()))
    return Plan(BlipVisionConfig(**vision), BlipTextConfig(**text), dim), Words.of_json(words)
