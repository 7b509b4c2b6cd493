"""The best of several captions, by a score that each of them has.

    columns:                                                        # in a recipe: 40 written, 5 and then 1 kept
      - caption: {weights: runs/captioner, name: blip, n: 40, sampling: nucleus}
      - clip_score: {model: ViT-L-14-quickgelu, weights: openai, name: l14, text: blip}       # l14_blip_score
      - best_caption: {text: blip, score: l14_blip_score, keep: 5, name: five}
      - clip_score: {model: RN50x64-quickgelu, weights: openai, name: rn, text: five}         # rn_five_score
      - best_caption: {text: five, score: rn_five_score, name: laion_coco}

LAION-COCO (Schuhmann et al. 2022): a BLIP writes 40 captions, CLIP L/14 keeps 5, CLIP RN50x64 one, and a small language
model repairs repetitions. Followed from memory (unverified [M]); in place of the language model, captions that repeat
themselves, or another one, are not chosen. No weights are needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pydantic import Field

from stages.base import Batch, Column, Source, Stage
from stages.caption_scores import repetition
from stages.texts import TEXTS, rows_of, sources_of, texts_of
from stages.tokens import tokens


class BestCaption(Stage):
    """`<name>`: the `keep` texts with the highest scores, and `<name>_score`, their scores, float32.

    With `keep: 1` a string and a number, else lists in falling order, with the sources that the texts had. Ties go to
    the one that stands first. Texts without a word or a score, those that repeat themselves, and those that have the
    words of a better one are left out; null where none is left.

    Args:
        text: a column of lists of texts.
        score: a column of lists of numbers, one for each of them.
        keep: how many at most.
        repetition: the share of pairs of words that may have stood before, as of `caption_scores`; 1: any.
        name: of the columns.

    Raises:
        ValueError: a column has no lists, or a sample has other numbers of texts and of scores.

    Example:
        BestCaption(text=Column(captioner, "blip"), score=Column(scores, "clip_blip_score"))      # best_caption
    """

    text: Source
    score: Source
    keep: int = Field(default=1, ge=1, le=1000)
    repetition: float = Field(default=0.3, ge=0, le=1)
    name: str = Field(default="best_caption", pattern="^[a-z][a-z0-9_]{0,63}$")

    def reads(self) -> tuple[Column, ...]:
        return (self.text, self.score)

    def writes(self) -> pa.Schema:
        text, score = (pa.string(), pa.float32()) if self.keep == 1 else (TEXTS, pa.list_(pa.float32()))
        return pa.schema([(self.name, text), (f"{self.name}_score", score)])

    def run(self, batch: Batch) -> pa.Table:
        self._check(batch)
        texts, offsets = texts_of(batch[self.text])
        said = rows_of(list(zip(texts, sources_of(batch[self.text]), strict=True)), offsets)
        scores = batch[self.score].to_pylist()
        chosen = [self._chosen(row, of) for row, of in zip(said, scores, strict=True)]
        columns = [[None if not row else self._written(row, what) for row in chosen] for what in (0, 1)]
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, self.writes(), strict=True)], self.writes())

    def _check(self, batch: Batch) -> None:
        for column in self.reads():
            if not pa.types.is_list(batch[column].type):
                raise ValueError(
                    f"best_caption: {column.field!r} has no lists ({batch[column].type}): one text has no best; "
                    "give the captioner a larger `n`, and the score this text"
                )

    def _chosen(
        self, texts: Sequence[tuple[str | None, str | None]], scores: Sequence[float | None] | None
    ) -> list[tuple[Any, float]]:
        """((text, source), score) of the best, in falling order."""
        if len(texts) != len(scores or ()):
            raise ValueError(
                f"best_caption: {self.score.field!r} has {len(scores or ())} scores for {len(texts)} texts of "
                f"{self.text.field!r}: it is a score of other texts"
            )
        scored = [(score, i) for i, score in enumerate(scores or ()) if score is not None and math.isfinite(score)]
        found: dict[tuple[str, ...], tuple[Any, float]] = {}
        for score, i in sorted(scored, key=lambda pair: (-pair[0], pair[1])):
            words = tokens((texts[i][0] or "").lower(), "words")
            repeated = repetition(words)
            if repeated is not None and repeated <= self.repetition:
                found.setdefault(tuple(words), (texts[i], score))
            if len(found) == self.keep:
                break
        return list(found.values())

    def _written(self, chosen: Sequence[tuple[Any, float]], what: int) -> Any:
        """Texts (0) or scores (1) of a sample as they are stored."""
        if what == 1:
            values: list[Any] = [score for _, score in chosen]
        elif self.keep == 1:
            values = [text for (text, _), _ in chosen]
        else:
            values = [{"source": source, "text": text} for (text, source), _ in chosen]
        return values[0] if self.keep == 1 else values
