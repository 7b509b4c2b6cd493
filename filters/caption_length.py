"""Bounds on the length of the text, by one of three definitions of a word that published recipes use.

    - caption_length: {min_words: 3, min_chars: 6}                                   # DataComp basic: > 2 and > 5
    - caption_length: {min_words: 2, min_chars: 6, count: fasttext}                  # DataComp image-based: > 1, > 5
    - caption_length: {min_words: 3, max_words: 256, min_chars: 6, max_chars: 1000, count: coyo}     # COYO-700M

DataComp (Gadre et al. 2023), `baselines/apply_filter.py`; COYO-700M, dataset card. Definitions: `stages/text_facts.py`.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from filters.base import Margin, RowFilter

COLUMNS = {
    "datacomp": ("n_words", "n_chars"),
    "fasttext": ("n_words_fasttext", "n_chars"),
    "coyo": ("n_words_clean", "n_chars_clean"),
}
"""Columns of words and of characters."""


class CaptionLength(RowFilter):
    """Keeps texts within all bounds that are given; each is inclusive, and its name is the reason.

    Where a reference says "more than 2 words", that is `min_words: 3`.

    min_words, max_words: words of the text. min_chars, max_chars: its characters (code points).
    count: whose definition of both: datacomp splits at white space, fasttext by its tokenizer, coyo after cleaning.
    """

    min_words: int | None = Field(None, ge=0)
    max_words: int | None = Field(None, ge=0)
    min_chars: int | None = Field(None, ge=0)
    max_chars: int | None = Field(None, ge=0)
    count: Literal["datacomp", "fasttext", "coyo"] = "datacomp"

    @model_validator(mode="after")
    def _bounds_make_sense(self) -> Self:
        if not self.rules():
            raise ValueError("caption_length needs a bound: min_words, max_words, min_chars or max_chars")
        for low, high in (("min_words", "max_words"), ("min_chars", "max_chars")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"caption_length: {low} {least} is above {high} {most}: nothing can pass")
        return self

    def reads(self) -> tuple[str, ...]:
        words, chars = COLUMNS[self.count]
        asks_words = self.min_words is not None or self.max_words is not None
        asks_chars = self.min_chars is not None or self.max_chars is not None
        return (words,) * asks_words + (chars,) * asks_chars

    def rules(self) -> dict[str, str]:
        words, chars = COLUMNS[self.count]
        bounds = {
            "min_words": (words, ">=", self.min_words),
            "max_words": (words, "<=", self.max_words),
            "min_chars": (chars, ">=", self.min_chars),
            "max_chars": (chars, "<=", self.max_chars),
        }
        return {reason: f"{column} {sign} {n}" for reason, (column, sign, n) in bounds.items() if n is not None}

    def margins(self) -> tuple[Margin, ...]:
        found = []
        for what, column in zip(("words", "chars"), COLUMNS[self.count], strict=True):
            least, most = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            low = () if least is None else ((float(least), "above", f"min_{what} {least}"),)
            high = () if most is None else ((float(most), "below", f"max_{what} {most}"),)
            found += [Margin(what, column, (*low, *high))] if low or high else []
        return tuple(found)
