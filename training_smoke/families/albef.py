"""ALBEF: contrast before fusion, matching and hidden words after it, with a momentum model's opinions as targets.

    made = family("albef").build(Towers("tiny"), {}, seed=0)

Li et al. 2021 (arXiv:2107.07651). Text layers read alone, fusion layers with cross-attention to the picture; both are
transformers' BLIP modules, which are BERT's with cross-attention. No library has such a model: there is no export.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipTextModel
from transformers.models.blip.modeling_blip_text import BlipTextOnlyMLMHead

from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.families.base import Family, Losses, Moment
from training_smoke.families.blip_parts import (
    MAX_TAU,
    MIN_TAU,
    TINY,
    Encoders,
    Plan,
    Settings,
    Size,
    layers_of,
    listen,
    plan_of,
    size_of,
    tiny_optimiser,
)
from training_smoke.families.blip_text import Words, trained_words
from training_smoke.families.momentum import Queue, follow, slow_copy
from training_smoke.objectives.gather import Shards
from training_smoke.objectives.itc import Contrast, itc_loss
from training_smoke.objectives.itm import balanced, hard_negatives, itm_loss
from training_smoke.objectives.mlm import SEEN, Hidden, hidden, mlm_loss
from training_smoke.towers import CLIP_MEAN, CLIP_STD


@dataclass(frozen=True)
class AlbefSettings(Settings):
    """Beside those of `Settings`, whose layers are so many of text and as many of fusion: hidden, the share of words
    that are to be said again."""

    queue: int = 65_536
    ramp: float = 1 / 30
    layers: int = 1
    hidden: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.hidden <= 1:
            raise ValueError("hidden lies in (0, 1]")


class Reader(nn.Module):
    """Encoders, the fusion of a text with a picture, and the words that it finds hidden. The first half of the text's
    layers reads alone, the second half fuses."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        half = {**plan.text.to_dict(), "num_hidden_layers": plan.text.num_hidden_layers // 2}
        alone, fusing = (BlipTextConfig(**{**half, "is_decoder": crossed}) for crossed in (False, True))
        self.encoders = Encoders(plan, BlipTextModel(alone, add_pooling_layer=False))
        self.fusion = BlipTextModel(fusing, add_pooling_layer=False)
        del self.fusion.embeddings  # it is given what the text encoder made
        self.head = BlipTextOnlyMLMHead(fusing)
        predictions: Any = self.head.predictions
        predictions.decoder.weight = self.encoders.text.embeddings.word_embeddings.weight
        predictions.bias = predictions.decoder.bias
        nn.init.normal_(predictions.transform.dense.weight, std=plan.text.initializer_range)
        for bias in (predictions.transform.dense.bias, predictions.bias):
            nn.init.zeros_(bias)

    def fused(self, said: Tensor, there: Tensor, pictures: Tensor) -> Tensor:
        """[n, t, width], int64 [n, t], [n, 1 + patches, width] -> [n, t, width]."""
        found: Tensor = self.fusion(
            encoder_embeds=said, attention_mask=there, encoder_hidden_states=pictures
        ).last_hidden_state
        return found

    def blocks(self) -> Iterator[nn.Module]:
        """For FSDP."""
        yield from self.encoders.blocks()
        yield from layers_of(self.fusion)


_PAPER = {
    "towers": {"name": "base", "image_size": 256, "context": 30},
    "optimiser": {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.02, "warmup": 1000 * 512},
    "batch": 512,
    "compile": False,  # a forward pass that draws is not one graph
}


