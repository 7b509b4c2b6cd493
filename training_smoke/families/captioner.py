"""What captioners of our own share: words, and the abilities to write a caption and to say how likely one is.

class CaptionOnly(Captioning): ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.families.base import Family, Moment
from training_smoke.families.decoder import SIZES, PatchEncoder, Size, TextDecoder, Writer, causal
from training_smoke.generation import generate
from training_smoke.objectives.caption import caption_loss_of, caption_losses, next_labels
from training_smoke.sampling import Sampling
from training_smoke.vocabulary import Vocabulary

LEAST_CONTEXT = 3


class Captioning(Family):
    """An encoder of pictures, a decoder of texts.

    Of sizes "tiny", "small", "base" and "large" (`training_smoke.families.decoder.SIZES`), or with the weights of a
    towers.pt of the same family and size.
    """

    scales: ClassVar = {
        "tiny": {
            "towers": {"name": "tiny", "image_size": None, "context": None},
            "optimiser": {"lr": 2e-3, "weight_decay": 0.1, "warmup": 1_280, "clip_norm": 1.0},
            "samples": 24_576,
            "batch": 32,  # many steps count for more than their noise in so short a run
        },
        **{
            # Not compiled: draws of a step are made from hashes, which are no graph.
            name: {"towers": {"name": size, "image_size": None, "context": None}, "compile": False}
            for name, size in {"small": "small", "medium": "base", "large": "large"}.items()
        },
    }

    def __init__(self, size: Size, settings: Any) -> None:
        super().__init__((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        self.size, self.settings = size, settings
        self.image_size, self.context = size.image_size, size.context
        self.vocabulary = Vocabulary.small(size.vocabulary)
        self.encoder, self.decoder = PatchEncoder(size), TextDecoder(size)

    @classmethod
    def make(cls, towers: Towers, settings: Any) -> Captioning:
        if towers.name not in SIZES:
            raise TrainingError(f"{cls.__name__} has no size {towers.name!r}: there are {', '.join(SIZES)}")
        if towers.checkpointing:
            raise TrainingError(
                f"{cls.__name__} holds all activations: leave out checkpointing, or use smaller batches"
            )
        size = SIZES[towers.name]
        image_size, context = towers.image_size or size.image_size, towers.context or size.context
        if context < LEAST_CONTEXT:
            raise TrainingError(f"towers.context {context}: a text has a start, an end, and a word between")
        made = cls(replace(size, image_size=image_size, context=context), settings)
        if towers.weights is not None:
            _load(made, Path(towers.weights))
        return made

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return self.vocabulary.encode(texts, self.context)

    def labels(self, tokens: Tensor) -> Tensor:
        """int64 [n, context - 1]: what is to be said at each place."""
        return next_labels(tokens, self.vocabulary.pad)

    def said(self, memory: Tensor, tokens: Tensor, share: float, moment: Moment) -> Tensor:
        """The caption loss of tokens [batch, context] after memory [batch, patches, width], a share of them said all at
        once: a scalar, the mean over the tokens of the global batch."""
        inputs, seen = half_masked(tokens, self.vocabulary.mask, share, moment)
        return self.written(self.decoder(inputs, memory, seen), self.labels(tokens), moment)

    def written(self, hidden: Tensor, labels: Tensor, moment: Moment) -> Tensor:
        """The caption loss of what the decoder says, [batch, t, width], and was to say. On a CPU, places without a
        label are not computed at all: they are a third of Flickr8k's, and the head is the largest matrix; elsewhere
        shapes stay the same at every step."""
        if hidden.device.type == "cpu":
            there = labels >= 0
            hidden, labels = hidden[there], labels[there]
        return caption_loss_of(hidden, self.decoder.head, labels, world=moment.world)

    def memory(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> what the decoder looks at, [n, patches, width]."""
        memory: Tensor = self.encoder(self.normalised(images))
        return memory

    def caption(self, images: Tensor, how: Sampling, keys: Sequence[str]) -> list[str]:
        """A text for each picture, of at most context - 2 tokens: see `training_smoke.abilities.Captioner`."""
        how = how.within(self.context - 2)
        v = self.vocabulary
        with self.inference():
            tokens = generate(Writer(self.decoder, self.memory(images)), len(images), how, keys, v.bos, v.eos, v.pad)
        return v.decode(tokens.cpu())

    def caption_loss(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        with self.inference():
            tokens = self.tokenize(texts).to(self.mean.device)
            seen = causal(self.context - 1, tokens.device)
            hidden = self.decoder(tokens[:, :-1], self.memory(images), seen)
            sums, counts = caption_losses(self.decoder.head(hidden), self.labels(tokens))
        return sums.float().cpu(), counts.cpu()


def half_masked(tokens: Tensor, mask: int, share: float, moment: Moment) -> tuple[Tensor, Tensor]:
    """What the decoder is given: of a share of the samples nothing but `mask`, each seeing all of them; of the others
    the text, each token seeing those before it.

    Tschannen et al. 2023 (arXiv:2306.07915), section 3, "parallel prediction".

    Args:
        tokens: int64 [batch, context]

    Returns:
        inputs int64 [batch, context - 1] and what they see, bool [batch, 1, context - 1, context - 1]; masks stand at
        every place, so that they do not say how long the text is.
    """
    inputs = tokens[:, :-1]
    at_once = moment.uniform("parallel", len(tokens), device=tokens.device) < share  # [batch, 1]
    seen = causal(inputs.shape[1], tokens.device) | at_once[:, :, None]  # [batch, places, places]
    return torch.where(at_once, mask, inputs), seen[:, None]


def _load(family: Captioning, path: Path) -> None:
    from training_smoke.towers_file import config_of, read_file

    said = read_file(path)
    there, state = config_of(said), said["state"]
    shapes = {name: value.shape for name, value in family.state_dict().items()}
    if {name: value.shape for name, value in state.items()} != shapes:
        of = ", ".join(f"{name} {getattr(there.towers, name)}" for name in ("name", "image_size", "context"))
        raise TrainingError(f"{path} has a {there.objective} ({of}), and not a {type(family).__name__} of this size")
    with torch.no_grad():
        family.load_state_dict(state)
