"""CoCa: two towers, and a decoder that reads one of them to continue what the other one read.

    made = CoCa.build(Towers("coca_ViT-B-32", "laion2b_s13b_b90k"), {}, seed=0)
    made.caption(images, Sampling("beam"), keys)

Yu et al. 2022 (arXiv:2205.01917), as open_clip has it: its module, its names, our loss and our generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training_smoke.config import Towers
from training_smoke.families.base import Family, Losses, Moment
from training_smoke.families.coca_config import Words, build_coca, words_of
from training_smoke.families.coca_generate import CachedDecoder
from training_smoke.families.coca_parts import longest, read_texts, say
from training_smoke.generation import generate
from training_smoke.objectives.caption import IGNORED, caption_losses
from training_smoke.objectives.coca import coca_loss
from training_smoke.objectives.pairs import clamp_scale
from training_smoke.open_clip_files import write_model
from training_smoke.sampling import Sampling
from training_smoke.towers import CLIP_MEAN, CLIP_STD
from training_smoke.vocabulary import Vocabulary

ROWS = 32  # texts whose logits are held at a time where no gradient is asked: 32 of CLIP's vocabulary are 0.5 GB


@dataclass(frozen=True)
class CoCaSettings:
    """What the two losses count: Yu et al. 2022, section 4.1, and open_clip."""

    contrastive_weight: float = 1.0
    caption_weight: float = 2.0

    def __post_init__(self) -> None:
        if min(self.contrastive_weight, self.caption_weight) < 0:
            raise ValueError("weights are not below 0")


class CoCa(Family):
    """open_clip's CoCa: text is read causally, so that what stands for a token knows none after it."""

    Settings = CoCaSettings
    scales = {
        "tiny": {
            "towers": {"name": "tiny", "image_size": 64, "context": 20},
            "optimiser": {"lr": 3e-3, "weight_decay": 0.1, "warmup": 3_200, "clip_norm": 1.0},
            "samples": 57_600,
            "batch": 64,
        },
        # Not compiled: texts are as long as the longest of a batch, and logits as many as there are tokens.
        "debug": {"towers": {"name": "coca_ViT-B-32"}, "compile": False},
        "small": {"towers": {"name": "coca_ViT-B-32"}, "compile": False},
        "medium": {"towers": {"name": "coca_ViT-B-32"}, "compile": False},
        "large": {"towers": {"name": "coca_ViT-L-14"}, "compile": False},
    }
    settings: CoCaSettings

    def __init__(self, model: nn.Module, config: dict[str, Any], words: Words, settings: CoCaSettings) -> None:
        visual: Any = model.visual
        super().__init__(
            getattr(visual, "image_mean", None) or CLIP_MEAN, getattr(visual, "image_std", None) or CLIP_STD
        )
        self.model: Any = model
        self.words, self.settings, self._config = words, settings, config
        self.image_size: int = config["vision_cfg"]["image_size"]
        self.context: int = config["text_cfg"]["context_length"]
        self._scale: Tensor | None = None

    @classmethod
    def make(cls, towers: Towers, settings: CoCaSettings) -> CoCa:
        model, config = build_coca(towers)
        return cls(model, config, words_of(config), settings)

    # ------------------------------------------------------------------------------------------ how it is trained

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """int64 [n, context]."""
        return self.words.encode(texts, self.context)

    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        # What texts say is asked of the device once, before the pictures are on their way: the places without a label
        # that this leaves out are five of six, which costs more than the waiting.
        columns, labels = self._labels(tokens.cpu())
        there = (labels.flatten() != IGNORED).nonzero().squeeze(1)
        labels, there = (x.to(tokens.device, non_blocking=True) for x in (labels.flatten()[there], there))
        image_features, image_tokens = self.model.visual(self.normalised(images))
        text_features, states = self._read(image_tokens, tokens, columns)
        states = states.flatten(0, 1).index_select(0, there)  # [tokens of the batch, width]
        found = coca_loss(
            F.normalize(image_features, dim=-1),
            F.normalize(text_features, dim=-1),
            self.model.logit_scale,
            states @ self.model.text_decoder.text_projection,  # [tokens of the batch, vocabulary]
            labels,
            contrastive_weight=self.settings.contrastive_weight,
            caption_weight=self.settings.caption_weight,
            groups=groups,
            world=moment.world,
        )
        if self.training:
            self._scale = self.model.logit_scale.detach().exp().mean()  # whole here, where FSDP spreads it afterwards
        return {"loss": found.loss, "contrastive": found.contrastive, "caption": found.caption}

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        clamp_scale(self.model.logit_scale)

    def blocks(self) -> Iterator[nn.Module]:
        model = self.model
        yield from model.visual.transformer.resblocks
        yield from model.text.transformer.resblocks
        yield from model.text_decoder.resblocks
        yield from model.text_decoder.cross_attn

    def told(self) -> dict[str, float]:
        """The scale that the last step had."""
        scale = self.model.logit_scale.detach().exp() if self._scale is None else self._scale
        return {"scale": scale.item()}

    # ------------------------------------------------------------------------------------------ how it is used

    def encode_images(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> unit vectors, float32 [n, dim], in main memory."""
        with self.inference():
            return F.normalize(self.model.visual(self.normalised(images))[0].float(), dim=-1).cpu()

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings -> unit vectors, float32 [n, dim], in main memory."""
        with self.inference():
            features, _ = read_texts(self.model.text, self.tokenize(texts).to(self.mean.device))
            return F.normalize(features.float(), dim=-1).cpu()

    def caption(self, images: Tensor, how: Sampling, keys: Sequence[str]) -> list[str]:
        """A text for each picture, of at most two tokens less than the model's context: its start and end are there."""
        how = how.within(self.context - 2)
        with self.inference():
            decoder = CachedDecoder(self.model, self.model.visual(self.normalised(images))[1])
            words = self.words
            tokens = generate(decoder, len(images), how, keys, words.bos, words.eos, words.pad)
        return words.decode(tokens.cpu())

    def caption_loss(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens = self.tokenize(texts)
        found = [
            self._likelihood(some, said.to(self.mean.device))
            for some, said in zip(images.split(ROWS), tokens.split(ROWS), strict=True)
        ]
        losses, counts = (torch.cat(side) for side in zip(*found, strict=True))
        return losses, counts

    def export(self, folder: Path) -> None:
        """As open_clip's own models lie on the hub: `open_clip.create_model_and_transforms("local-dir:FOLDER")`."""
        state = self.model.state_dict()
        state["logit_scale"] = state["logit_scale"].squeeze()
        mean, std = (values.flatten().tolist() for values in (self.mean, self.std))
        save = None if not isinstance(self.words, Vocabulary) else self._save_words
        write_model(folder, self._config, state, mean, std, save)

    # ------------------------------------------------------------------------------------------ parts

    def _read(self, image_tokens: Tensor, tokens: Tensor, columns: int) -> tuple[Tensor, Tensor]:
        """(vectors of texts [n, dim], states [n, columns - 1, width])."""
        features, hidden = read_texts(self.model.text, tokens, columns)
        return features, say(self.model.text_decoder, image_tokens, hidden[:, : columns - 1])

    def _labels(self, tokens: Tensor) -> tuple[int, Tensor]:
        """(places of the longest text, what is said behind each of them but the last, int64 [n, columns - 1])."""
        pad = self.model.text.pad_id
        columns = longest(tokens, pad)
        # Whatever has the number of padding within a text is a token: CLIP's "!" is.
        behind = (tokens != pad).flip(1).cummax(1).values.flip(1).logical_not()  # [n, context]
        return columns, tokens.masked_fill(behind, IGNORED)[:, 1:columns]

    def _likelihood(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        with self.inference():
            _, image_tokens = self.model.visual(self.normalised(images))
            columns, labels = self._labels(tokens)
            _, states = self._read(image_tokens, tokens, columns)
            losses, counts = caption_losses(states @ self.model.text_decoder.text_projection, labels)
        return losses.float().cpu(), counts.cpu()

    def _save_words(self, folder: Path) -> None:
        """For transformers' tokenizers, which open_clip asks; with a start and an end around every text."""
        assert isinstance(self.words, Vocabulary)
        self.words.hf(around=True).save_pretrained(folder)
