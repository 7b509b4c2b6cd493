"""How near in meaning a text is to another one, by a sentence encoder.

    columns:                                                        # in a recipe
      - sentence_cosine: {text: blip, weights: sentence-transformers/all-MiniLM-L6-v2}      # blip_agreement

Cosine of Sentence-BERT vectors (Reimers and Gurevych 2019, arXiv:1908.10084). `sieve` is the largest of it over several
captions, without words about the medium. Weights: a sentence encoder's; none come with it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import TEXT, Batch, Column, Source
from stages.caption_scores import one_each
from stages.clip_model import threads
from stages.sentence_encoder import OfSentences, cosines
from stages.text_source import column_like, column_type
from stages.texts import texts_of


class SentenceCosine(OfSentences):
    """`<text>_agreement`: cosine of a text and what it is compared with, float32 in -1..1, rounded to 1e-4.

    A list where the text's column has lists. Null where either is null, or has no character that is no white space.

    text: a column of texts, or of lists of them. against: what they are compared with; left out, the web's text.
    name: of the column; left out, as above.
    """

    text: Source
    against: Source = TEXT
    name: str | None = Field(default=None, pattern="^[a-z][a-z0-9_]{0,63}$")

    @property
    def column(self) -> str:
        """Name of the column."""
        return self.name or f"{self.text.field}_agreement"

    def reads(self) -> tuple[Column, ...]:
        return (self.text, self.against)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.column, column_type(self.text, pa.float32())), ("error", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        texts, offsets = texts_of(batch[self.text])
        others = one_each(batch, self.against)
        rows = np.repeat(np.arange(batch.num_rows), np.diff(offsets)).tolist()
        pairs = [(text or "", others[row] or "") for text, row in zip(texts, rows, strict=True)]
        asked = [i for i, pair in enumerate(pairs) if all(said.strip() for said in pair)]
        with threads(self.cpus):
            found = cosines(self.encoder(), [pairs[i] for i in asked], self.batch)
        values: list[float | None] = [None] * len(texts)
        errors: list[str | None] = [None] * batch.num_rows
        for i, cosine in zip(asked, found.tolist(), strict=True):
            if np.isfinite(cosine):
                values[i] = cosine
            else:
                errors[rows[i]] = "sentence_cosine: the encoder's answer is not a finite number"
        column = column_like(batch, self.text, values, pa.float32())
        return pa.table([column, pa.array(errors, pa.string())], schema=self.writes())
