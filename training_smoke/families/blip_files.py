"""BLIP in transformers' format, both ways.

export(model, Path("mine"))         # mine/retrieval: BlipForImageTextRetrieval, mine/captioning:
                                    # BlipForConditionalGeneration, each with its processor
loaded(Towers("base", weights="mine"), BlipSettings())
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipTextConfig,
    BlipVisionConfig,
)

from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.families.blip2_parts import read_weights
from training_smoke.families.blip_parts import Plan, layers_of, size_of
from training_smoke.families.blip_text import Words, check_words, save_processor, trained_words
from training_smoke.families.published import published
from training_smoke.towers_file import is_ours

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
        pixels = model.mean.flatten().tolist(), model.std.flatten().tolist()
        save_processor(folder / name, "BlipProcessor", model.words.tokenizer, model.image_size, pixels)


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


# ---------------------------------------------------------------------------------------------- in


def loaded(towers: Towers, settings: BlipSettings) -> Blip:
    """A model with the weights of `towers.weights`: a file or a run of ours, a folder of `export`, one of a single
    model of transformers, or its name on the hub. What a single one does not have begins with what is nearest:
    self-attention of encoder or decoder with the other's, as both begin with BERT's in the paper; projections and the
    matching head are drawn.

    Raises:
        TrainingError: no such file or folder, or of another class; tensors or a tokenizer that are missing; sizes that
            are not asked for.
    """
    weights = str(towers.weights)
    made = _ours(towers, settings) if _is_ours(Path(weights)) else _theirs(towers, settings)
    if towers.image_size not in (None, made.image_size):
        raise TrainingError(f"image_size {towers.image_size} is asked for, and {weights} is for {made.image_size}")
    if towers.checkpointing:
        made.encoders.vision.gradient_checkpointing_enable()
    return made


def _theirs(towers: Towers, settings: BlipSettings) -> Blip:
    from training_smoke.families.blip import Blip

    weights = str(towers.weights)
    places = _places(weights)
    found = [_read(place) for place in places]
    plan = Plan.of(found[0].config)
    check_named(towers, settings, plan)
    try:
        tokenizer = published(AutoTokenizer, places[0])
    except (OSError, ValueError, KeyError) as e:
        raise TrainingError(f"{places[0]}: no tokenizer: {str(e).splitlines()[0]}") from e
    check_words(tokenizer, plan.text.vocab_size, places[0])
    words = Words.theirs(tokenizer, plan.text)
    made = Blip(plan, words, trained_words(towers.context, 30, plan.text.max_position_embeddings), settings)
    retrieval = next((f for f in found if isinstance(f, BlipForImageTextRetrieval)), None)
    captioning = next((f for f in found if isinstance(f, BlipForConditionalGeneration)), None)
    _take(made, retrieval, captioning, weights)
    made.about = as_bytes(plan, words)
    return made


def check_named(towers: Towers, settings: BlipSettings, plan: Plan) -> None:
    """Are weights of this plan those of the size that `towers.name` says, or does it say where they lie?

    Raises:
        TrainingError: neither.
    """
    if towers.name == towers.weights:
        return
    asked = size_of(towers, settings.tiny(settings.layers))
    there = [_shape(part) for part in (plan.vision, plan.text)]
    patch = plan.vision.patch_size
    if there != [asked.vision, asked.text] or patch != asked.patch:
        shapes = " and ".join(f"{layers} layers of width {width}" for width, layers, _ in there)
        raise TrainingError(
            f"{towers.weights} has pictures and texts of {shapes}, patches of {patch}: that is not {towers.name!r}; "
            "say the same as towers.name and as towers.weights"
        )


def _shape(config: Any) -> tuple[int, int, int]:
    return config.hidden_size, config.num_hidden_layers, config.num_attention_heads


def _places(weights: str) -> list[str]:
    """Folders of single models, or a name on the hub."""
    both = [Path(weights) / name for name in (RETRIEVAL, CAPTIONING)]
    return [str(p) for p in both if p.is_dir()] or [weights]


def _read(place: str) -> Theirs:
    try:
        config = BlipConfig.from_pretrained(place)
        name = (config.architectures or ["none"])[0]
        if name not in CLASSES:
            raise TrainingError(f"{place} is of class {name}: BLIP begins with {' or '.join(CLASSES)}")
        kind: Any = CLASSES[name]
        found, about = kind.from_pretrained(place, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as e:
        raise TrainingError(f"{place} is no model of transformers' BLIP classes: {str(e).splitlines()[0]}") from e
    if about["missing_keys"]:
        raise TrainingError(f"{place} lacks {len(about['missing_keys'])} tensors, first {min(about['missing_keys'])}")
    model: Theirs = found
    return model


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


def _is_ours(path: Path) -> bool:
    return (path / "checkpoints").is_dir() or (path.is_file() and is_ours(path))


def _ours(towers: Towers, settings: BlipSettings) -> Blip:
    """With all that a run of ours learned; the queue alone is new: what is in it is of the run's last batches."""
    from training_smoke.families.blip import Blip

    state = read_weights(str(towers.weights)).values
    about = state.get("about", torch.empty(0, dtype=torch.uint8))
    if len(about):
        made = Blip.again(replace(towers, weights=None), settings, about)
        check_named(towers, settings, made.plan)
    else:
        made = Blip.make(replace(towers, weights=None), settings)
    try:
        lacking = made.load_state_dict({n: v for n, v in state.items() if not n.startswith("queue.")}, strict=False)
    except RuntimeError as e:
        what = str(e).splitlines()
        raise TrainingError(f"{towers.weights} is of other sizes: {what[min(1, len(what) - 1)].strip()}") from e
    wrong = sorted(n for n in (*lacking.missing_keys, *lacking.unexpected_keys) if not n.startswith("queue."))
    if wrong:
        raise TrainingError(f"{towers.weights} is no BLIP: {len(wrong)} tensors do not fit, first {wrong[0]}")
    return made


def as_bytes(plan: Plan, words: Words) -> torch.Tensor:
    """What a model from elsewhere is, as a buffer, so that a file of ours needs no folder of theirs: uint8 [n]."""
    parts = [plan.vision.to_dict(), plan.text.to_dict(), plan.dim]
    said = json.dumps([parts, words.as_json()])
    return torch.frombuffer(bytearray(said.encode()), dtype=torch.uint8)


def of_bytes(about: torch.Tensor) -> tuple[Plan, Words]:
    (vision, text, dim), words = json.loads(about.cpu().numpy().tobytes())
    return Plan(BlipVisionConfig(**vision), BlipTextConfig(**text), dim), Words.of_json(words)
