"""BLIP's two halves without what transformers does twice.

    seen = see(model.vision_model, pixels)                                   # [pictures, patches, width]
    decoder = BlipDecoder(model.text_decoder, seen, texts=1, prompt=[bos, 1037, 3861, 1997])

Weights and what is computed are those of transformers' BlipVisionModel and BlipTextLMHeadModel, up to rounding. Their
`generate` has a picture's keys and values for each of 12 layers, 42 MB of the base model, once for each of its texts,
and copies them at every token. Here all texts of a picture share them; and few texts have none at all: a key is W h + b
of what the vision model saw, so q . k = (W' q) . h + constant, which takes 1.8 MB a picture and no work before the
first token. (The same for values, as weights of attention add up to one.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SPARSE = 0.7  # share of pictures still written about, below which the others are let go
FEW = (
    3  # texts of a picture up to which keys and values cost more than they save: 16 Gflop against 5 a text of 20 tokens
)


class Kept(NamedTuple):
    """keys, values: [n, heads, t, width / heads]."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Seats:
    """Where rows stand among the pictures: row i is one of `wide` of its picture, in place[i] of pictures * wide.

    place: int64 [rows]; None: row i is picture i's only one.
    """

    picture: Tensor
    place: Tensor | None
    wide: int

    @classmethod
    def of(cls, picture: Tensor, pictures: int) -> Seats:
        """picture: int64 [rows], in any order."""
        counts = torch.bincount(picture, minlength=pictures)
        wide, whole = int(counts.max()), len(picture) == pictures
        if wide == 1 and whole and bool((picture == torch.arange(pictures, device=picture.device)).all()):
            return cls(picture, None, 1)
        order = picture.argsort(stable=True)
        first = (counts.cumsum(0) - counts)[picture[order]]
        place = torch.empty_like(picture)
        place[order] = picture[order] * wide + torch.arange(len(picture), device=picture.device) - first
        return cls(picture, place, wide)


@dataclass(frozen=True)
class State:
    """said: a layer each, of texts. pictures: what is known of them, of `_begun`; [pictures, ...] each. seats: which
    row looks at which. length: of texts so far."""

    said: tuple[Kept | None, ...]
    pictures: tuple[Tensor, ...]
    seats: Seats
    length: int


