"""An image encoder that keeps its patches and a decoder that looks at them: what captioners of our own are made of.

    encoder, decoder = PatchEncoder(size), TextDecoder(size)
    memory = encoder(pixels)                              # [n, patches, width]
    hidden = decoder(inputs, memory, causal(t))           # [n, t, width]
    logits = decoder.head(hidden)                         # [n, t, vocabulary]

Pre-norm transformers (Vaswani et al. 2017; Dosovitskiy et al. 2021) with learned positions and without dropout, as
those of Cap and CapPa (Tschannen et al. 2023, arXiv:2306.07915, section 3), but with biases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training_smoke.errors import TrainingError


@dataclass(frozen=True)
class Size:
    """patch: pixels a side of what becomes one vector; stem: "conv", a few convolutions (patch 8), or "patch", one.
    layers: of the image encoder; decoder: of the text decoder; text: of a text encoder. heads: in each layer.
    """

    image_size: int
    context: int
    width: int
    heads: int
    layers: int
    decoder: int
    text: int
    patch: int = 16
    stem: str = "patch"
    vocabulary: int = 4096


SIZES = {
    "tiny": Size(48, 20, width=128, heads=4, layers=1, decoder=2, text=2, patch=8, stem="conv", vocabulary=2048),
    "small": Size(224, 64, width=384, heads=6, layers=12, decoder=6, text=12, vocabulary=32_768),
    "base": Size(224, 64, width=768, heads=12, layers=12, decoder=6, text=12, vocabulary=32_768),
    "large": Size(224, 64, width=1024, heads=16, layers=24, decoder=12, text=24, vocabulary=32_768),
}
"""ViT-S/16, B/16 and L/16 with a decoder of half their layers, as CapPa's; tiny is for a CPU."""


class Keys(NamedTuple):
    """What queries meet: keys and values [n, heads, t, width / heads]."""

    keys: Tensor
    values: Tensor

    def rows(self, index: Tensor) -> Keys:
        return Keys(self.keys[index], self.values[index])

    def and_then(self, more: Keys) -> Keys:
        return Keys(torch.cat([self.keys, more.keys], dim=2), torch.cat([self.values, more.values], dim=2))


