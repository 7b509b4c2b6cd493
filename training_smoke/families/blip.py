"""BLIP: pictures and texts contrasted, matched and captioned by one model. Li et al. 2022 (arXiv:2201.12086).

    made = family("blip").build(Towers("tiny"), {}, seed=0)
    made.export(Path("mine"))            # mine/retrieval, mine/captioning: folders that transformers loads

The modules are transformers'; losses, momentum encoders and queue are ours, as it has none. A text is read alone
(contrast), with cross-attention to the picture (matching), and written by a decoder that shares all with the reader but
self-attention (captions).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import BlipTextLMHeadModel, BlipTextModel

from training_smoke.config import Towers
from training_smoke.families.base import Family, Losses, Moment
from training_smoke.families.blip_generate import Writer
from training_smoke.families.blip_parts import (
    MAX_TAU,
    MIN_TAU,
    TINY,
    Encoders,
    Plan,
    Settings,
    layers_of,
    listen,
    plan_of,
    share,
    size_of,
    tiny_optimiser,
)
from training_smoke.families.blip_text import Words, trained_words
from training_smoke.families.momentum import Queue, follow
from training_smoke.generation import generate
from training_smoke.objectives.caption import IGNORED, caption_loss, caption_losses, next_labels
from training_smoke.objectives.gather import Shards
from training_smoke.objectives.itc import Contrast, itc_loss
from training_smoke.objectives.itm import balanced, hard_negatives, itm_loss
from training_smoke.sampling import Sampling
from training_smoke.towers import CLIP_MEAN, CLIP_STD


@dataclass(frozen=True)
class BlipSettings(Settings):
    """Beside those of `Settings`: smoothing, of captions' labels; floor, the least weight of a wrong pair for matching
    (`negative_weights`): at 1 any of the batch is nearly as likely as the hardest."""

    smoothing: float = 0.1
    floor: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.smoothing < 1:
            raise ValueError("smoothing lies in [0, 1)")
        if self.floor < 0:
            raise ValueError("floor is at least 0")


_PAPER = {"name": "base", "image_size": 224, "context": 30}
_RATE = {"lr": 3e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05}
_GPU = {"batch": 2048, "compile": False}  # a forward pass that draws is not one graph


class Blip(Family):
    """Settings: `BlipSettings`. towers.name: "tiny", "base" (ViT-B/16), "large" (ViT-L/16); towers.weights: a file of
    ours (towers.pt), a folder of `export`, or one of transformers' BlipForImageTextRetrieval or
    BlipForConditionalGeneration, or its name on the hub.
    """

    Settings = BlipSettings
    scales: ClassVar = {
        "tiny": TINY
        | {"optimiser": tiny_optimiser(r"^decoder|word_embeddings|crossattention|^matching"), "samples": 64 * 600},
        "small": _GPU | {"towers": _PAPER, "optimiser": _RATE | {"warmup": 500 * 2048}},
        "medium": _GPU | {"towers": _PAPER, "optimiser": _RATE | {"warmup": 3000 * 2048}},
        "large": _GPU
        | {"towers": _PAPER | {"name": "large"}, "optimiser": _RATE | {"lr": 2e-4, "warmup": 3000 * 2048}},
    }  # fmt: skip
    settings: BlipSettings
    about: Tensor  # uint8 [n], where weights from elsewhere came with another shape or vocabulary; else empty

    def __init__(self, plan: Plan, words: Words, context: int, settings: BlipSettings) -> None:
        super().__init__(CLIP_MEAN, CLIP_STD)
        self.context, self.settings = context, settings
        self.register_buffer("about", torch.empty(0, dtype=torch.uint8))
        self._assemble(plan, words)

    def _assemble(self, plan: Plan, words: Words) -> None:
        """All parts, with weights from torch's generator."""
        self.plan, self.words = plan, words
        self.image_size = int(plan.vision.image_size)  # type: ignore[arg-type]
        self.encoders = Encoders(plan, BlipTextModel(plan.text, add_pooling_layer=False))
        self.matching = nn.Linear(plan.text.hidden_size, 2)
        self.decoder = BlipTextLMHeadModel(plan.text)
        share(self.encoders.text, self.decoder)
        self.tau = nn.Parameter(torch.tensor([self.settings.tau]))  # of one dimension: FSDP takes no scalars
        self.slow = self.encoders.slow_copy()
        self.queue = Queue(self.settings.queue, plan.dim)
        self._told_tau = self.tau.detach().clone()
        self._features: tuple[Tensor, Tensor] | None = None

    @classmethod
    def make(cls, towers: Towers, settings: BlipSettings) -> Blip:
        if towers.weights is not None:
            from training_smoke.families.blip_files import loaded

            return loaded(towers, settings)
        size = size_of(towers, settings.tiny(settings.layers))
        plan, words = plan_of(size, towers.image_size or size.image, settings.smoothing)
        made = cls(plan, words, trained_words(towers.context, size.context, size.positions), settings)
        listen(made.encoders.text, size.gains)
        made.slow = made.encoders.slow_copy()
        if towers.checkpointing:
            made.encoders.vision.gradient_checkpointing_enable()
        return made

    @classmethod
    def again(cls, towers: Towers, settings: BlipSettings, about: Tensor) -> Blip:
        """As `Family.again` has it."""
        from training_smoke.families.blip_files import of_bytes

        plan, words = of_bytes(about)
        made = cls(plan, words, trained_words(towers.context, 30, plan.text.max_position_embeddings), settings)
        made.about = about
        return made

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As of any module; a model that began with weights from elsewhere takes its shape and vocabulary from there
        again, as they stand in the state (`blip_files.as_bytes`)."""
        about = state_dict.get("about")
        if about is not None and not torch.equal(about.cpu(), self.about.cpu()):
            from training_smoke.families.blip_files import of_bytes

            self.about = about
            with torch.random.fork_rng(devices=[]):
                self._assemble(*of_bytes(about))
        return super().load_state_dict(state_dict, strict, assign)

    # ------------------------------------------------------------------------------------------ training

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """int64 [n, context]."""
        return self.words.encode(texts, self.context)

    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        """ "itc", "itm", "lm", and their sum."""
        shards = Shards(moment.world)
        all_tokens = self.words.trimmed(shards.gather(tokens))  # [global batch, t]
        tokens = all_tokens[shards.row_numbers(tokens)]  # [batch, t]
        pixels, there = self.normalised(images), self.words.there(tokens)
        pictures, image_features = self.encoders.images(pixels)  # [batch, 1 + patches, width], [batch, dim]
        _, text_features = self.encoders.texts(tokens, there)
        with torch.no_grad():
            slow = self.slow.images(pixels)[1], self.slow.texts(tokens, there)[1]
        contrast = itc_loss(
            image_features, text_features, *slow, self.tau,
            alpha=self.settings.alpha_at(moment.share),
            image_queue=self.queue.images, text_queue=self.queue.texts,
            groups=groups, world=moment.world,
        )  # fmt: skip
        if self.training:
            self._features, self._told_tau = slow, self.tau.detach().clone()
        matching = self._matching(pictures, tokens, all_tokens, contrast, groups, moment)
        writing = self._writing(pictures, tokens, moment)
        loss = contrast.loss + matching + writing
        return {"loss": loss, "itc": contrast.loss, "itm": matching, "lm": writing}

    def _matching(
        self,
        pictures: Tensor,
        tokens: Tensor,
        all_tokens: Tensor,
        contrast: Contrast,
        groups: Tensor | None,
        moment: Moment,
    ) -> Tensor:
        """Each pair, each text with a picture that is nearly its own, each picture with a text that is nearly its own;
        both are found in the global batch."""
        draws = moment.uniform("itm", len(tokens), 2, tokens.device)
        wrong = hard_negatives(contrast, draws, groups=groups, floor=self.settings.floor, world=moment.world)
        all_pictures = Shards(moment.world).gather(pictures)
        shown = torch.cat([pictures, all_pictures[wrong.images], pictures])  # [3 batch, 1 + patches, width]
        asked = torch.cat([tokens, tokens, all_tokens[wrong.texts]])  # [3 batch, t]
        return itm_loss(self._matched(shown, asked), wrong.labels, world=moment.world)

    def _matched(self, pictures: Tensor, tokens: Tensor) -> Tensor:
        """Logits of (no, yes): float [n, 2]."""
        tokens = _begun(tokens, self.words.fused)
        hidden = self.encoders.text(
            input_ids=tokens, attention_mask=self.words.there(tokens), encoder_hidden_states=pictures
        ).last_hidden_state
        logits: Tensor = self.matching(hidden[:, 0])
        return logits

    def _writing(self, pictures: Tensor, tokens: Tensor, moment: Moment) -> Tensor:
        hidden, labels = self._written(pictures, tokens)
        if not hidden.is_cuda:  # where it costs no waiting, what is padding gets no logits
            there = labels != IGNORED
            hidden, labels = hidden[there], labels[there]
        return caption_loss(self.decoder.cls(hidden), labels, smoothing=self.settings.smoothing, world=moment.world)

    def _written(self, pictures: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Of all places but the last: what the decoder makes of them, [n, t - 1, width], and the token after them."""
        said = _begun(tokens, self.words.begin)[:, :-1]
        hidden = self.decoder.bert(
            input_ids=said,
            attention_mask=self.words.there(said),
            encoder_hidden_states=pictures,
            is_decoder=True,
            use_cache=False,
        ).last_hidden_state
        return hidden, next_labels(tokens, self.words.pad)

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        self.tau.clamp_(MIN_TAU, MAX_TAU)
        follow(self.slow, self.encoders, self.settings.momentum)
        if self._features is not None:
            self.queue.push(*(Shards(moment.world).gather(features) for features in self._features))
            self._features = None

    def blocks(self) -> Iterator[nn.Module]:
        yield from self.encoders.blocks()
        yield from self.slow.blocks()
        for layer in layers_of(self.decoder.bert):
            yield layer.attention

    def told(self) -> dict[str, float]:
        """Of the last step: FSDP may have spread the parameter since."""
        return {"tau": self._told_tau.item()}

    # ------------------------------------------------------------------------------------------ use

    def encode_images(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> unit vectors, float32 [n, dim]."""
        with self.inference():
            return self.encoders.images(self.normalised(images))[1].cpu()

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings -> unit vectors, float32 [n, dim]."""
        tokens = self._tokens(texts)
        with self.inference():
            return self.encoders.texts(tokens, self.words.there(tokens))[1].cpu()

    def match(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """As `training_smoke.abilities.Matcher` has it: as likely as if half of the pairs were true."""
        tokens = self._tokens(texts)
        with self.inference():
            logits = self._matched(self.encoders.images(self.normalised(images))[0], tokens)
        return balanced(logits).cpu()

    def caption(self, images: Tensor, how: Sampling, keys: Sequence[str]) -> list[str]:
        """As `training_smoke.abilities.Captioner` has it; no longer than texts are in training."""
        how = how.within(self.context - 2)
        with self.inference():
            writer = Writer(self.decoder, self.encoders.images(self.normalised(images))[0])
            w = self.words
            tokens = generate(writer, len(images), how, keys, bos=w.begin, eos=w.end, pad=w.pad)
        return self.words.decode(tokens)

    def caption_loss(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `training_smoke.abilities.Captioner` has it."""
        tokens = self._tokens(texts)
        with self.inference():
            hidden, labels = self._written(self.encoders.images(self.normalised(images))[0], tokens)
            sums, counts = caption_losses(self.decoder.cls(hidden), labels)
        return sums.cpu(), counts.cpu()

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        return self.words.trimmed(self.tokenize(texts).to(self.mean.device))

    def export(self, folder: Path) -> None:
        from training_smoke.families.blip_files import export

        export(self, folder)


def _begun(tokens: Tensor, first: int) -> Tensor:
    """Tokens [n, t] with another first one."""
    return torch.cat([torch.full_like(tokens[:, :1], first), tokens[:, 1:]], dim=1)
