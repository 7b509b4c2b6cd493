"""BLIP-2, second stage: a language model is told, by the Q-Former's queries, what the picture shows.

    made = Blip2Generate.build(Towers("tiny", weights="runs/stage1"), {}, seed=0)
    made = Blip2Generate.build(Towers("base", weights="runs/stage1"), {"language": "folders/opt-125m"}, seed=0)

Li et al. 2023 (BLIP-2, arXiv:2301.12597), section 3.3; LAVIS, blip2_opt.py. Modules are transformers'
(Blip2ForConditionalGeneration) with any causal language model of theirs, the loss is ours. What was loaded is frozen,
image encoder and language model both; what is random is trained, as a frozen random one would say nothing: so it is at
`tiny`, where there is no language model to begin with.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.families.base import Losses, Moment
from training_smoke.families.blip2_language import Language, language_of, language_of_folder, random_language
from training_smoke.families.blip2_parts import (
    BASE,
    TINY,
    Blip2Family,
    Weights,
    read_weights,
    size_of,
    usable_init,
    warn_of_random,
)
from training_smoke.families.blip_text import Words, trained_words
from training_smoke.generation import generate
from training_smoke.objectives.caption import caption_loss, caption_losses, next_labels
from training_smoke.sampling import Sampling


@dataclass(frozen=True)
class Blip2GenerateSettings:
    """language: a folder in transformers' format, or a name on its hub, of a causal language model; "": one of the
    size's shape with random weights. train_vision, train_language: whether they learn; None: where their weights are
    random."""

    language: str = ""
    train_vision: bool | None = None
    train_language: bool | None = None


class Blip2Generate(Blip2Family):
    Settings = Blip2GenerateSettings
    separable = True
    scales: ClassVar = {"tiny": TINY, **BASE}

    def __init__(self, model: Any, words: Words, context: int, settings: Blip2GenerateSettings) -> None:
        from transformers import GenerationConfig

        super().__init__(model, words, context, settings)
        # For who loads an export.
        ends = {"bos_token_id": words.begin, "eos_token_id": words.end, "pad_token_id": words.pad}
        model.generation_config = GenerationConfig(**ends)

    @classmethod
    def make(cls, towers: Towers, settings: Blip2GenerateSettings) -> Blip2Generate:
        config, language, context = _described(towers, settings)
        model = cls.module(config)
        nn.init.normal_(model.query_tokens, std=config.initializer_range)
        if language.model is not None:
            model.language_model, config.text_config = language.model, language.model.config
        made = cls(model, language.words, context, settings)
        begun = made._begin(read_weights(towers.weights)) if towers.weights else set()
        begun |= {"language"} if language.model is not None else set()
        made._freeze(begun)
        if towers.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if settings.language or Path(towers.name).is_dir():
            made.keep()
        return made

    @staticmethod
    def module(config: Any) -> Any:
        from transformers import Blip2ForConditionalGeneration

        return Blip2ForConditionalGeneration(config)

    def _begin(self, weights: Weights) -> set[str]:
        """Take over what is there; of a first stage image encoder, queries and Q-Former. Which parts those are."""
        begun = {"vision"}
        weights.fill(self.model.vision_model, weights.vision)
        if weights.has("qformer."):
            begun.add("former")
            weights.fill(self.model, "query_tokens", into="query_tokens")
            weights.fill(self.model.qformer, "qformer.")
        else:
            warn_of_random(["Q-Former"], weights.source)
        if weights.has("language_model."):
            begun.add("language")
            weights.fill(self.model.language_projection, "language_projection.")
            weights.fill(self.model.language_model, "language_model.")
        return begun

    def _freeze(self, begun: set[str]) -> None:
        how = self.settings
        if "vision" in begun if how.train_vision is None else not how.train_vision:
            self.freeze_vision()
        if "language" in begun if how.train_language is None else not how.train_language:
            self.model.language_model.requires_grad_(False)

    # ------------------------------------------------------------------------------------------ how it is trained

    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        logits, labels = self._write(images, tokens)
        return {"loss": caption_loss(logits, labels, world=moment.world)}

    def weight(self, tokens: Tensor) -> Tensor:
        """How many tokens are predicted."""
        return (next_labels(tokens, self.words.pad) >= 0).sum().float()

    def lengths(self, tokens: Tensor) -> Tensor:
        return self.words.there(tokens).sum(dim=1)

    def prompts(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> [n, queries, width of the language model]: what stands before a text."""
        queries = self.model.query_tokens.expand(len(images), -1, -1)
        read = self.model.qformer(query_embeds=queries, encoder_hidden_states=self.see(images)).last_hidden_state
        told: Tensor = self.model.language_projection(read)
        return told

    def _write(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, t, vocabulary] and labels [n, t] of the tokens behind the first."""
        said = self.words.trimmed(tokens)
        prompts = self.prompts(images)
        spoken = self.model.get_input_embeddings()(said)
        there = torch.cat([said.new_ones(prompts.shape[:2]), self.words.there(said)], dim=1)
        logits = self.model.language_model(
            inputs_embeds=torch.cat([prompts.to(spoken), spoken], dim=1),
            attention_mask=there,
            use_cache=False,
            logits_to_keep=said.shape[1],
        ).logits
        return logits[:, :-1], next_labels(said, self.words.pad)

    # ------------------------------------------------------------------------------------------ what it can do

    def caption(self, images: Tensor, how: Sampling, keys: Sequence[str]) -> list[str]:
        """See `abilities.Captioner`."""
        words, config = self.words, self.model.config
        how = how.within(config.text_config.max_position_embeddings - config.num_query_tokens)
        with self.inference():
            decoder = CachedLanguage(self.model.language_model, self.prompts(images))
            begin = torch.full((len(images), 1), words.begin, device=self.mean.device)
            said = generate(decoder, len(images), how, keys, words.begin, words.end, words.pad, prefix=begin)
        return words.decode(said.cpu())

    def caption_loss(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """See `abilities.Captioner`."""
        with self.inference():
            sums, counts = caption_losses(*self._write(images, self.tokenize(texts).to(self.mean.device)))
        return sums.float().cpu(), counts.cpu()

    def export(self, folder: Path) -> None:
        """A folder that transformers' Blip2ForConditionalGeneration and AutoProcessor load."""
        self.model.save_pretrained(folder)
        tokenizer = copy.deepcopy(self.words.tokenizer)
        tokenizer.split_special_tokens = False  # "<image>" stands for a query there
        Language.template(tokenizer, self.words.begin, None)
        self.save_beside(folder, tokenizer, num_query_tokens=self.model.config.num_query_tokens)


