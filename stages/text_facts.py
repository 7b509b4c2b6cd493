"""Lengths of the text, by the three definitions of a word that published recipes use; they do not interchange.

    TextFacts().run(Batch.of(pa.table({"text": ["a  red\\ncar"]})))

| column | definition | used by |
| --- | --- | --- |
| n_chars, n_words | code points; `len(text.split())` | DataComp's basic filter |
| n_words_fasttext | tokens of fastText's tokenizer | DataComp's caption filter before image-based filtering |
| n_chars_clean, n_words_clean | the first two, each run of white space made one space, ends stripped | COYO |
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from stages.base import TEXT, Batch, Column, Stage


class TextFacts(Stage):
    """Counts of characters and words of `text`, int32; a null text has nulls."""

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        names = ("n_chars", "n_words", "n_words_fasttext", "n_chars_clean", "n_words_clean")
        return pa.schema([(name, pa.int32()) for name in names])

    def run(self, batch: Batch) -> pa.Table:
        column = batch[TEXT]
        texts = column.to_pylist()
        n_words = [None if text is None else len(text.split()) for text in texts]
        columns = {
            "n_chars": pc.utf8_length(column).cast(pa.int32()),
            "n_words": n_words,
            "n_words_fasttext": [None if text is None else fasttext_words(text) for text in texts],
            "n_chars_clean": [None if text is None else len(clean(text)) for text in texts],
            "n_words_clean": n_words,  # cleaning moves no boundary of a word; the name says which recipe is meant
        }
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
