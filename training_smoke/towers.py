"""Two towers from pixels and tokens to vectors: tiny ones for a CPU, and every configuration of open_clip.

    model = build(Towers("tiny-conv", image_size=32, context=16), seed=0)
    model.encode_images(images)          # uint8 [batch, 3, 32, 32] -> float [batch, dim], unit vectors
    model.encode_texts(model.tokenize(["a red bicycle"]))

Pixels come as bytes and are normalised where the model lies: a quarter of the traffic, no float image elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training_smoke import features
from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.normalised import Normalised
from training_smoke.tokens import WORDS, tokenize_words

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LEARNED = ("logit_scale", "logit_bias")
OURS = ("feature-mlp", "tiny-conv", "tiny-vit")
TINY_SIZE, TINY_CONTEXT, TINY_WIDTH = 32, 16, 128


@dataclass(frozen=True)
class Frozen:
    """A first part of an image tower that no run trains: what it makes of a picture is computed once and kept.

    name: says all that decides its output, weights and version; a part of a file's name. dim: numbers a picture.
    run: uint8 [n, size, size, 3] -> float16 [n, dim]; called by several threads.
    """

    name: str
    dim: int
    run: Callable[[np.ndarray], np.ndarray]


class TwoTowers(Normalised, ABC):
    """What a run trains, whatever it is made of; `image_size` pixels a side, `context` tokens.

    frozen: what stands before `image_features` in place of normalised pixels; None: nothing does.
    unit: vectors are brought to length one; not so where an objective gives their lengths a meaning (MERU).
    learned: where weights were loaded, what the objective had learned beside them (logit_scale, logit_bias), so that
    a training begins where theirs ended.
    """

    image_size: int
    context: int
    frozen: Frozen | None = None
    unit: bool = True
    learned: Mapping[str, float] = MappingProxyType({})

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """int64 [n, context]."""

    @abstractmethod
    def image_features(self, pixels: Tensor) -> Tensor:
        """float [n, 3, size, size], normalised, or [n, frozen.dim] where a first part is frozen -> [n, dim]."""

    @abstractmethod
    def text_features(self, tokens: Tensor) -> Tensor:
        """int64 [n, context] -> [n, dim]."""

    def encode_images(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size], or what `frozen` made of them, float16 [n, frozen.dim] -> vectors [n, dim]."""
        if self.frozen is None:
            given = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        else:
            given = self._after_frozen(self.frozen, images).to(self.mean)
        return self._vectors(self.image_features(given))

    def _vectors(self, features: Tensor) -> Tensor:
        return F.normalize(features, dim=-1) if self.unit else features

    def _after_frozen(self, frozen: Frozen, images: Tensor) -> Tensor:
        """float16 [n, frozen.dim]: computed now, or by a loader long ago."""
        if images.dtype != torch.uint8:
            return images
        return torch.from_numpy(frozen.run(images.permute(0, 2, 3, 1).cpu().numpy()))

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """int64 [n, context] -> vectors [n, dim]."""
        return self._vectors(self.text_features(tokens))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Both, in one call: what DDP and FSDP wrap."""
        return self.encode_images(images), self.encode_texts(tokens)


# ---------------------------------------------------------------------------------------------- tiny ones


class TinyConv(nn.Module):
    """Five convolutions, down to an eighth of the side: [n, 3, size, size] -> [n, width].

    Normalised after the activation and not before it: means of what GELU leaves are alike for all pictures (at first a
    mean cosine of 0.69, and so 0.08), and the first steps make them more so.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [3, width // 4, 3 * width // 8, width // 2, width, width]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=stride, padding=1, bias=False), nn.GELU(), nn.GroupNorm(8, b))
            for (a, b), stride in zip(pairwise(sizes), (2, 1, 2, 2, 1), strict=True)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        for layer in self.layers:
            pixels = layer(pixels)
        return pixels.mean(dim=(2, 3))


class TinyViT(nn.Module):
    """Patches of an eighth of the side, four pre-norm blocks: [n, 3, size, size] -> [n, width]."""

    def __init__(self, width: int, size: int, layers: int = 4) -> None:
        super().__init__()
        if size % 8:
            raise TrainingError(f"tiny-vit needs an image_size that is a multiple of 8, not {size}")
        patch = size // 8
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 64, width))
        self.blocks = _blocks(width, layers)
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.patches(pixels).flatten(2).transpose(1, 2) + self.positions
        return self.norm(self.blocks(tokens)).mean(dim=1)


