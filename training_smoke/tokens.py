"""Words to numbers without a vocabulary file, for the tiny towers: each word is its hash.

tokenize_words(["A red bicycle"], 16)        # int64 [1, 16], padded with 0
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import torch
import xxhash
from torch import Tensor

WORDS = 8192  # rows of the embedding; 0 is padding; words may share a row
_WORD = re.compile(r"\w+|[^\w\s]", re.UNICODE)


@lru_cache(maxsize=1 << 17)
def word_number(word: str) -> int:
    """1 to WORDS - 1, the same everywhere."""
    return 1 + xxhash.xxh64_intdigest(word.encode("utf-8", "surrogatepass")) % (WORDS - 1)


def tokenize_words(texts: Sequence[str], context: int) -> Tensor:
    """Lower-case words and signs of each text as int64 [n, context]; what is longer is cut."""
    out = torch.zeros(len(texts), context, dtype=torch.int64)
    for row, text in enumerate(texts):
        numbers = [word_number(word) for word in _WORD.findall(text.lower())[:context]]
        out[row, : len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    return out
