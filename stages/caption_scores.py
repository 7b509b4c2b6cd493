"""What can be said of a written text without looking at the picture: length, repetition, agreement with the web's.

    columns:                                                        # in a recipe
      - caption: {weights: runs/captioner, name: blip, n: 4}
      - caption_scores: {text: blip}            # blip_words, blip_chars, blip_repetition, blip_overlap
    captions:
      emit:
        - texts: [{source: blip, where: "blip_words >= 5 AND blip_repetition < 0.2"}]

Captioners loop ("a cat and a cat and a cat"): the share of word pairs that stood before tells it, where single words
("a", "the") come back in any text. Agreement is the F1 of words, as answers are compared in SQuAD (Rajpurkar et al.
2016, without its rules for articles): how much of the web's text a caption has kept, which is what rewriting and fusing
(VeCLIP, CapsFusion) are for. `sentence_cosine` says the same of meanings. These measures are this project's choice, no
recipe's. No weights are needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import TEXT, Batch, Column, Source, Stage
from stages.text_source import column_like, column_type
from stages.texts import texts_of
from stages.tokens import tokens

Measure = Callable[[list[str]], float | None]


class CaptionScores(Stage):
    """One column a measure, each null where the text is; of a column of lists, lists as long.

    | column | type | what it says |
    | --- | --- | --- |
    | <name>_words | int32 | runs of letters and digits, as of `stages.tokens` |
    | <name>_chars | int32 | code points |
    | <name>_repetition | float32 | share of its runs of `ngram` words that stood before: 1 - different / all, in lower case; 0 where there is no second one, null without a word |
    | <name>_overlap | float32 | 2 common / (words here + words there), with `against`, in lower case; null where either has no word; no such column of the web's own text |

    Args:
        text: a column of texts, or of lists of them; left out, the web's.
        against: what a text is compared with; left out, the web's.
        name: begins the names of the columns; left out, the name of the text's column.
        ngram: words in a run.

    Example:
        CaptionScores(text="text")      # text_words, text_chars, text_repetition
    """  # noqa: E501 - a row of a table is one line

    text: Source = TEXT
    against: Source = TEXT
    name: str | None = Field(default=None, pattern="^[a-z][a-z0-9_]{0,63}$")
    ngram: int = Field(default=2, ge=1, le=8)

    def reads(self) -> tuple[Column, ...]:
        return (self.text,) if self.text == self.against else (self.text, self.against)

    def writes(self) -> pa.Schema:
        kinds = {"words": pa.int32(), "chars": pa.int32(), "repetition": pa.float32()}
        if self.text != self.against:
            kinds["overlap"] = pa.float32()
        begins = self.name or self.text.field
        return pa.schema([(f"{begins}_{what}", column_type(self.text, kind)) for what, kind in kinds.items()])

    def run(self, batch: Batch) -> pa.Table:
        texts, offsets = texts_of(batch[self.text])
        words = [None if text is None else tokens(text.lower(), "words") for text in texts]
        chars = [None if text is None else len(text) for text in texts]
        repeated = [None if said is None else repetition(said, self.ngram) for said in words]
        counts = [None if said is None else len(said) for said in words]
        columns = [
            column_like(batch, self.text, counts, pa.int32()),
            column_like(batch, self.text, chars, pa.int32()),
            column_like(batch, self.text, repeated, pa.float32()),
        ]
        if self.text != self.against:
            there = [None if text is None else tokens(text.lower(), "words") for text in one_each(batch, self.against)]
            rows = np.repeat(np.arange(batch.num_rows), np.diff(offsets)).tolist()
            shared = [overlap(said, there[row]) for said, row in zip(words, rows, strict=True)]
            columns.append(column_like(batch, self.text, shared, pa.float32()))
        return pa.table(columns, schema=self.writes())


def one_each(batch: Batch, column: Column) -> list[str | None]:
    """The texts of a column that has one a sample.

    Raises:
        ValueError: it has lists.
    """
    texts, offsets = texts_of(batch[column])
    if offsets.tolist() != list(range(batch.num_rows + 1)) or pa.types.is_nested(batch[column].type):
        raise ValueError(f"{column.field!r} has several texts a sample, and one is compared with the others")
    return texts


def repetition(words: Sequence[str], ngram: int = 2) -> float | None:
    """Share of the runs of `ngram` words that stood before, rounded to 1e-4; None without a word.

    >>> repetition("a cat and a cat and a cat".split())
    0.5714
    """
    if not words:
        return None
    runs = [tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)]
    return round(1 - len(set(runs)) / len(runs), 4) if runs else 0.0


def overlap(words: Sequence[str] | None, others: Sequence[str] | None) -> float | None:
    """F1 of two texts' words, each counted as often as it stands, rounded to 1e-4; None where either has none.

    >>> overlap(["a", "red", "bus"], ["red", "bus", "tour", "2019", "red"])
    0.5
    """
    if not words or not others:
        return None
    common = (Counter(words) & Counter(others)).total()
    return round(2 * common / (len(words) + len(others)), 4)