class TinyText(nn.Module):
    """Hashed words through two pre-norm blocks, averaged over the words that are there: [n, context] -> [n, width]."""

    def __init__(self, width: int, context: int, layers: int = 2) -> None:
        super().__init__()
        # Of deviation 1, torch's default: words of 0.02 drown in what the blocks soon add to all captions alike.
        self.words = nn.Embedding(WORDS, width, padding_idx=0)
        self.positions = nn.Parameter(0.02 * torch.randn(1, context, width))
        self.blocks = _blocks(width, layers)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens[:, : max(1, int((tokens != 0).sum(dim=1).max()))]  # what is padding everywhere says nothing
        padding = tokens == 0
        padding[:, 0] = False  # of an empty text, attention needs something to look at
        there = (~padding).unsqueeze(-1).to(self.positions.dtype)  # [n, longest, 1]
        words = self.words(tokens) + self.positions[:, : tokens.shape[1]]
        hidden = self.norm(self.blocks(words, src_key_padding_mask=padding))
        return (hidden * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)


def _blocks(width: int, layers: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        width, max(1, width // 32), 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class TinyTowers(TwoTowers):
    def __init__(self, kind: str, image_size: int, context: int, width: int = TINY_WIDTH) -> None:
        super().__init__((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        self.image_size, self.context = image_size, context
        self.image = TinyConv(width) if kind == "conv" else TinyViT(width, image_size)
        self.text = TinyText(width, context)
        self.image_projection = nn.Linear(width, width, bias=False)
        self.text_projection = nn.Linear(width, width, bias=False)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return tokenize_words(texts, self.context)

    def image_features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.image_projection(self.image(pixels))
        return features

    def text_features(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.text_projection(self.text(tokens))
        return features


class FeatureTowers(TwoTowers):
    """Two layers on hand-made features of the picture, two on the mean of the caption's words, whatever their order.

    Half of the features are hidden at each step, as a few thousand pictures would else be learned by heart (2,700 of
    CIFAR-10, half of them mismatched: 30 % right so, 21 without; none mismatched: 38 and 29; of 30,000 it costs 5).
    """

    def __init__(self, image_size: int, context: int, width: int = TINY_WIDTH) -> None:
        super().__init__((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.image_size, self.context = image_size, context
        self.frozen = Frozen(f"described-v{features.VERSION}", features.DIM, features.described)
        self.image = nn.Sequential(nn.Dropout(0.5), *_perceptron(features.DIM, 2 * width, width))
        self.words = nn.EmbeddingBag(WORDS, width // 2, mode="mean", padding_idx=0)
        self.text = _perceptron(width // 2, 2 * width, width)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return tokenize_words(texts, self.context)

    def image_features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.image(pixels)
        return features

    def text_features(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.text(self.words(tokens))
        return features


def _perceptron(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))


# ---------------------------------------------------------------------------------------------- open_clip


class OpenClip(TwoTowers):
    """A model of open_clip behind the same four methods; its own logit scale is not used: the objective has one."""

    def __init__(self, model: nn.Module, tokenizer: object, image_size: int, context: int) -> None:
        visual = model.visual
        super().__init__(
            getattr(visual, "image_mean", None) or CLIP_MEAN, getattr(visual, "image_std", None) or CLIP_STD
        )
        self.model, self._tokenizer = model, tokenizer
        self.image_size, self.context = image_size, context
        for name in LEARNED:
            if getattr(model, name, None) is not None:
                getattr(model, name).requires_grad_(False)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        tokens: Tensor = self._tokenizer(list(texts), context_length=self.context)  # type: ignore[operator]
        return tokens

    def image_features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.model.encode_image(pixels)  # type: ignore[operator]
        return features

    def text_features(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(tokens)  # type: ignore[operator]
        return features


def build(towers: Towers, seed: int) -> TwoTowers:
    """The towers with weights drawn by `seed`, or loaded; the global generator of torch is left as it was.

    Raises:
        TrainingError: no such towers or weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if towers.weights is not None and Path(towers.weights).is_file():
            from training_smoke.towers_file import begun_from

            if (found := begun_from(towers)) is not None:
                return found
        if towers.name not in OURS:
            from training_smoke.open_clip_towers import open_clip_towers

            return open_clip_towers(towers)
        if towers.weights is not None:
            raise TrainingError(
                f"{towers.weights}: no file of towers, and {towers.name} have no published weights; "
                "`curate train-filter` and `curate compare` leave such files (filter.pt, towers.pt)"
            )
        size, context = towers.image_size or TINY_SIZE, towers.context or TINY_CONTEXT
        if towers.name == "feature-mlp":
            return FeatureTowers(size, context)
        return TinyTowers(towers.name.removeprefix("tiny-"), size, context)
