"""What BLIP and ALBEF are made of: transformers' vision and text modules, at sizes of ours and of the paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipTextConfig,
    BlipTextLMHeadModel,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
)

from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.families.blip_text import Words
from training_smoke.families.momentum import slow_copy
from training_smoke.vocabulary import Vocabulary

MIN_TAU, MAX_TAU = 0.001, 0.5
"""Bounds of the learned temperature, of ALBEF's code and BLIP's."""

TINY = {
    "towers": {"name": "tiny", "image_size": 64, "context": 20},
    # A queue of one batch: in some hundred steps features move so fast that older ones are told by their age.
    "settings": {"momentum": 0.95, "queue": 64, "layers": 1},
    "batch": 64,
}
"""What both have at `tiny`, beside an optimiser and a number of samples."""


def tiny_optimiser(fresh: str) -> dict[str, object]:
    """fresh: a pattern of the parameters that writing or matching wants to be fast; contrast does not begin so."""
    groups = ((r"^tau", 0.1), (fresh, 3.0))
    rates = {"lr": 1e-3, "betas": (0.9, 0.98), "weight_decay": 0.05}
    return {**rates, "warmup": 1_280, "clip_norm": 1.0, "groups": groups}


@dataclass(frozen=True)
class Size:
    """image, patch: pixels a side. vision, text: width, layers, heads. dim: of what is contrasted. words: tokens of the
    vocabulary. context: tokens of a text in training; positions: of a text at all. spread: standard deviation of
    initial weights, of the vision part and of the text's. gains: see `listen`."""

    image: int
    patch: int
    vision: tuple[int, int, int]
    text: tuple[int, int, int]
    dim: int
    words: int
    context: int
    positions: int
    spread: tuple[float, float] = (0.02, 0.02)  # BERT's; transformers has 1e-10 for the vision part
    gains: tuple[float, float] = (1.0, 1.0)


SIZES = {
    # BLIP's ViT-B/16 and ViT-L/16 at the size of pre-training, and BERT-base; 30,524 words: BERT's, [DEC] and [ENC].
    "base": Size(224, 16, (768, 12, 12), (768, 12, 12), 256, 30_524, 30, 512),
    "large": Size(224, 16, (1024, 24, 16), (768, 12, 12), 256, 30_524, 30, 512),
}


@dataclass(frozen=True)
class Plan:
    """Configurations of the parts: what transformers keeps as one."""

    vision: BlipVisionConfig
    text: BlipTextConfig
    dim: int

    @classmethod
    def of(cls, config: BlipConfig) -> Plan:
        parts: Any = config
        return cls(parts.vision_config, parts.text_config, parts.image_text_hidden_size)

    def theirs(self) -> BlipConfig:
        return BlipConfig(
            vision_config=self.vision.to_dict(), text_config=self.text.to_dict(), image_text_hidden_size=self.dim
        )


@dataclass(frozen=True)
class Settings:
    """What BLIP and ALBEF have in common.

    momentum: of the model that soft targets and the queue come from. queue: pairs of earlier batches that a pair is
    contrasted with. alpha: how much of a target is the momentum model's opinion, rising to it from 0 over `ramp`, a
    share of the run. tau: temperature at first. width, layers, image_layers, patch: of the size `tiny` alone.
    """

    momentum: float = 0.995
    queue: int = 57_600
    alpha: float = 0.4
    ramp: float = 0.1
    tau: float = 0.07
    width: int = 128
    layers: int = 2
    image_layers: int = 2
    patch: int = 16

    def __post_init__(self) -> None:
        if not (0 <= self.momentum <= 1 and 0 <= self.alpha <= 1 and self.ramp >= 0):
            raise ValueError("momentum and alpha lie in [0, 1], and ramp is at least 0")
        if not MIN_TAU <= self.tau <= MAX_TAU or self.queue < 0:
            raise ValueError(f"tau lies in [{MIN_TAU}, {MAX_TAU}], and queue is at least 0")
        if self.width % 32 or min(self.width, self.layers, self.image_layers, self.patch) < 1:
            raise ValueError("width is a multiple of 32, and layers, image_layers and patch are at least 1")

    def alpha_at(self, share: float) -> float:
        """When so much of the run is behind."""
        return self.alpha if share >= self.ramp else self.alpha * share / self.ramp

    def tiny(self, text_layers: int) -> Size:
        """Initial weights as wide as BERT's 0.02 is at BERT's width, and attention that is heard: see `listen`."""
        heads, init = self.width // 32, 0.02 * (768 / self.width) ** 0.5
        vision, text = (self.width, self.image_layers, heads), (self.width, text_layers, heads)
        return Size(4 * self.patch, self.patch, vision, text, self.width, 4096, 20, 32, (init, init), (3.0, 2.0))


