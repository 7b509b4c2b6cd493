"""Lengths of the text, by the three definitions of a word that published recipes use; they do not interchange.

    TextFacts().run(Batch.of(pa.table({"text": ["a  red\\ncar"]})))

| column | definition | used by |
| --- | --- | --- |
| n_chars, n_words | code points; `len(text.split())` | DataComp's basic filter |
| n_words_fasttext | tokens of fastText's tokenizer | DataComp's caption filter before image-based filtering |
| n_chars_clean, n_words_clean | the first two, each run of white space made one space, ends stripped | COYO |
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from stages.base import TEXT, Batch, Column, Source, Stage
from stages.text_source import column_like, column_type, named
from stages.texts import texts_of

NAMES = ("n_chars", "n_words", "n_words_fasttext", "n_chars_clean", "n_words_clean")


class TextFacts(Stage):
    """Counts of characters and words of a text, int32; a null text has nulls.

    Of a text other than the web's the columns' names begin with that text's, `blip_n_words`, and are lists where it is.

    text: a column of texts, or of lists of them; left out, the web's.
    """

    text: Source = TEXT

    def identity(self) -> dict[str, Any]:
        """Without the text where it is the web's, so that columns from before there were others stay good."""
        found = super().identity()
        return found | ({"parameters": {}} if self.text == TEXT else {})

    def reads(self) -> tuple[Column, ...]:
        return (self.text,)

    def writes(self) -> pa.Schema:
        return pa.schema([(named(self.text, name), column_type(self.text, pa.int32())) for name in NAMES])

    def run(self, batch: Batch) -> pa.Table:
        texts, _ = texts_of(batch[self.text])
        n_words = [None if text is None else len(text.split()) for text in texts]
        counts = (
            [None if text is None else len(text) for text in texts],
            n_words,
            [None if text is None else fasttext_words(text) for text in texts],
            [None if text is None else len(clean(text)) for text in texts],
            n_words,  # cleaning moves no boundary of a word; the name says which recipe is meant
        )
        columns = [column_like(batch, self.text, values, pa.int32()) for values in counts]
        return pa.table(columns, schema=self.writes())


def clean(text: str) -> str:
    """The text as COYO counts it: every run of Unicode white space one space, none at the ends."""
    return " ".join(text.split())


def fasttext_words(text: str) -> int:
    """How many tokens `fasttext.tokenize(text)` gives.

    fastText looks at bytes: words end at space, newline, return, tab, vertical tab, form feed and NUL only (no-break
    and ideographic spaces join), and every newline is a token of its own, `</s>` (`Dictionary::readWord`).
    """
    return len(text.replace("\0", " ").encode().split()) + text.count("\n")
