"""Rules of thumb about captions that need no model: repetition, capitals, boilerplate, web addresses, listed words.

    columns:
      - caption_rules: {profanity: [lists/ldnoobw_en.txt], boilerplate: [click to enlarge, stock photo]}
    filters:
      - id: repetition
        where: "word_repetition <= 0.2"          # Conceptual 12M
      - id: profanity
        where: "profanity = 0"                   # COYO-700M, with three lists

Conceptual Captions (Sharma et al. 2018): high token repetition, a first word in lower case, too many capitalised words,
boilerplate at either end, profanity. Conceptual 12M (Changpinyo et al. 2021): word repetition at most 0.2, no rule of
capitals. COYO-700M (Byeon et al. 2022, card): no word of three public lists. Followed: the papers' words; none of them
gives a formula, and Sharma et al. name no threshold but for counts, so the ratios here are our reading and what they
are compared with is the recipe's. Conceptual Captions crops some boilerplate and drops other; nothing is cropped here.
Weights: none. Lists of words are the user's (COYO names those of LDNOOBW and two more); none is shipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator

from stages.base import TEXT, Batch, Column, Stage
from stages.tokens import tokens
from stages.word_lists import Phrases, absolute, existing

URL = re.compile(
    r"https?:|\bwww\.\w|\w\.(?:com|org|net|info|co\.\w\w)\b|\w\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|pdf|html?|php|aspx?)\b",
    re.IGNORECASE,
)
"""An address, or the name of a file as the web has them."""

_SCHEMA = pa.schema(
    [
        ("word_repetition", pa.float32()),
        ("token_repetition", pa.float32()),
        ("capitalised_ratio", pa.float32()),
        ("first_word_lower", pa.bool_()),
        ("boilerplate", pa.bool_()),
        ("url_like", pa.bool_()),
        ("digits", pa.int32()),
    ]
)


class CaptionRules(Stage):
    """One column a rule; all are null where the text is, the first four also where it has no word.

    | column | type | what it says |
    | --- | --- | --- |
    | word_repetition | float32 | share of the words, in lower case, that stood before: 1 - different / all |
    | token_repetition | float32 | the same of what white space separates, as written |
    | capitalised_ratio | float32 | share of the words that begin with a capital |
    | first_word_lower | bool | the first word begins with a small letter; a digit, or a script without case, is none |
    | boilerplate | bool | the text begins or ends with one of the phrases |
    | url_like | bool | an address, or the name of a file, is in the text |
    | digits | int32 | how many of its characters are digits |
    | profanity | int32 | how often an entry of the lists stands in the text; with lists only |

    Phrases and entries match as whole words, in any case.

    Args:
        boilerplate: phrases; those of the default are the ones that Sharma et al. give as examples.
        profanity: paths of lists, UTF-8, an entry a line.

    Raises:
        ValueError: a list is not there, is empty, or is no text.

    Example:
        CaptionRules().run(Batch.of(pa.table({"text": ["Stock photo of a dog, a DOG"]})))   # word_repetition 0.286
    """

    boilerplate: tuple[str, ...] = ("click to enlarge", "stock photo")
    profanity: tuple[str, ...] = Field(default=())
    _lists: tuple[Phrases, Phrases] | None = PrivateAttr(default=None)

    @field_validator("profanity")
    @classmethod
    def _absolute(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(absolute(path) for path in paths)

    def files(self) -> tuple[str, ...]:
        return tuple(existing(path, "caption_rules") for path in self.profanity)

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return _SCHEMA.append(pa.field("profanity", pa.int32())) if self.profanity else _SCHEMA

    def open(self) -> None:
        """Read the lists.

        Raises:
            ValueError: see above.
        """
        self._lists = Phrases.of(self.boilerplate), Phrases.read(self.profanity)

    def run(self, batch: Batch) -> pa.Table:
        if self._lists is None:
            self.open()
        rows = [self._row(text) for text in batch[TEXT].to_pylist()]
        names = self.writes().names
        return pa.table({n: [row.get(n) for row in rows] for n in names}, schema=self.writes())

    def _row(self, text: str | None) -> dict[str, Any]:
        if text is None:
            return {}
        assert self._lists is not None
        boilerplate, profanity = self._lists
        words = tokens(text, "words")
        about_words = {
            "word_repetition": repetition([word.lower() for word in words]),
            "token_repetition": repetition(text.split()),
            "capitalised_ratio": sum(word[0].isupper() for word in words) / len(words),
            "first_word_lower": words[0][0].islower(),
        } if words else {}  # fmt: skip
        return about_words | {
            "boilerplate": boilerplate.at_either_end(text),
            "url_like": URL.search(text) is not None,
            "digits": sum(c.isdecimal() for c in text),
            "profanity": profanity.count(text),
        }


def repetition(words: Sequence[str]) -> float:
    """Share of the words that stood before; of some words, 0 where all differ."""
    return (len(words) - len(set(words))) / len(words)
