"""How many of a text's words and word pairs are outside the most frequent ones of the whole pool; exact.

    - ngram_rarity                                 # ngrams_oov, ngrams_min_count
    - where: "ngrams_oov = 0"                      # ALIGN: no rare token

ALIGN (Jia et al. 2021), section 3: texts that have any unigram or bigram outside the 100 million most frequent of the
raw data set are dropped. Followed: the paper; both orders share the one vocabulary. Unverified: how ALIGN splits texts
into unigrams, and what it does with case and with n-grams that tie at the end of the vocabulary. Here ties stay out:
the vocabulary is the largest set of most frequent n-grams, all of a count or none, with at most `vocabulary` members;
so it is a function of the pool, and a pool with fewer different n-grams has no rare one. No weights are needed.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import Output
from stages.token_counts import TokenCounts, rarest
from stages.tokens import Ngrams, Orders, Tokens, ngrams


class NgramRarity(TokenCounts):
    """Columns `<name>_oov`, int32: n-grams of the text (occurrences) outside the most frequent ones, and
    `<name>_min_count`, int64: how often its rarest occurs in the texts of the pool. Null where the text has no token.

    Args:
        orders: 1 for words, 2 for pairs of neighbours, ...
        vocabulary: how many different n-grams, of all orders together, are not rare.
        tokens: what a word is: whitespace, words, or wordpunct (`stages/tokens.py`).
        lower: count in lower case.
        name: begins the names of the columns.

    Footers of the last histogram phase have `distinct`, `vocabulary` and `cutoff`, the smallest count that is in.

    Example:
        NgramRarity(vocabulary=1_000_000, lower=True)
    """

    orders: Orders = (1, 2)
    vocabulary: int = Field(default=100_000_000, ge=1)
    tokens: Tokens = "whitespace"
    lower: bool = False
    name: str = Field(default="ngrams", pattern="^[a-z][a-z0-9_]{0,31}$")

    def writes(self) -> pa.Schema:
        return pa.schema([(f"{self.name}_oov", pa.int32()), (f"{self.name}_min_count", pa.int64())])

    def ranks(self) -> bool:
        return True

    def ngrams(self, texts: list[str | None]) -> Ngrams:
        return ngrams(texts, self.orders, self.tokens, lower=self.lower)

    def columns(self, found: Ngrams, counts: np.ndarray, rows: int, histogram: pa.Table | None) -> list[np.ndarray]:
        assert histogram is not None
        rare = counts < self._cutoff(histogram)
        return [np.bincount(found.row[rare], minlength=rows), rarest(found, counts, rows)]

    def histogram(self, table: pa.Table, part: str) -> Output:
        found = super().histogram(table, part)
        assert isinstance(found.tables, pa.Table)
        if part != "all":
            return found
        counts, ngrams = (found.tables.column(n).to_numpy() for n in ("count", "ngrams"))
        cutoff = self._cutoff(found.tables)
        stats = {"distinct": int(ngrams.sum()), "vocabulary": int(ngrams[counts >= cutoff].sum()), "cutoff": cutoff}
        return Output(found.tables, stats)

    def _cutoff(self, histogram: pa.Table) -> int:
        """The smallest count c such that at most `vocabulary` n-grams occur at least c times."""
        counts, ngrams = (histogram.column(n).to_numpy()[::-1] for n in ("count", "ngrams"))
        inside = np.searchsorted(np.cumsum(ngrams), self.vocabulary, side="right")
        if inside == len(counts):
            return 1
        return int(counts[inside]) + 1
