"""SIEVE: how near the web's text comes to what a captioner says of the picture, by a sentence encoder.

    columns:                                                        # in a recipe
      - caption: {weights: runs/captioner, name: blip, n: 8, sampling: nucleus}
      - sieve: {captions: blip, weights: sentence-transformers/all-MiniLM-L6-v2}        # sieve
    filters:
      - top_fraction: {column: sieve, fraction: 0.2, over: survivors, on_missing: drop}

Mahmoud et al. 2024 (CVPR, "SIEVE: Multimodal Dataset Pruning Using Image Captioning Models"): captions are drawn from a
model that was trained on little, clean data; phrases that speak of the medium are taken out of both texts; the score is
the largest cosine of the web's text with a caption. Followed: the formula, the phrases and the zero where a phrase was
all that a caption had, as in facebookresearch/SIEVE (sentence_similarity_inference.py, 8 captions, all-MiniLM-L6-v2).
The paper's mean with the CLIP score is `weighted_sum` over both columns; its weights of a half are unverified [M], as
is the share of 20 %. Weights: a sentence encoder's; none come with it.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from stages.base import TEXT, Batch, Column, Source
from stages.caption_scores import one_each
from stages.clip_model import threads
from stages.sentence_encoder import OfSentences, cosines
from stages.texts import texts_of

PHRASES = ("an image of", "a photo of", "stock photo", "photo stock", "a photo", "an image", "image", "photo")
"""Those of the reference, which are taken out in this order."""


class Sieve(OfSentences):
    """`sieve`: the largest cosine of the text with one of the captions, float32 in -1..1, rounded to 1e-4.

    Null where there is no text or no caption; 0 where one of the two, without the phrases, is empty.

    weights: a folder in the layout of transformers, or a name on its hub, as sentence-transformers/all-MiniLM-L6-v2.
    captions: a column of texts that a captioner wrote, one a sample or several.
    text: the text that is judged; left out, the web's.
    name: of the column.
    phrases: taken out of both, in this order, upper or lower case, also within words ("photography").
    batch: texts in a forward pass; it decides the last bits.

    Example:
        Sieve(captions=Column(captioner, "blip"), weights="models/all-MiniLM-L6-v2")
    """

    captions: Source
    text: Source = TEXT
    name: str = Field(default="sieve", pattern="^[a-z][a-z0-9_]{0,63}$")
    phrases: tuple[str, ...] = PHRASES

    @field_validator("phrases")
    @classmethod
    def _said(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(phrase.strip() for phrase in value):
            raise ValueError("phrases are words; leave an empty one out")
        return value

    def reads(self) -> tuple[Column, ...]:
        return (self.text, self.captions)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.float32()), ("error", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        texts = one_each(batch, self.text)
        captions, offsets = texts_of(batch[self.captions])
        rows = np.repeat(np.arange(batch.num_rows), np.diff(offsets))
        pairs = [
            (row, without(text, self.phrases), without(caption, self.phrases))
            for row, caption in zip(rows.tolist(), captions, strict=True)
            if caption is not None and (text := texts[row]) is not None
        ]
        with threads(self.cpus):
            found = self._cosines([(text, caption) for _, text, caption in pairs])
        best: dict[int, float] = {}
        for (row, _, _), cosine in zip(pairs, found.tolist(), strict=True):
            best[row] = float(np.maximum(best.get(row, -1.0), cosine))
        return self._table(batch.num_rows, best)

    def _cosines(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        """float64 (n,), rounded; 0 where a text is empty. One that is no number stays none, and so does the largest."""
        full = [i for i, pair in enumerate(pairs) if all(pair)]
        found = np.zeros(len(pairs))
        found[full] = cosines(self.encoder(), [pairs[i] for i in full], self.batch)
        return found

    def _table(self, rows: int, best: dict[int, float]) -> pa.Table:
        lost = {row for row, value in best.items() if not np.isfinite(value)}
        values = [None if row in lost else best.get(row) for row in range(rows)]
        errors = ["sieve: the encoder's answer is not a finite number" if row in lost else None for row in range(rows)]
        return pa.table([values, errors], schema=self.writes())


def without(text: str, phrases: tuple[str, ...]) -> str:
    """The text without the phrases, ends stripped.

    >>> without("A photo of a dog, stock photo", PHRASES)
    'a dog,'
    """
    for phrase in _patterns(phrases):
        text = phrase.sub("", text)
    return text.strip()


@lru_cache(maxsize=64)
def _patterns(phrases: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(re.escape(phrase), re.IGNORECASE) for phrase in phrases)
