"""What open_clip's CoCa computes, and no more of it: columns that are padding everywhere are left out.

    features, hidden = read_texts(model.text, tokens)
    states = say(model.text_decoder, image_tokens, hidden)
    logits = states[there] @ model.text_decoder.text_projection

Equal to `open_clip.CoCa.forward`, which goes through all 76 places of a text and through all logits of its padding: a
caption has some 13 tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def longest(tokens: Tensor, pad: int) -> int:
    """Places of the longest text. int64 [n, context], at whose end is padding."""
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return int(((tokens != pad) * places).max())


def read_texts(text: Any, tokens: Tensor, columns: int | None = None) -> tuple[Tensor, Tensor]:
    """Vectors of texts, and what their decoder reads.

    Behind the last token stands one more, learned, at the last position whatever is left out before it: its output is
    the text's vector. Tokens see those before them, it sees them all.

    Args:
        text: open_clip's TextTransformer with `embed_cls`
        tokens: int64 [n, context]
        columns: of the longest text, as `longest` counts them; None: counted here

    Returns:
        features [n, dim], not of unit length; hidden [n, columns or one more, width].
    """
    context = tokens.shape[1]
    end = longest(tokens, text.pad_id) if columns is None else columns
    kept = min(context, end + 1)  # it sees one column of padding: see `_seen`
    positions = text.positional_embedding
    words = text.token_embedding(tokens[:, :kept]) + positions[:kept]  # [n, kept, width]
    last = (text.cls_emb + positions[context]).expand(len(tokens), 1, -1)
    mask = _mask(_seen(text, tokens, kept), text.heads, words.dtype)
    hidden = text.transformer(torch.cat([words, last], dim=1), attn_mask=mask)
    features = text.ln_final(hidden[:, -1])
    projection = text.text_projection
    return features @ projection if isinstance(projection, Tensor) else projection(features), hidden[:, :-1]


def say(decoder: Any, image_tokens: Tensor, hidden: Tensor) -> Tensor:
    """States from which the next tokens are predicted.

    Args:
        decoder: open_clip's MultimodalTransformer
        image_tokens: [n, patches or queries, width]; hidden: [n, t, width], of `read_texts`

    Returns:
        [n, t, width]; times `decoder.text_projection` they are logits.
    """
    mask = decoder.attn_mask[: hidden.shape[1], : hidden.shape[1]]
    for block, cross in zip(decoder.resblocks, decoder.cross_attn, strict=True):
        if decoder.grad_checkpointing:
            hidden = checkpoint(block, hidden, None, None, mask, use_reentrant=False)
            hidden = checkpoint(cross, hidden, image_tokens, image_tokens, None, use_reentrant=False)
        else:
            hidden = block(hidden, attn_mask=mask)
            hidden = cross(hidden, k_x=image_tokens, v_x=image_tokens)
    states: Tensor = decoder.ln_final(hidden)
    return states


def seen_keys(text: Any, tokens: Tensor) -> Tensor:
    """Which tokens may be attended to, bool [n, context + 1], the last of the learned one.

    open_clip's masks for CoCa are one place off, and weights were trained so: a token can be seen where the one before
    it is not padding. Only the number of padding counts, which in CLIP's vocabulary is also that of "!".
    """
    there = tokens != text.pad_id
    first = torch.ones_like(there[:, :1])
    return torch.cat([there, first] if text.correct_cls_mask else [first, there], dim=1)


def _seen(text: Any, tokens: Tensor, kept: int) -> Tensor:
    """bool [n, kept + 1, kept + 1]: which key (last) each query may attend to."""
    keys = seen_keys(text, tokens)
    keys = torch.cat([keys[:, :kept], keys[:, -1:]], dim=1)
    causal = torch.ones(kept + 1, kept + 1, dtype=torch.bool, device=tokens.device).tril()
    return keys[:, None, :] & causal


def _mask(seen: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """What is added to the logits of attention: [n * heads, t, t]."""
    added = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, -torch.inf)
    return added.repeat_interleave(heads, dim=0)