class CachedLanguage:
    """A decoder for `training_smoke.generation`: prompts [n, queries, width] are what each text begins behind."""

    def __init__(self, language: Any, prompts: Tensor) -> None:
        self.language, self.prompts = language, prompts

    def begin(self) -> Any:
        return self.language(inputs_embeds=self.prompts, use_cache=True, logits_to_keep=1).past_key_values

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        found = self.language(input_ids=tokens[:, None], past_key_values=_copied(state), use_cache=True)
        return found.logits[:, -1], found.past_key_values

    def rows(self, state: Any, index: Tensor) -> Any:
        chosen = _copied(state)
        chosen.batch_select_indices(index)
        return chosen


def _copied(cache: Any) -> Any:
    """A cache that can be added to and leaves the other as it is; the tensors are not copied."""
    found = copy.copy(cache)
    found.layers = [copy.copy(layer) for layer in cache.layers]
    return found


def _described(towers: Towers, settings: Blip2GenerateSettings) -> tuple[Any, Language, int]:
    """(transformers' configuration, the language model and its texts, tokens a text)."""
    if Path(towers.name).is_dir():
        if settings.language:
            raise TrainingError(f"settings.language: {towers.name} has a language model already")
        config, language = language_of_folder(towers.name)
        if towers.image_size not in (None, config.vision_config.image_size):
            raise TrainingError(f"towers.image_size: {towers.name} has positions for its own size only")
        usable_init(config)
        return config, language, trained_words(towers.context, 32, language.positions - config.num_query_tokens)
    size = size_of(towers.name)
    language = language_of(settings.language) if settings.language else random_language(size)
    text = language.config if language.model is None else language.stand_in()
    config = size.config(towers, language.vocabulary, text)
    config.image_token_index = language.image
    return config, language, trained_words(towers.context, size.context, language.positions - size.queries)
