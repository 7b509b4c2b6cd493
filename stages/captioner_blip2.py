"""BLIP-2 writes: transformers' Blip2ForConditionalGeneration, over OPT and its like, or over T5.

Li et al. 2023 (BLIP-2, arXiv:2301.12597), section 3.3. Prompts are as its processor encodes them; the text is what
follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stages.captioner_blip import grouped
from stages.captioner_decode import Ends, written
from stages.captioner_models import Asking
from stages.captioner_pixels import Squares
from training_smoke.families.blip2_generate import CachedLanguage

if TYPE_CHECKING:
    from training_smoke.sampling import Sampling


class Blip2Writer:
    """As `stages.captioner_models.Writer`."""

    def __init__(self, model: Any, processor: Any, asking: Asking) -> None:
        self.model, self.tokenizer, self.batch = model, processor.tokenizer, asking.batch
        self.squares = Squares(processor.image_processor, model.device, model.dtype, asking.batch)
        self.of_two = bool(model.language_model.config.is_encoder_decoder)
        said, text = model.generation_config, model.config.text_config
        end = text.eos_token_id if said.eos_token_id is None else said.eos_token_id
        ends = tuple(end) if isinstance(end, list) else (int(end),)
        pad = text.pad_token_id if text.pad_token_id is not None else ends[0]
        begin = text.decoder_start_token_id if self.of_two else text.bos_token_id
        self.ends = Ends(int(begin), ends, int(pad))
        asked = self.tokenizer(asking.prompt)["input_ids"] if asking.prompt else []
        self.prompt: list[int] = asked or [int(text.bos_token_id)]  # as transformers has it, before T5's own start too
        places = getattr(text, "max_position_embeddings", None)
        self.room = None if places is None else int(places) - model.config.num_query_tokens - len(self.prompt)
        if self.room is not None and self.room < 1:
            raise ValueError(f"the prompt has {len(self.prompt)} tokens: no place is left for a text")

    def shown(self, picture: np.ndarray) -> Tensor:
        """uint8 [3, size, size]."""
        return self.squares.cut(picture)

    def length(self, shown: Tensor) -> int:
        """One for all: pictures are squares."""
        return 1

    def together(self, texts: int, length: int) -> int:
        """One forward pass of pictures."""
        return self.batch

    @torch.inference_mode()
    def texts(self, shown: Sequence[Tensor], how: Sampling, keys: Sequence[Sequence[str]]) -> list[list[str]]:
        """See `stages.captioner_models.Writer`."""
        told = torch.cat([self._told(pixels) for pixels in self.squares.passes(shown)])[: len(shown)]
        how, count, device = how if self.room is None else how.within(self.room), len(keys[0]), self.model.device
        if self.of_two:
            read = self._with_prompt(told, self.prompt)
            tokens = written(
                EncodedLanguage(self.model.language_model, read), device, how, keys, self.ends, self.ends.bos
            )
        else:
            *before, last = self.prompt
            decoder = CachedLanguage(self.model.language_model, self._with_prompt(told, before))
            tokens = written(decoder, device, how, keys, self.ends, last)
        return grouped(self.tokenizer.batch_decode(tokens, skip_special_tokens=True), count)

    def _told(self, pixels: Tensor) -> Tensor:
        """[n, 3, size, size] -> what the language model is told, [n, queries, width]."""
        seen = self.model.vision_model(pixels).last_hidden_state
        queries = self.model.query_tokens.expand(len(pixels), -1, -1)
        read = self.model.qformer(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state
        told: Tensor = self.model.language_projection(read.to(seen.dtype))
        return told

    def _with_prompt(self, told: Tensor, prompt: Sequence[int]) -> Tensor:
        if not prompt:
            return told
        ids = torch.tensor([list(prompt)], device=told.device).expand(len(told), -1)
        return torch.cat([told, self.model.get_input_embeddings()(ids).to(told.dtype)], dim=1)


class EncodedLanguage:
    """A `training_smoke.generation.Decoder` over a language model of two halves: what the first one has read, float
    [n, t, width], stands beside what the second one says."""

    def __init__(self, language: Any, given: Tensor) -> None:
        self.language, self.given = language, given

    def begin(self) -> tuple[Tensor, Any]:
        from transformers import DynamicCache, EncoderDecoderCache

        read = self.language.get_encoder()(inputs_embeds=self.given).last_hidden_state
        return read, EncoderDecoderCache(DynamicCache(), DynamicCache())

    def next(self, tokens: Tensor, state: tuple[Tensor, Any]) -> tuple[Tensor, tuple[Tensor, Any]]:
        from transformers.modeling_outputs import BaseModelOutput

        read, cache = state
        found = self.language(
            decoder_input_ids=tokens[:, None],
            encoder_outputs=BaseModelOutput(last_hidden_state=read),
            past_key_values=cache,
            use_cache=True,
        )
        return found.logits[:, -1], (read, found.past_key_values)

    def rows(self, state: tuple[Tensor, Any], index: Tensor) -> tuple[Tensor, Any]:
        read, cache = state
        if cache.get_seq_length() > 0:
            cache.batch_select_indices(index)
        return read[index], cache
