"""BLIP's decoder as `training_smoke.generation` asks it for a text: a token at a time, what it said before kept."""

from __future__ import annotations

from torch import Tensor
from transformers import BlipTextLMHeadModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

State = tuple[Tensor, EncoderDecoderCache]
"""Pictures, float [n, patches, width], and keys and values of all layers: of what was said, and of the pictures."""


class Writer:
    """A `training_smoke.generation.Decoder` for pictures, float [n, patches, width]. A state is used up by `next` and
    `rows`: transformers' caches change in place."""

    def __init__(self, decoder: BlipTextLMHeadModel, pictures: Tensor) -> None:
        self.decoder, self.pictures = decoder, pictures

    def begin(self) -> State:
        return self.pictures, EncoderDecoderCache(DynamicCache(), DynamicCache())

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        pictures, cache = state
        found = self.decoder(
            input_ids=tokens[:, None],
            encoder_hidden_states=pictures,
            past_key_values=cache,
            use_cache=True,
            is_decoder=True,
        )
        return found.logits[:, -1], (pictures, found.past_key_values)

    def rows(self, state: State, index: Tensor) -> State:
        pictures, cache = state
        cache.batch_select_indices(index)
        return pictures[index], cache
