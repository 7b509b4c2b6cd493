"""What a Q-Former does in BLIP-2's first stage, by who may look at whom in its self-attention.

    attention("alone", 0, there)         # texts only: uni-modal, for contrast
    attention("together", 32, there)     # queries and texts see each other: bi-directional, for matching
    attention("writing", 32, there)      # texts see queries and what was said before: multi-modal causal, for captions

Li et al. 2023 (BLIP-2, arXiv:2301.12597), section 3.2 and figure 2. The modules are transformers' (Blip2QFormerModel,
Blip2TextEmbeddings), which have neither causal attention, nor a head that writes, nor a cache: those are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Kind = Literal["alone", "together", "writing"]


def attention(kind: Kind, queries: int, there: Tensor) -> Tensor:
    """Which place may look at which, queries first, then the text's tokens.

    Queries never see a text that is to be written, so that one pass gives both what pictures are contrasted by and the
    likelihood of the text: LAVIS does the same in two, by cached keys.

    Args:
        queries: how many stand before the text. there: bool [n, t], tokens that are no padding; the first always is.

    Returns:
        bool, [n, 1, 1 or places, places] with places = queries + t: True where it may look. All may look at something.

    >>> attention("writing", 1, torch.tensor([[True, True, False]]))[0, 0].int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [1, 1, 1, 0]], dtype=torch.int32)
    """
    n, t = there.shape
    seen = torch.cat([there.new_ones(n, queries), there], dim=1)[:, None, None, :]  # [n, 1, 1, places]
    if kind != "writing":
        return seen
    causal = torch.ones(queries + t, queries + t, dtype=torch.bool, device=there.device).tril()
    causal[:queries, :queries] = True
    return seen & causal


class Writer(nn.Module):
    """From a text's places to logits of their next tokens, as BERT's head for masked words, whose word vectors are the
    embedding's: dense, GELU, LayerNorm, product with the embedding, bias."""

    def __init__(self, width: int, vocabulary: int, eps: float, init: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        nn.init.normal_(self.dense.weight, std=init)
        nn.init.zeros_(self.dense.bias)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """[..., width], [vocabulary, width] -> [..., vocabulary]"""
        return F.linear(self.norm(F.gelu(self.dense(hidden))), embedding, self.bias)


@dataclass(frozen=True)
class Read:
    """What was read of pictures and written so far: of each layer keys and values, [n, heads, places, width of a head]
    each; text: how many of the places are the text's."""

    keys: list[Tensor]
    values: list[Tensor]
    text: int


class CachedWriting:
    """Token by token what `attention("writing")` gives at once: a decoder for `training_smoke.generation`.

    model: transformers' Blip2ForImageTextRetrieval. image_states: [n, patches, width], of the image encoder.
    """

    def __init__(self, model: Any, writer: Writer, image_states: Tensor) -> None:
        self.model, self.writer, self.image_states = model, writer, image_states

    def begin(self) -> Read:
        """All queries have read their pictures, and nothing is written yet."""
        former = self.model.qformer
        hidden = former.layernorm(self.model.query_tokens.expand(len(self.image_states), -1, -1))
        keys, values = [], []
        for layer in former.encoder.layer:
            key, value = _keys_and_values(layer.attention.attention, hidden)
            keys.append(key)
            values.append(value)
            hidden = layer(
                hidden, None, encoder_hidden_states=self.image_states, query_length=hidden.shape[1]
            )  # [n, queries, width]
        return Read(keys, values, text=0)

    def next(self, tokens: Tensor, state: Read) -> tuple[Tensor, Read]:
        """Tokens int64 [n], the last of each text -> logits [n, vocabulary] of what follows, and what is read now."""
        former, embeddings = self.model.qformer, self.model.embeddings
        place = torch.full_like(tokens, state.text)
        hidden = embeddings.word_embeddings(tokens) + embeddings.position_embeddings(place)
        hidden = former.layernorm(hidden)[:, None]  # [n, 1, width]
        keys, values = [], []
        for layer, before, known in zip(former.encoder.layer, state.keys, state.values, strict=True):
            own = layer.attention.attention
            key, value = _keys_and_values(own, hidden)
            keys.append(torch.cat([before.to(key), key], dim=2))
            values.append(torch.cat([known.to(value), value], dim=2))
            asked = _heads(own, own.query(hidden))  # [n, heads, 1, width of a head]
            seen = F.scaled_dot_product_attention(asked, keys[-1], values[-1]).transpose(1, 2).flatten(2)
            hidden = layer.feed_forward_chunk(layer.attention.output(seen, hidden))
        logits = self.writer(hidden[:, 0], embeddings.word_embeddings.weight)
        return logits, Read(keys, values, state.text + 1)

    def rows(self, state: Read, index: Tensor) -> Read:
        """The state of some rows, int64 [m], in their order; a row may stand there several times."""
        return Read([k[index] for k in state.keys], [v[index] for v in state.values], state.text)


def _keys_and_values(own: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """[n, places, width] -> two of [n, heads, places, width of a head]"""
    return _heads(own, own.key(hidden)), _heads(own, own.value(hidden))


def _heads(own: Any, values: Tensor) -> Tensor:
    return values.view(*values.shape[:2], own.num_attention_heads, -1).transpose(1, 2)