class BlipDecoder:
    """A `training_smoke.generation.Decoder` for what `see` gave of pictures.

    text: transformers' BlipTextLMHeadModel. texts: of a picture, about. prompt: tokens before the one that `next` is
    fed first.
    """

    def __init__(self, text: Any, seen: Tensor, texts: int = 1, prompt: Sequence[int] = ()) -> None:
        self.text, self.seen, self.few, self.prompt = text, seen, texts <= FEW, list(prompt)
        self.layers = tuple(text.bert.encoder.layer)
        self.heads = int(text.config.num_attention_heads)

    def begin(self) -> State:
        count, device = len(self.seen), self.seen.device
        pictures: tuple[Tensor, ...] = (self.seen,)
        if not self.few:
            kept = [self._kept(layer.crossattention.self, self.seen) for layer in self.layers]
            pictures = tuple(tensor for layer in kept for tensor in layer)
        seats = Seats.of(torch.arange(count, device=device), count)
        state = State((None,) * len(self.layers), pictures, seats, 0)
        if self.prompt:
            tokens = torch.tensor([self.prompt], device=device).expand(count, -1)
            _, state = self._read(tokens, state)
        return state

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, state = self._read(tokens[:, None], state)
        logits: Tensor = self.text.cls(hidden[:, -1])
        return logits, state

    def rows(self, state: State, index: Tensor) -> State:
        said = tuple(None if k is None else Kept(k.keys[index], k.values[index]) for k in state.said)
        picture, pictures = state.seats.picture[index], state.pictures
        here, renumbered = picture.unique(return_inverse=True)
        if len(here) < SPARSE * len(pictures[0]):
            picture, pictures = renumbered, tuple(tensor[here] for tensor in pictures)
        return State(said, pictures, Seats.of(picture, len(pictures[0])), state.length)

    def _read(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Tokens, int64 [rows, t], t = 1 where something was read before -> ([rows, t, width], state after them)."""
        x = self.text.bert.embeddings(input_ids=tokens, past_key_values_length=state.length)
        said = []
        for number, (layer, before) in enumerate(zip(self.layers, state.said, strict=True)):
            own, across = layer.attention, layer.crossattention
            now = self._kept(own.self, x)
            if before is not None:
                now = Kept(torch.cat([before.keys, now.keys], 2), torch.cat([before.values, now.values], 2))
            said.append(now)
            query = self._heads(own.self.query(x))
            attended = F.scaled_dot_product_attention(query, *now, is_causal=tokens.shape[1] > 1)
            x = own.output(attended.transpose(1, 2).flatten(2), x)
            x = across.output(self._looked(across.self, x, number, state), x)
            x = layer.feed_forward_chunk(x)
        return x, State(tuple(said), state.pictures, state.seats, state.length + tokens.shape[1])

    def _looked(self, attention: Any, x: Tensor, layer: int, state: State) -> Tensor:
        """What rows [rows, t, width] find in their pictures, [rows, t, width]: all of one picture in one product."""
        t, seats, pictures = x.shape[1], state.seats, len(state.pictures[0])
        query = attention.query(x)
        if seats.place is not None:
            query = query.new_zeros(pictures * seats.wide, *query.shape[1:]).index_copy_(0, seats.place, query)
        query = query.view(pictures, seats.wide * t, -1)
        if self.few:
            found = self._found(attention, query, state.pictures[0])
        else:
            keys, values = state.pictures[2 * layer : 2 * layer + 2]
            found = F.scaled_dot_product_attention(self._heads(query), keys, values).transpose(1, 2).flatten(2)
        found = found.view(pictures * seats.wide, t, -1)
        return found if seats.place is None else found[seats.place]

    def _found(self, attention: Any, query: Tensor, seen: Tensor) -> Tensor:
        """Attention to [pictures, patches, seen width] without keys and values: [pictures, n, width] -> likewise."""
        by_head = (self.heads, -1, seen.shape[2])
        query = query.unflatten(2, (self.heads, -1))  # [pictures, n, heads, width / heads]
        asked = torch.einsum("pnhd,hdk->pnhk", query, attention.key.weight.view(by_head)).flatten(1, 2)
        scores = torch.bmm(asked, seen.transpose(1, 2)) * query.shape[3] ** -0.5  # [pictures, n * heads, patches]
        mixed = torch.bmm(scores.softmax(dim=2), seen).unflatten(1, (-1, self.heads))
        found = torch.einsum("pnhk,hdk->pnhd", mixed, attention.value.weight.view(by_head)).flatten(2)
        return found + attention.value.bias

    def _kept(self, attention: Any, x: Tensor) -> Kept:
        """Keys and values lie as products want them: they are read at every token."""
        return Kept(*(self._heads(part(x)).contiguous() for part in (attention.key, attention.value)))

    def _heads(self, x: Tensor) -> Tensor:
        """[n, t, width] -> [n, heads, t, width / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def see(vision: Any, pixels: Tensor) -> Tensor:
    """What transformers' BlipVisionModel sees: float [n, 3, size, size], normalised -> [n, 1 + patches, width]."""
    hidden = vision.embeddings(pixels)
    for layer in vision.encoder.layers:
        attention = layer.self_attn
        mixed = attention.qkv(layer.layer_norm1(hidden)).unflatten(-1, (3, attention.num_heads, -1))
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # [n, heads, 1 + patches, width / heads] each
        found = F.scaled_dot_product_attention(query, key, value, scale=attention.scale)
        hidden = hidden + attention.projection(found.transpose(1, 2).flatten(2))
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
    seen: Tensor = vision.post_layernorm(hidden)
    return seen
