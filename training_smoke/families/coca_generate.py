"""Token by token: keys and values of what was said before are kept, so that each place is computed once.

    decoder = CachedDecoder(model, image_tokens)          # of open_clip's CoCa, in evaluation mode
    logits, cache = decoder.next(tokens, decoder.begin())

open_clip's own `generate` runs texts through both transformers anew for every token. The weights are its modules', the
order of operations is theirs (pre-norm blocks), and the logits are those of the whole text at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Kept(NamedTuple):
    """keys, values: [n, heads, t, width / heads]."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Cache:
    """What a text's next token depends on.

    text, decoder, cross: a layer each, of the text's transformer, of the decoder's own text and of the picture. seen:
    bool [n, t], which of the tokens so far may be attended to. place: how many there are. hidden: [n], whether the next
    one may not.
    """

    text: tuple[Kept | None, ...]
    decoder: tuple[Kept | None, ...]
    cross: tuple[Kept, ...]
    seen: Tensor
    hidden: Tensor
    place: int = 0


class CachedDecoder:
    """Next tokens for pictures: what `training_smoke.generation.generate` asks for.

    image_tokens: [n, patches or queries, width], of the model's visual tower.
    """

    def __init__(self, model: Any, image_tokens: Tensor) -> None:
        self.model, self.image_tokens = model, image_tokens

    def begin(self) -> Cache:
        cross = tuple(_picture(block, self.image_tokens) for block in self.model.text_decoder.cross_attn)
        n, device = len(self.image_tokens), self.image_tokens.device
        nothing = torch.zeros(n, 0, dtype=torch.bool, device=device)
        return Cache(
            text=(None,) * len(self.model.text.transformer.resblocks),
            decoder=(None,) * len(self.model.text_decoder.resblocks),
            cross=cross,
            seen=nothing,
            hidden=torch.zeros(n, dtype=torch.bool, device=device),
        )

    def next(self, tokens: Tensor, state: Cache) -> tuple[Tensor, Cache]:
        """The last tokens, int64 [n] -> (logits of those after them [n, vocabulary], what is kept)."""
        text, decoder = self.model.text, self.model.text_decoder
        tokens = tokens.to(state.seen.device)
        padding = tokens == text.pad_id
        seen = torch.cat([state.seen, ~(padding if text.correct_cls_mask else state.hidden)[:, None]], dim=1)
        x = (text.token_embedding(tokens) + text.positional_embedding[state.place])[:, None]  # [n, 1, width]
        kept_text, kept_decoder = [], []
        for block, kept in zip(text.transformer.resblocks, state.text, strict=True):
            x, now = _one_more(block, x, kept, seen)
            kept_text.append(now)
        for block, cross, kept, picture in zip(
            decoder.resblocks, decoder.cross_attn, state.decoder, state.cross, strict=True
        ):
            x, now = _one_more(block, x, kept, None)
            kept_decoder.append(now)
            x = _added(cross, x, _attended(cross.attn, _query(cross, x), picture, None))
        logits: Tensor = decoder.ln_final(x[:, 0]) @ decoder.text_projection
        return logits, Cache(
            tuple(kept_text), tuple(kept_decoder), state.cross, seen, hidden=padding, place=state.place + 1
        )

    def rows(self, state: Cache, index: Tensor) -> Cache:
        """Of some rows, in any order and any number of times. index: int64 [m]."""
        index = index.to(state.seen.device)
        return Cache(
            tuple(_rows(kept, index) for kept in state.text),
            tuple(_rows(kept, index) for kept in state.decoder),
            cross=tuple(Kept(kept.keys[index], kept.values[index]) for kept in state.cross),
            seen=state.seen[index],
            hidden=state.hidden[index],
            place=state.place,
        )


def _rows(kept: Kept | None, index: Tensor) -> Kept | None:
    return None if kept is None else Kept(kept.keys[index], kept.values[index])


def _one_more(block: Any, x: Tensor, kept: Kept | None, seen: Tensor | None) -> tuple[Tensor, Kept]:
    """A block's output at one more place, [n, 1, width], and its keys and values up to there."""
    attention = block.attn
    projected = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (_heads(part, attention.num_heads) for part in projected.chunk(3, dim=-1))
    now = Kept(key, value) if kept is None else Kept(torch.cat([kept[0], key], 2), torch.cat([kept[1], value], 2))
    return _added(block, x, _attended(attention, query, now, seen)), now


def _query(block: Any, x: Tensor) -> Tensor:
    attention = block.attn
    width = attention.embed_dim
    query = F.linear(block.ln_1(x), attention.in_proj_weight[:width], attention.in_proj_bias[:width])
    return _heads(query, attention.num_heads)


def _picture(block: Any, image_tokens: Tensor) -> Kept:
    """Keys and values of the picture for a block that attends to it."""
    attention = block.attn
    width = attention.embed_dim
    projected = F.linear(block.ln_1_kv(image_tokens), attention.in_proj_weight[width:], attention.in_proj_bias[width:])
    return Kept(*(_heads(part, attention.num_heads) for part in projected.chunk(2, dim=-1)))


def _attended(attention: Any, query: Tensor, kept: Kept, seen: Tensor | None) -> Tensor:
    """[n, heads, 1, d] -> [n, 1, width]; seen: bool [n, t], None: everything."""
    mask = None if seen is None else seen[:, None, None, :]
    out = F.scaled_dot_product_attention(query, kept.keys, kept.values, attn_mask=mask)
    mixed: Tensor = attention.out_proj(out.transpose(1, 2).flatten(2))
    return mixed


def _added(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    """The rest of a pre-norm block."""
    x = x + block.ls_1(attended)
    out: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return out


def _heads(x: Tensor, heads: int) -> Tensor:
    """[n, t, width] -> [n, heads, t, width / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