def size_of(towers: Towers, tiny: Size) -> Size:
    """
    Raises:
        TrainingError: no such size.
    """
    sizes = {"tiny": tiny} | SIZES
    if towers.name not in sizes:
        raise TrainingError(f"towers {towers.name!r}: there are {', '.join(sizes)}")
    return sizes[towers.name]


def plan_of(size: Size, image_size: int, smoothing: float) -> tuple[Plan, Words]:
    """The configuration of a model with random weights, and its vocabulary: ours, of as many words.

    Raises:
        TrainingError: pixels that are no multiple of the patch.
    """
    if image_size % size.patch:
        raise TrainingError(f"image_size {image_size} is no multiple of the patch, {size.patch}")
    words = Words.ours(Vocabulary.small(size.words))
    vision = BlipVisionConfig(
        **_shape(size.vision), initializer_range=size.spread[0], image_size=image_size, patch_size=size.patch
    )
    text = BlipTextConfig(
        **_shape(size.text),
        initializer_range=size.spread[1],
        encoder_hidden_size=size.vision[0],
        vocab_size=size.words,
        max_position_embeddings=size.positions,
        bos_token_id=words.begin,
        eos_token_id=words.end,
        sep_token_id=words.end,  # where transformers' generate ends
        pad_token_id=words.pad,
        label_smoothing=smoothing,
    )
    return Plan(vision, text, size.dim), words


def _shape(shape: tuple[int, int, int]) -> dict[str, Any]:
    width, layers, heads = shape
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def layers_of(text: BlipTextModel) -> list[Any]:
    """Each with attention, crossattention where it sees pictures, intermediate, output."""
    return list(text.encoder.layer)


def listen(text: BlipTextModel, gains: tuple[float, float]) -> None:
    """Make what attention brings so many times as strong in each of its two matrices: self-attention, and crossed.

    After its sum with the place itself all is normalised: at BERT's initial weights the first place of a text is at
    first the same for all texts (mean cosine of two: 0.99), and a short run ends before contrast and matching began.
    """
    with torch.no_grad():
        for layer in layers_of(text):
            for name, gain in zip(("attention", "crossattention"), gains, strict=True):
                part = getattr(layer, name, None)
                if part is not None:
                    part.self.value.weight *= gain
                    part.output.dense.weight *= gain


def share(encoder: BlipTextModel, decoder: BlipTextLMHeadModel) -> None:
    """Give the decoder all of the encoder but self-attention (Li et al. 2022, section 3.1), the output layer's matrix
    included, which is that of the embeddings."""
    decoder.bert.embeddings = encoder.embeddings
    for own, other in zip(layers_of(decoder.bert), layers_of(encoder), strict=True):
        own.crossattention, own.intermediate, own.output = other.crossattention, other.intermediate, other.output
    predictions: Any = decoder.cls.predictions
    predictions.decoder.weight = encoder.embeddings.word_embeddings.weight
    predictions.bias = predictions.decoder.bias


class Encoders(nn.Module):
    """A picture's encoder and a text's, each with a projection of its first place to what is contrasted."""

    def __init__(self, plan: Plan, text: BlipTextModel) -> None:
        super().__init__()
        self.vision, self.text = BlipVisionModel(plan.vision), text
        self.image_projection = nn.Linear(plan.vision.hidden_size, plan.dim)
        self.text_projection = nn.Linear(plan.text.hidden_size, plan.dim)

    def images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """float [n, 3, size, size], normalised -> (patches behind the first place [n, 1 + patches, width], unit vectors
        [n, dim])."""
        pictures = self.vision(pixel_values=pixels).last_hidden_state
        return pictures, _unit(self.image_projection(pictures[:, 0]))

    def texts(self, tokens: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """int64 [n, t] both -> (tokens [n, t, width], unit vectors [n, dim])."""
        said = self.text(input_ids=tokens, attention_mask=there).last_hidden_state
        return said, _unit(self.text_projection(said[:, 0]))

    def slow_copy(self) -> Encoders:
        """A momentum encoder of these, without what looks at pictures in the text's."""
        slow = slow_copy(self)
        for layer in layers_of(slow.text):
            if hasattr(layer, "crossattention"):
                del layer.crossattention
        return slow

    def blocks(self) -> Iterator[nn.Module]:
        """For FSDP. Text layers part by part, as a decoder has most of them in common with the encoder."""
        yield from self.vision.encoder.layers
        for layer in layers_of(self.text):
            yield from layer.children()


def _unit(features: Tensor) -> Tensor:
    """Of length one, in at least fp32."""
    return nn.functional.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)
