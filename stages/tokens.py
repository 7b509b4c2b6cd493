"""Tokens of texts, by names that parameters may have, and their n-grams as 128-bit hashes.

    tokens("a dog's  life!", "whitespace")     # ["a", "dog's", "life!"]
    tokens("a dog's  life!", "words")          # ["a", "dog's", "life"]
    tokens("a dog's  life!", "wordpunct")      # ["a", "dog", "'", "s", "life", "!"]

| name | a token is |
| --- | --- |
| whitespace | what Unicode white space separates (`str.split`) |
| words | a run of letters, digits and _, with apostrophes and hyphens inside it |
| wordpunct | a run of letters, digits and _, or of what is neither that nor white space (NLTK's WordPunctTokenizer) |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import xxhash
from pydantic import AfterValidator

from stages.draws import hash64_halves

Tokens = Literal["whitespace", "words", "wordpunct"]


def _different(orders: tuple[int, ...]) -> tuple[int, ...]:
    if not orders or len(set(orders)) < len(orders) or not all(1 <= n <= 8 for n in orders):
        raise ValueError(f"expected different orders from 1 to 8, as [1, 2], not {list(orders)}")
    return tuple(sorted(orders))


Orders = Annotated[tuple[int, ...], AfterValidator(_different)]
"""How many tokens n-grams have: ``[1, 2]`` for words and pairs of neighbours."""

_PATTERNS = {"words": re.compile(r"\w+(?:['’-]\w+)*"), "wordpunct": re.compile(r"\w+|[^\w\s]+")}


def tokens(text: str, kind: Tokens) -> list[str]:
    """The tokens of a text, in order."""
    return text.split() if kind == "whitespace" else _PATTERNS[kind].findall(text)


@dataclass(frozen=True)
class Ngrams:
    """Every n-gram of some texts, row after row for each order: int64, uint64, uint64, (n,) each."""

    row: np.ndarray
    key: np.ndarray
    check: np.ndarray


def ngrams(texts: Sequence[str | None], orders: Sequence[int], kind: Tokens, *, lower: bool = False) -> Ngrams:
    """n-grams of the given orders; a null text has none, a text has none that are longer than it."""
    split = [tokens(t.lower() if lower else t, kind) if t else [] for t in texts]
    row = np.repeat(np.arange(len(split)), [len(s) for s in split])
    key, check = hashed([token for s in split for token in s])
    found = [_of_order(order, row, key, check) for order in orders]
    return Ngrams(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def hashed(words_said: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of a hash of each token, uint64 (n,); each different one is hashed once."""
    words = pa.array(words_said, pa.large_string()).dictionary_encode()
    digests = b"".join(xxhash.xxh3_128_digest(w.encode()) for w in words.dictionary.to_pylist())
    halves = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)[words.indices.to_numpy()]
    return halves[:, 0], halves[:, 1]


def _of_order(n: int, row: np.ndarray, key: np.ndarray, check: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows of n tokens within a row; each half is a hash of that half of the tokens, in their order."""
    ends = max(len(row) - n + 1, 0)
    halves = key[:ends], check[:ends]
    for i in range(1, n):
        key_i, check_i = key[i : ends + i], check[i : ends + i]
        halves = hash64_halves(i, "ngram", halves[0], key_i), hash64_halves(i, "check", halves[1], check_i)
    inside = row[:ends] == row[n - 1 : ends + n - 1]
    return row[:ends][inside], halves[0][inside], halves[1][inside]