class Albef(Family):
    """Settings: `AlbefSettings`. towers.name: "tiny", or "base" (ViT-B/16 and BERT-base, half of it fusing)."""

    Settings = AlbefSettings
    scales: ClassVar = {
        "tiny": TINY
        | {"optimiser": tiny_optimiser(r"head|word_embeddings|crossattention|^matching"), "samples": 64 * 250},
        "small": _PAPER,
        "medium": _PAPER,
        "large": _PAPER,
    }  # fmt: skip
    settings: AlbefSettings

    def __init__(self, plan: Plan, words: Words, context: int, settings: AlbefSettings, size: Size) -> None:
        super().__init__(CLIP_MEAN, CLIP_STD)
        self.plan, self.words, self.settings = plan, words, settings
        self.image_size, self.context = int(plan.vision.image_size), context  # type: ignore[arg-type]
        self.reader = Reader(plan)
        for text in (self.reader.encoders.text, self.reader.fusion):
            listen(text, size.gains)
        self.matching = nn.Linear(plan.text.hidden_size, 2)
        self.tau = nn.Parameter(torch.tensor([settings.tau]))  # of one dimension: FSDP takes no scalars
        self.slow = slow_copy(self.reader)
        self.queue = Queue(settings.queue, plan.dim)
        self._told_tau = self.tau.detach().clone()
        self._features: tuple[Tensor, Tensor] | None = None

    @classmethod
    def make(cls, towers: Towers, settings: AlbefSettings) -> Albef:
        if towers.weights is not None:
            raise TrainingError(
                f"{towers.weights}: no library has weights of ALBEF; leave towers.weights out, or train blip from them"
            )
        size = size_of(towers, settings.tiny(2 * settings.layers))
        plan, words = plan_of(size, towers.image_size or size.image, 0.0)
        made = cls(plan, words, trained_words(towers.context, size.context, size.positions), settings, size)
        if towers.checkpointing:
            for reader in (made.reader, made.slow):
                reader.encoders.vision.gradient_checkpointing_enable()
        return made

    # ------------------------------------------------------------------------------------------ training

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """int64 [n, context]."""
        return self.words.encode(texts, self.context)

    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        """ "itc", "itm", "mlm", and their sum."""
        cut = self._longest(tokens, moment)
        asked = self._hidden(tokens, moment)  # before the cut: draws are of places, of whatever number of processes
        asked, tokens = Hidden(asked.tokens[:, :cut], asked.labels[:, :cut]), tokens[:, :cut]
        alpha = self.settings.alpha_at(moment.share)
        pixels, there = self.normalised(images), self.words.there(tokens)
        pictures, image_features = self.reader.encoders.images(pixels)  # [batch, 1 + patches, width], [batch, dim]
        said, text_features = self.reader.encoders.texts(tokens, there)  # [batch, t, width], [batch, dim]
        with torch.no_grad():
            slow_pictures, slow_images = self.slow.encoders.images(pixels)
            slow = slow_images, self.slow.encoders.texts(tokens, there)[1]
        contrast = itc_loss(
            image_features, text_features, *slow, self.tau, alpha=alpha,
            image_queue=self.queue.images, text_queue=self.queue.texts, groups=groups, world=moment.world,
        )  # fmt: skip
        if self.training:
            self._features, self._told_tau = slow, self.tau.detach().clone()
        matching = self._matching(pictures, said, there, contrast, groups, moment)
        logits = self._said(self.reader, asked, there, pictures)
        with torch.no_grad():
            opinion = self._said(self.slow, asked, there, slow_pictures)
        places = _places(asked.labels)
        wanted = asked.labels if places is None else asked.labels[places]
        finding = mlm_loss(logits, wanted, opinion, alpha=alpha, world=moment.world)
        loss = contrast.loss + matching + finding
        return {"loss": loss, "itc": contrast.loss, "itm": matching, "mlm": finding}

    def _longest(self, tokens: Tensor, moment: Moment) -> int:
        """How many places the longest text of the global batch has."""
        return self.words.trimmed(Shards(moment.world).gather(tokens)).shape[1]

    def _hidden(self, tokens: Tensor, moment: Moment) -> Hidden:
        w, (batch, t) = self.words, tokens.shape
        draws = moment.uniform("mlm", batch, 3 * t, tokens.device).view(batch, t, 3)
        keep = (tokens == w.pad) | (tokens == w.first)
        assert w.mask is not None
        size = self.plan.text.vocab_size
        return hidden(tokens, keep, draws, mask=w.mask, vocabulary=size, share=self.settings.hidden)

    def _said(self, reader: Reader, asked: Hidden, there: Tensor, pictures: Tensor) -> Tensor:
        """Logits of the hidden tokens, float [how many, vocabulary], or of all places, [batch, t, vocabulary]."""
        said = reader.encoders.texts(asked.tokens, there)[0]
        fused, places = reader.fused(said, there, pictures), _places(asked.labels)
        found: Tensor = reader.head(fused if places is None else fused[places])
        return found

    def _matching(
        self, pictures: Tensor, said: Tensor, there: Tensor, contrast: Contrast, groups: Tensor | None, moment: Moment
    ) -> Tensor:
        """Each pair, each text with a wrong picture, each picture with a wrong text, out of the global batch."""
        draws = moment.uniform("itm", len(said), 2, said.device)
        wrong = hard_negatives(contrast, draws, groups=groups, world=moment.world)
        all_pictures, all_said, all_there = (Shards(moment.world).gather(x) for x in (pictures, said, there))
        logits = self._matched(
            torch.cat([pictures, all_pictures[wrong.images], pictures]),
            torch.cat([said, said, all_said[wrong.texts]]),
            torch.cat([there, there, all_there[wrong.texts]]),
        )
        return itm_loss(logits, wrong.labels, world=moment.world)

    def _matched(self, pictures: Tensor, said: Tensor, there: Tensor) -> Tensor:
        """Logits of (no, yes): float [n, 2]."""
        logits: Tensor = self.matching(self.reader.fused(said, there, pictures)[:, 0])
        return logits

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        self.tau.clamp_(MIN_TAU, MAX_TAU)
        follow(self.slow, self.reader, self.settings.momentum)
        if self._features is not None:
            self.queue.push(*(Shards(moment.world).gather(features) for features in self._features))
            self._features = None

    def blocks(self) -> Iterator[nn.Module]:
        yield from self.reader.blocks()
        yield from self.slow.blocks()

    def told(self) -> dict[str, float]:
        """Of the last step: FSDP may have spread the parameter since."""
        return {"tau": self._told_tau.item()}

    # ------------------------------------------------------------------------------------------ use

    def encode_images(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> unit vectors, float32 [n, dim]."""
        with self.inference():
            return self.reader.encoders.images(self.normalised(images))[1].cpu()

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings -> unit vectors, float32 [n, dim]."""
        tokens = self._tokens(texts)
        with self.inference():
            return self.reader.encoders.texts(tokens, self.words.there(tokens))[1].cpu()

    def match(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """As `training_smoke.abilities.Matcher` has it: as likely as if half of the pairs were true."""
        tokens = self._tokens(texts)
        there = self.words.there(tokens)
        with self.inference():
            pictures = self.reader.encoders.images(self.normalised(images))[0]
            logits = self._matched(pictures, self.reader.encoders.texts(tokens, there)[0], there)
        return balanced(logits).cpu()

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        return self.words.trimmed(self.tokenize(texts).to(self.mean.device))


def _places(labels: Tensor) -> Tensor | None:
    """Where a token was hidden; None: everywhere, on a GPU, which would be waited for to count them."""
    return None if labels.is_cuda else labels != SEEN
