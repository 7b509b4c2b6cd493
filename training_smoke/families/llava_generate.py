"""LLaVA says something about pictures: a decoder with a cache of keys and values, for prompts of any lengths.

tokens = said(model, features, prompts, Sampling("greedy"), keys, chat)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from training_smoke.conversations import Chat
from training_smoke.generation import generate
from training_smoke.sampling import Sampling

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration


def expanded(ids: Tensor, image: int, patches: int) -> tuple[Tensor, Tensor]:
    """Each row's one token of the picture as many times as the picture has patches.

    Args:
        ids: int64 [n, t], `image` once in each row

    Returns:
        ids int64 [n, t - 1 + patches]; and of each of their places, where it was: int64, likewise
    """
    at = (ids == image).int().argmax(dim=1, keepdim=True)  # [n, 1]
    places = torch.arange(ids.shape[1] - 1 + patches, device=ids.device)
    was = torch.where(places <= at, places, (places - patches + 1).maximum(at))  # [n, t - 1 + patches]
    return ids.gather(1, was), was


def embedded(model: LlavaForConditionalGeneration, ids: Tensor, features: Tensor) -> Tensor:
    """Token embeddings with features in the places of the picture, as transformers' own forward puts them there.

    Args:
        ids: int64 [n, t], of `expanded`. features: float [n, patches, dim].

    Returns:
        float [n, t, dim]
    """
    embeddings: Tensor = model.get_input_embeddings()(ids)
    pictured = (ids == model.config.image_token_id).unsqueeze(-1)
    return embeddings.masked_scatter(pictured, features.to(embeddings.dtype))


class State(NamedTuple):
    """cache: of transformers, used once. there: int64 [n, t], 0 where a shorter prompt was padded. at: int64 [n], the
    next place in a text."""

    cache: Any
    there: Tensor
    at: Tensor


@dataclass(frozen=True, eq=False)
class Talk:
    """A `generation.Decoder` that goes on from prompts, all but the last token of them.

    features: float [n, patches, dim]. prompts: int64 [t] each, with one token of the picture.
    """

    model: LlavaForConditionalGeneration
    features: Tensor
    prompts: Sequence[Tensor]

    def begin(self) -> State:
        from transformers import DynamicCache

        device, config = self.features.device, self.model.config
        ids = torch.nn.utils.rnn.pad_sequence([p[:-1] for p in self.prompts], batch_first=True).to(device)
        lengths = torch.tensor([len(p) - 1 for p in self.prompts], device=device)
        ids, was = expanded(ids, config.image_token_id, self.features.shape[1])
        there = (was < lengths[:, None]).long()
        cache = DynamicCache(config=self.model.model.language_model.config)
        embeddings = embedded(self.model, ids, self.features)
        self.model.model.language_model(
            inputs_embeds=embeddings, attention_mask=there, past_key_values=cache, use_cache=True
        )
        return State(cache, there, there.sum(dim=1))

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        there = torch.cat([state.there, torch.ones_like(state.there[:, :1])], dim=1)
        hidden = self.model.model.language_model(
            inputs_embeds=self.model.get_input_embeddings()(tokens[:, None]),
            attention_mask=there,
            position_ids=state.at[:, None],
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state
        return self.model.lm_head(hidden[:, -1]), State(state.cache, there, state.at + 1)

    def rows(self, state: State, index: Tensor) -> State:
        state.cache.batch_select_indices(index)
        return State(state.cache, state.there[index], state.at[index])


def said(
    model: LlavaForConditionalGeneration,
    chat: Chat,
    features: Tensor,
    prompts: Sequence[Tensor],
    how: Sampling,
    keys: Sequence[str],
) -> list[str]:
    """A text for each picture and prompt; all prompts end with the same token. See `Talk`."""
    device = features.device
    prefix = torch.stack([p[-1:] for p in prompts]).to(device)
    found = generate(
        Talk(model, features, prompts),
        len(prompts),
        how,
        keys,
        bos=chat.image,  # never said; the prompts stand in its place
        eos=chat.end,
        pad=chat.end,
        prefix=prefix,
    )
    return chat.decode(found)
