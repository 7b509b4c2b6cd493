"""How common a text's rarest word is in the whole pool; exact.

    - word_counts                                  # words_min_count
    - where: "words_min_count >= 20"               # Conceptual 12M: every word occurs at least 20 times

Conceptual Captions (Sharma et al. 2018) drops captions with a token that occurs under 5 times; Conceptual 12M
(Changpinyo et al. 2021) raises that to 20. Followed: the papers' rule, with the pool itself as the corpus. Unverified:
what a token is there (here: see `stages/tokens.py`), and that the counts are the pool's (Sharma et al. name the
English Wikipedia for theirs: `stages/vocabulary.py` takes counts from a file). No weights are needed.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.token_counts import TokenCounts, rarest
from stages.tokens import Ngrams, Tokens, ngrams


class WordCounts(TokenCounts):
    """Column `<name>_min_count`, int64: how often the rarest word of the text occurs in the texts of the pool.

    Null where the text has no word.

    Args:
        name: begins the name of the column.
        lower: count words in lower case.
        tokens: what a word is: words, whitespace, or wordpunct.

    Example:
        WordCounts(lower=True)
    """

    name: str = Field(default="words", pattern="^[a-z][a-z0-9_]{0,31}$")
    lower: bool = False
    tokens: Tokens = "words"

    def writes(self) -> pa.Schema:
        return pa.schema([(f"{self.name}_min_count", pa.int64())])

    def ngrams(self, texts: list[str | None]) -> Ngrams:
        return ngrams(texts, (1,), self.tokens, lower=self.lower)

    def columns(self, found: Ngrams, counts: np.ndarray, rows: int, histogram: pa.Table | None) -> list[np.ndarray]:
        return [rarest(found, counts, rows)]
