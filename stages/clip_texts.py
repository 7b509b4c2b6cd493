"""What a CLIP is given to score texts that captioners wrote, one a sample or lists of them, and the scores.

    given = TextInputs.of(batch, Column(captioner, "blip"), clip, look=False)
    values, errors = given.scores(image_vectors, clip.text_vectors(given.tokens, 32))       # a value for each text

Vectors are taken as float16, as `clip_embedding` keeps them: equal texts have equal scores, whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from stages.base import Batch, Column
from stages.cosine import cosines
from stages.texts import texts_of
from stages.vectors import rows_of

if TYPE_CHECKING:
    from stages.clip_model import Clip

CHARACTERS = 4096  # of a text that are looked at: no CLIP has tokens for more


@dataclass(frozen=True)
class TextInputs:
    """texts: how many the column has. asked, rows, which: of each one that is no null its number, its sample, and its
    row of `tokens`, where equal texts stand once. pictures, squares: rows that have a picture, if it is looked at."""

    texts: int
    asked: np.ndarray
    rows: np.ndarray
    which: np.ndarray
    tokens: np.ndarray
    pictures: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, batch: Batch, text: Column, clip: Clip, *, look: bool) -> TextInputs:
        """look: decode the pictures, too."""
        texts, offsets = texts_of(batch[text])
        asked = np.flatnonzero(np.array([said is not None for said in texts], bool))
        cut = [(texts[i] or "")[:CHARACTERS] for i in asked]
        place = {said: number for number, said in enumerate(dict.fromkeys(cut))}
        images = batch.images() if look else []
        pictures = np.flatnonzero(np.array([image is not None for image in images], bool))
        return cls(
            texts=len(texts),
            asked=asked,
            rows=np.repeat(np.arange(batch.num_rows), np.diff(offsets))[asked],
            which=np.array([place[said] for said in cut], np.int64),
            tokens=clip.tokens(list(place)),
            pictures=pictures,
            squares=clip.squares([images[i] for i in pictures]),  # type: ignore[misc]
        )

    def scores(
        self, image: pa.Array, vectors: np.ndarray, errors: Sequence[str | None]
    ) -> tuple[list[float | None], list[str | None]]:
        """(cosine of each text with its picture, rounded to 1e-4; why a sample lacks some).

        Args:
            image: fixed_size_list<float16>, one a sample, null where there is none.
            vectors: float (n, dim), a row for each of `tokens`. errors: what is already known, one a sample.
        """
        values, said = list[float | None]([None] * self.texts), list(errors)
        pictures, there = rows_of(image, "clip: vectors of pictures")
        pairs = np.flatnonzero(there[self.rows])
        if not len(pairs):
            return values, said
        x = pictures[self.rows[pairs]].astype(np.float64)
        y = vectors.astype(np.float16).astype(np.float64)[self.which[pairs]]
        found = np.clip(np.round(cosines(x, y), 4), -1, 1)
        for pair, score in zip(pairs.tolist(), found.tolist(), strict=True):
            if np.isfinite(score):
                values[self.asked[pair]] = score
            else:
                row = self.rows[pair]
                said[row] = said[row] or "clip: the model's vector of the text is not finite"
        return values, said
