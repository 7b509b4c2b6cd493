"""Texts through a CLIP's text tower, each at the shortest of a few lengths that holds it.

    encoders = text_encoders(towers)        # {16: encode, 32: encode, 77: encode}
    ends = lengths(towers, tokens)          # int64 (n,): tokens of each text that the model looks at

In a causal tower, whose answer is read at the end-of-text token, what stands behind that token changes nothing: 16
places cost a fifth of 77, and half of the captions of the web fit. A text's length depends on the text alone, so that
its vector does not depend on its company. Towers of other kinds (SigLIP, CoCa, Hugging Face's, those trained here) see
the whole context.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from training_smoke.towers import TwoTowers

SHORT = (16, 32)
"""Lengths before the whole context: of more of them, each would be filled up in more forward passes."""

Encode = Callable[["Tensor"], "Tensor"]


def text_encoders(towers: TwoTowers) -> dict[int, Encode]:
    """How to encode texts by their number of places, ascending: int64 (n, places) -> (n, dim), not of length one."""
    home, short = _causal(towers), {}
    if home is not None:
        short = {places: _cut(home, places) for places in SHORT if places < towers.context}
    return {**short, towers.context: towers.text_features}


def lengths(towers: TwoTowers, tokens: np.ndarray) -> np.ndarray:
    """int64 (n, context) -> int64 (n,): the places up to where the answer is read; else the whole context."""
    home = _causal(towers)
    if home is None:
        return np.full(len(tokens), towers.context)
    pool, end = _pooling(home)
    return (tokens if pool == "argmax" else tokens == end).argmax(axis=1) + 1


def _causal(towers: TwoTowers) -> Any:
    """open_clip's module with the text tower, where no place sees a later one and the answer is read at the end."""
    import torch

    net = getattr(towers, "model", None)
    for home in (net, getattr(net, "text", None)):
        mask = getattr(home, "attn_mask", None)
        if not isinstance(mask, torch.Tensor) or getattr(home, "positional_embedding", None) is None:
            continue
        strict = torch.full_like(mask, float("-inf"), dtype=torch.float32).triu_(1)
        whole = getattr(home, "cls_emb", None) is None and not getattr(home, "use_pad_mask", False)
        if whole and _pooling(home)[0] in ("argmax", "eos") and torch.equal(mask.float(), strict):
            return home
    return None


def _pooling(home: Any) -> tuple[str, int | None]:
    """(how the answer is read, the end-of-text token), under the names of both of open_clip's classes."""
    pool = getattr(home, "text_pool_type", getattr(home, "pool_type", ""))
    return str(pool), getattr(home, "text_eos_id", getattr(home, "eos_id", None))


def _cut(home: Any, places: int) -> Encode:
    """The module with fewer places; all weights are shared."""
    from torch import nn

    short = copy.copy(home)
    positions = nn.Parameter(home.positional_embedding[:places].detach(), requires_grad=False)
    short._parameters = {**home._parameters, "positional_embedding": positions}
    short._buffers = {**home._buffers, "attn_mask": home.attn_mask[:places, :places]}
    encode: Encode = short.encode_text if hasattr(short, "encode_text") else short
    return encode
