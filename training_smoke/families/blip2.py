"""BLIP-2, first stage: a Q-Former learns to take out of an image encoder's patches what texts speak of.

    made = Blip2.build(Towers("tiny"), {}, seed=0)
    losses = made(images, tokens, None, Moment(step=0, steps=100, seed=0))        # itc, itm, itg and their sum

Li et al. 2023 (BLIP-2, arXiv:2301.12597), section 3.2; LAVIS, blip2_qformer.py. Modules are transformers'
(Blip2ForImageTextRetrieval, which has no training loss), losses ours. The second stage is `blip2_generate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training_smoke.config import Towers
from training_smoke.families.base import Losses, Moment
from training_smoke.families.blip2_described import described
from training_smoke.families.blip2_parts import (
    BASE,
    OURS,
    TINY,
    Blip2Family,
    Weights,
    read_weights,
    warn_of_random,
)
from training_smoke.families.blip2_qformer import CachedWriting, Kind, Writer, attention
from training_smoke.families.blip_text import Words
from training_smoke.generation import generate
from training_smoke.objectives.blip2 import hard_negatives, query_contrast
from training_smoke.objectives.caption import IGNORED, caption_loss, caption_losses, next_labels
from training_smoke.objectives.gather import Shards
from training_smoke.objectives.itc import Contrast
from training_smoke.objectives.itm import NO_PAIR, balanced, itm_loss
from training_smoke.objectives.pairs import wide
from training_smoke.sampling import Sampling

TAU, TAU_LEAST, TAU_MOST = 0.07, 0.001, 0.5


@dataclass(frozen=True)
class Blip2Settings:
    """train_vision: whether the image encoder learns; None: where its weights are random, as frozen random ones would
    stay so. smoothing: of the targets of contrast and captions. itc, itm, itg: weights of the three losses. matched:
    the share of a batch, in (0, 1], other places in each step, that matching is learned from: it is half of a step's
    cost."""

    train_vision: bool | None = None
    smoothing: float = 0.1
    itc: float = 1.0
    itm: float = 1.0
    itg: float = 1.0
    matched: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.matched <= 1 or not 0 <= self.smoothing < 1:
            raise ValueError(f"matched lies in (0, 1] and smoothing in [0, 1), not {self.matched} and {self.smoothing}")


class Blip2(Blip2Family):
    """tau: temperature of contrast, [1], learned; writer: the head that writes."""

    Settings = Blip2Settings
    scales: ClassVar = {
        # Temperature: at the rate of all others it is large before anything is learned.
        "tiny": TINY | {"settings": {"matched": 0.25}, "optimiser": TINY["optimiser"] | {"groups": (("^tau$", 0.1),)}},
        **BASE,
    }

    def __init__(self, model: Any, words: Words, context: int, settings: Blip2Settings) -> None:
        super().__init__(model, words, context, settings)
        former = model.config.qformer_config
        self.writer = Writer(former.hidden_size, former.vocab_size, former.layer_norm_eps, former.initializer_range)
        self.tau = nn.Parameter(torch.tensor([TAU]))
        self._last_tau = torch.tensor([TAU])

    @classmethod
    def make(cls, towers: Towers, settings: Blip2Settings) -> Blip2:
        config, words, context = described(towers)
        model = cls.module(config)
        nn.init.normal_(model.query_tokens, std=config.initializer_range)
        made = cls(model, words, context, settings)
        if towers.weights:
            made._begin(read_weights(towers.weights))
        if towers.weights if settings.train_vision is None else not settings.train_vision:
            made.freeze_vision()
        if towers.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if Path(towers.name).is_dir():
            made.keep()
        return made

    @staticmethod
    def module(config: Any) -> Any:
        from transformers import Blip2ForImageTextRetrieval

        return Blip2ForImageTextRetrieval(config)

    def _begin(self, weights: Weights) -> None:
        """Take over what is there: the image encoder, or all."""
        weights.fill(self.model.vision_model, weights.vision)
        if weights.has("qformer."):
            for name in ("query_tokens", "qformer", "embeddings", "vision_projection", "text_projection", "itm_head"):
                weights.fill(self.model, name, into=name)
            if weights.has("writer."):
                weights.fill(self.writer, "writer.")
                weights.fill(self, "tau", into="tau")
            else:
                warn_of_random(["head that writes"], weights.source)

    # ------------------------------------------------------------------------------------------ what it computes

    def _pass(self, kind: Kind, tokens: Tensor, states: Tensor | None) -> Tensor:
        """The Q-Former over queries (none where `states` of pictures are None) and tokens: [n, places, width]."""
        queries = None if states is None else self.model.query_tokens.expand(len(tokens), -1, -1)
        count = 0 if queries is None else queries.shape[1]
        hidden: Tensor = self.model.qformer(
            query_embeds=self.model.embeddings(input_ids=tokens, query_embeds=queries),
            query_length=count,
            attention_mask=attention(kind, count, tokens != self.words.pad),
            encoder_hidden_states=states,
        ).last_hidden_state
        return hidden

    def _text_vectors(self, tokens: Tensor) -> Tensor:
        """[n, t] -> unit vectors [n, dim], of the first token"""
        hidden = self._pass("alone", self.words.trimmed(tokens), None)
        return F.normalize(wide(self.model.text_projection(hidden[:, 0])), dim=-1)

    def _write(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of the queries [n, queries, dim]; of a text's places but the last, hidden [n, t, width] and what
        each has to say, labels [n, t]."""
        said = self.words.trimmed(tokens)
        said = torch.cat([torch.full_like(said[:, :1], self.words.begin), said[:, 1:]], dim=1)
        hidden = self._pass("writing", said, states)
        count = self.model.query_tokens.shape[1]
        vectors = F.normalize(wide(self.model.vision_projection(hidden[:, :count])), dim=-1)
        return vectors, hidden[:, count:-1], next_labels(said, self.words.pad)

    def _logits(self, hidden: Tensor) -> Tensor:
        """[..., width] -> [..., vocabulary]"""
        logits: Tensor = self.writer(hidden, self.model.embeddings.word_embeddings.weight)
        return logits

    def _match(self, states: Tensor, tokens: Tensor) -> Tensor:
        """[n, 2]: logits of (no, yes), the mean of those that each query gives"""
        hidden = self._pass("together", self.words.trimmed(tokens), states)
        logits: Tensor = self.model.itm_head(hidden[:, : self.model.query_tokens.shape[1]])
        return wide(logits).mean(dim=1)

    # ------------------------------------------------------------------------------------------ how it is trained

    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        how = self.settings
        states = self.see(images)
        vectors, hidden, labels = self._write(states, tokens)
        contrast = query_contrast(
            vectors, self._text_vectors(tokens), self.tau, smoothing=how.smoothing, groups=groups, world=moment.world
        )
        itm = self._matching(states, tokens, contrast, groups, moment)
        if not hidden.is_cuda:  # there, the shorter computation would wait for the device
            hidden, labels = hidden[labels != IGNORED], labels[labels != IGNORED]
        itg = caption_loss(self._logits(hidden), labels, smoothing=how.smoothing, world=moment.world)
        if self.training:
            self._last_tau = self.tau.detach().clone()  # FSDP takes the whole parameter away again
        loss = how.itc * contrast.loss + how.itm * itm + how.itg * itg
        return {"loss": loss, "itc": contrast.loss, "itm": itm, "itg": itg}

    def _matching(
        self, states: Tensor, tokens: Tensor, contrast: Contrast, groups: Tensor | None, moment: Moment
    ) -> Tensor:
        """True pairs, each picture with a hard negative text, each text with a hard negative picture."""
        shards = Shards(moment.world)
        on_cpu = moment.uniform("itm", len(tokens), 2)
        draws = on_cpu.to(tokens.device)
        text, is_text = hard_negatives(contrast.image_to_text, draws[:, 0], groups=groups, world=moment.world)
        image, is_image = hard_negatives(contrast.text_to_image, draws[:, 1], groups=groups, world=moment.world)
        every_state, every_text = shards.gather(states), shards.gather(tokens)
        # By their places in the global batch, so that processes take together what one would; in turn, so that no place
        # in a batch is left out for ever.
        turns = (shards.row_numbers(on_cpu) + moment.step) % len(every_text)
        some = [i for i, turn in enumerate(turns.tolist()) if _taken(turn, self.settings.matched)]
        here, some = bool(some), some or [0]  # of a process with none one is computed all the same, for its gradients
        logits = self._match(
            torch.cat([states[some], every_state[image[some]], states[some]]),
            torch.cat([tokens[some], tokens[some], every_text[text[some]]]),
        )
        wrong = torch.where(torch.cat([is_image[some], is_text[some]]), 0, NO_PAIR)
        labels = torch.cat([torch.ones_like(wrong[: len(some)]), wrong])
        return itm_loss(logits, labels if here else torch.full_like(labels, NO_PAIR), world=moment.world)

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        # LAVIS leaves tau free here; BLIP holds it in these bounds, and so do we: below 0 all would turn round.
        self.tau.clamp_(TAU_LEAST, TAU_MOST)

    def told(self) -> dict[str, float]:
        return {"tau": self._last_tau.item()}

    # ------------------------------------------------------------------------------------------ what it can do

    def encode_images(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> [n, dim]: the mean of the queries' unit vectors. Contrast takes the query that is
        nearest to a text, which one vector cannot say."""
        with self.inference():
            return self.query_vectors(images).mean(dim=1).cpu()

    def query_vectors(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> unit vectors [n, queries, dim], as `objectives.blip2.nearest` takes them."""
        queries = self.model.query_tokens.expand(len(images), -1, -1)
        hidden = self.model.qformer(query_embeds=queries, encoder_hidden_states=self.see(images)).last_hidden_state
        return F.normalize(wide(self.model.vision_projection(hidden)), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings -> unit vectors [n, dim]."""
        with self.inference():
            return self._text_vectors(self._tokens(texts)).cpu()

    def match(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """See `abilities.Matcher`: as likely as if half of the pairs were true."""
        with self.inference():
            return balanced(self._match(self.see(images), self._tokens(texts))).cpu()

    def caption(self, images: Tensor, how: Sampling, keys: Sequence[str]) -> list[str]:
        """See `abilities.Captioner`."""
        how = how.within(self.model.config.qformer_config.max_position_embeddings - 1)
        with self.inference():
            decoder = CachedWriting(self.model, self.writer, self.see(images))
            begin = torch.full((len(images), 1), self.words.begin, device=self.mean.device)
            words = self.words
            said = generate(decoder, len(images), how, keys, words.begin, words.end, words.pad, prefix=begin)
        return words.decode(said.cpu())

    def caption_loss(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """See `abilities.Captioner`."""
        with self.inference():
            _, hidden, labels = self._write(self.see(images), self._tokens(texts))
            sums, counts = caption_losses(self._logits(hidden), labels)
        return sums.float().cpu(), counts.cpu()

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        return self.tokenize(texts).to(self.mean.device)

    def export(self, folder: Path) -> None:
        """A folder that transformers' Blip2ForImageTextRetrieval and AutoProcessor load; the head that writes, for
        which transformers has no place, lies beside it in writer.safetensors and is loaded here."""
        from safetensors.torch import save_file

        self.model.save_pretrained(folder)
        mine = {f"writer.{name}": value for name, value in self.writer.state_dict().items()}
        save_file({n: v.detach().cpu().contiguous() for n, v in {**mine, "tau": self.tau}.items()}, folder / OURS)
        self.save_beside(folder, self.words.tokenizer)


def _taken(turn: int, share: float) -> bool:
    """Of the turns from 0 this share, evenly spread, the first of all among them."""
    return math.ceil((turn + 1) * share) > math.ceil(turn * share)