def two_layers(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class Attention(nn.Module):
    """Multi-head attention whose keys may be kept."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys(self, x: Tensor) -> Keys:
        return Keys(*map(self._split, self.key_value(x).chunk(2, dim=-1)))

    def forward(self, x: Tensor, keys: Keys, mask: Tensor | None = None) -> Tensor:
        """x: [n, t, width]. mask: bool, broadcast to [n, heads, t, keys]; True: is looked at. -> [n, t, width]."""
        found = F.scaled_dot_product_attention(self._split(self.query(x)), keys.keys, keys.values, attn_mask=mask)
        mixed: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Self-attention, attention to a memory where there is one, two layers; each added to what came in."""

    def __init__(self, width: int, heads: int, looks: bool = False) -> None:
        super().__init__()
        self.norm, self.attend = nn.LayerNorm(width), Attention(width, heads)
        if looks:
            self.norm_look, self.look = nn.LayerNorm(width), Attention(width, heads)
        self.norm_out = nn.LayerNorm(width)
        self.out = two_layers(width)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, memory: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        """x: [n, t, width]. memory: [n, m, width]. Masks as of `Attention`. -> [n, t, width]."""
        normed = self.norm(x)
        x = x + self.attend(normed, self.attend.keys(normed), mask)
        return self._rest(x, None if memory is None else self.seen(memory), memory_mask)

    def one_more(self, x: Tensor, memory: Keys, past: Keys | None) -> tuple[Tensor, Keys]:
        """x [n, 1, width] after those of which the keys are `past` -> ([n, 1, width], keys of all of them)."""
        normed = self.norm(x)
        keys = self.attend.keys(normed)
        if past is not None:
            keys = past.and_then(keys)
        return self._rest(x + self.attend(normed, keys), memory, None), keys

    def _rest(self, x: Tensor, memory: Keys | None, memory_mask: Tensor | None) -> Tensor:
        if memory is not None:
            x = x + self.look(self.norm_look(x), memory, memory_mask)
        mixed: Tensor = x + self.out(self.norm_out(x))
        return mixed

    def seen(self, memory: Tensor) -> Keys:
        """What `look` meets of a memory [n, m, width]."""
        return self.look.keys(memory)


# ---------------------------------------------------------------------------------------------- pictures


class ConvStem(nn.Module):
    """Five convolutions down to an eighth of the side: [n, 3, size, size] -> [n, width, size / 8, size / 8].

    For few pictures: patches of a ViT learn edges from millions. Normalised after the activation, as `TinyConv` is.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [3, width // 4, 3 * width // 8, width // 2, width, width]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, step, padding=1, bias=False), nn.GELU(), nn.GroupNorm(gcd(8, b), b))
            for (a, b), step in zip(pairwise(sizes), (2, 1, 2, 2, 1), strict=True)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        for layer in self.layers:
            pixels = layer(pixels)
        return pixels


class PatchEncoder(nn.Module):
    """[n, 3, size, size] -> [n, patches, width], in rows from the top left; of `beside` as many more behind them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        if size.image_size % size.patch:
            raise TrainingError(f"image_size {size.image_size} is no multiple of the {size.patch} pixels of a patch")
        self.stem = (
            ConvStem(size.width) if size.stem == "conv" else nn.Conv2d(3, size.width, size.patch, stride=size.patch)
        )
        patches = (size.image_size // size.patch) ** 2
        self.positions = nn.Parameter(0.02 * torch.randn(1, patches, size.width))
        self.blocks = nn.ModuleList(Block(size.width, size.heads) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)

    def forward(self, pixels: Tensor, beside: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """beside: [n, t, width], seen by patches and seeing them; mask: bool [n, 1, 1, all], what of all is seen."""
        x = self.stem(pixels).flatten(2).transpose(1, 2) + self.positions  # [n, patches, width]
        if beside is not None:
            x = torch.cat([x, beside], dim=1)
        for block in self.blocks:
            x = block(x, mask)
        normed: Tensor = self.norm(x)
        return normed


# ---------------------------------------------------------------------------------------------- texts


def causal(places: int, device: torch.device | str = "cpu") -> Tensor:
    """bool [places, places]: each place sees those up to itself."""
    return torch.ones(places, places, dtype=torch.bool, device=device).tril()


class TextDecoder(nn.Module):
    """int64 [n, t] and a memory -> [n, t, width]; `head` makes logits of that. The head is no copy of the embedding."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocabulary, size.width)
        # As GPT-2's: words of deviation 1, torch's default, are far larger than what is seen of a picture at first.
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.positions = nn.Parameter(0.02 * torch.randn(1, size.context, size.width))
        self.blocks = nn.ModuleList(Block(size.width, size.heads, looks=True) for _ in range(size.decoder))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, size.vocabulary, bias=False)

    def forward(
        self,
        inputs: Tensor,
        memory: Tensor,
        mask: Tensor,
        memory_mask: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """mask: bool, broadcast to [n, heads, t, t]; memory_mask: to [n, heads, t, m]. places: int64 [n, t], where in
        the text the inputs stand; None: 0, 1, ..."""
        positions = self.positions[:, : inputs.shape[1]] if places is None else self.positions[0, places]
        x = self.tokens(inputs) + positions
        for block in self.blocks:
            x = block(x, mask, memory, memory_mask)
        normed: Tensor = self.norm(x)
        return normed

    def layers(self) -> Iterator[Block]:
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block


class _Said(NamedTuple):
    """Of some rows: keys of memory and of tokens so far, a layer each, and the place of the next token."""

    memory: tuple[Keys, ...]
    tokens: tuple[Keys, ...]
    place: int


class Writer:
    """A `training_smoke.generation.Decoder`: each token is run through the layers once.

    memory: [n, m, width].
    """

    def __init__(self, decoder: TextDecoder, memory: Tensor) -> None:
        self.decoder, self.memory = decoder, memory

    def begin(self) -> _Said:
        return _Said(tuple(block.seen(self.memory) for block in self.decoder.layers()), (), 0)

    def next(self, tokens: Tensor, state: _Said) -> tuple[Tensor, _Said]:
        decoder = self.decoder
        x = decoder.tokens(tokens.to(self.memory.device)[:, None]) + decoder.positions[:, state.place, None]
        kept = []
        for number, (block, memory) in enumerate(zip(decoder.layers(), state.memory, strict=True)):
            x, keys = block.one_more(x, memory, state.tokens[number] if state.tokens else None)
            kept.append(keys)
        logits: Tensor = decoder.head(decoder.norm(x[:, 0]))
        return logits, _Said(state.memory, tuple(kept), state.place + 1)

    def rows(self, state: _Said, index: Tensor) -> _Said:
        memory, tokens = (tuple(keys.rows(index) for keys in layers) for layers in (state.memory, state.tokens))
        return _Said(memory, tokens, state.place)
