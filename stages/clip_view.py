"""Vectors of a picture as it would be without its text, flipped or with the text painted over, and their CLIP scores.

    columns:
      - clip_view_score: {weights: filters/dfn/filter.pt, view: masked, detector: ppocr}     # clip_masked_score
      - clip_view_score: {weights: filters/dfn/filter.pt, view: flipped}                     # clip_flipped_score
    filters:
      - top_fraction: {column: clip_masked_score, fraction: 0.5, over: pool, on_missing: drop}

masked: T-MARS (Maini et al. 2024): text is found, its regions are painted with the mean colour around them, and the
masked picture is scored. Followed: the paper as the specification tells it; the detector is another one
(stages/text_boxes.py), and a picture of which text covers more than 90 % has no score: what is left says nothing [I].
That half of the pool is kept is unverified [M]. flipped: "The Devil is in the Details" (Yu et al. 2023): a mirrored
picture's text cannot be read; the numbers of that paper are unverified [M].
Weights: those of the CLIP; of the detector, what it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator

from stages.base import IMAGE, Batch, Column
from stages.clip import OfClip, WithClip, cosine, there
from stages.clip_model import threads
from stages.text_boxes import TextBoxes
from stages.text_mask import painted

View = Literal["flipped", "masked"]
MOST = 0.9  # share of a picture that text may cover


class OfView(OfClip):
    """Parameters of a view: those of the CLIP, and:

    view: flipped: left and right exchanged. masked: regions of text painted over.
    detector, detector_weights: what finds text, as of `text_boxes`; looked at for masked only.
    """

    view: View
    detector: str = "strokes"
    detector_weights: str | None = None

    @model_validator(mode="after")
    def _detector(self) -> OfView:
        if self.view == "masked":
            self.boxes()
        elif {"detector", "detector_weights"} & self.model_fields_set:
            raise ValueError("a flipped picture needs no detector: leave it out, or say `view: masked`")
        return self

    def boxes(self) -> TextBoxes:
        """The stage that finds the text."""
        return TextBoxes(detector=self.detector, detector_weights=self.detector_weights)

    @property
    def image(self) -> str:
        return f"{self.name}_{self.view}_image"

    def vectors(self) -> ClipView:
        """The stage that makes the view's vectors."""
        given = {n: getattr(self, n) for n in OfView.model_fields}
        if self.view == "flipped":
            given = {n: v for n, v in given.items() if n not in ("detector", "detector_weights")}
        return ClipView(**given)


class ClipView(OfView, WithClip):
    """`clip_flipped_image` or `clip_masked_image`: vectors of length one, fp16, as `clip_embedding` makes them.

    Null where no picture decodes, and, with `error` "masked: ...", where text covers more than 90 % of it. A picture
    without text has `clip_image`'s vector bit for bit: it is not computed again.

    Example:
        ClipView(weights="filters/dfn/filter.pt", view="flipped")       # clip_flipped_image
    """

    version: ClassVar[int] = 1

    def identity(self) -> dict[str, Any]:
        """Without the detector: it is in the columns that are read."""
        found = super().identity()
        for elsewhere in ("detector", "detector_weights"):
            del found["parameters"][elsewhere]
        return found

    def reads(self) -> tuple[Column, ...]:
        if self.view == "flipped":
            return (IMAGE,)
        boxes, embedding = self.boxes(), self.embedding()
        text = (Column(boxes, "text_cover"), Column(boxes, "text_boxes"))
        return (IMAGE, *text, Column(embedding, embedding.image))

    def writes(self) -> pa.Schema:
        return pa.schema([(self.image, self.vector_type()), ("error", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        with threads(self.cpus):
            clip, given = self.clip(), self.given(batch)
            column, lost = self.column(batch, given.rows, clip.image_vectors(given.squares, self.batch))
        if self.view == "masked":
            column = self._or_as_it_is(batch, column)
        unsure = ["clip: the model's vector of the view is not finite" if bad else None for bad in lost]
        said = [a or b or c for a, b, c in zip(batch.image_errors(), given.covered, unsure, strict=True)]
        return pa.table([column, pa.array(said, pa.string())], schema=self.writes())

    def inputs(self, batch: Batch) -> _Inputs:
        images = batch.images()
        rows, covered = there(images), list[str | None]([None] * len(images))
        if self.view == "masked":
            rows, covered = self._with_text(batch)
        pictures = [self._seen(batch, image, row) for row in rows if (image := images[row]) is not None]
        return _Inputs(rows, self.clip().squares(pictures), covered)

    def _seen(self, batch: Batch, image: np.ndarray, row: int) -> np.ndarray:
        """The view of one picture, uint8 (height, width, 3)."""
        if self.view == "flipped":
            return image[:, ::-1]
        return painted(image, batch[self.reads()[2]][row].as_py())

    def _with_text(self, batch: Batch) -> tuple[np.ndarray, list[str | None]]:
        """(rows that a masked picture is to be made of, why others have none)."""
        _, cover, boxes, _ = self.reads()
        shares = batch[cover].to_numpy(zero_copy_only=False)  # NaN where the picture does not decode
        found = pc.fill_null(pc.list_value_length(batch[boxes]), 0).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero((found > 0) & (shares <= MOST))
        return rows, [f"masked: text covers {c:.0%} of the picture" if c > MOST else None for c in shares]

    def _or_as_it_is(self, batch: Batch, masked: pa.Array) -> pa.Array:
        """The masked vectors, and those of whole pictures where there is no text."""
        _, _, boxes, whole = self.reads()
        plain = pc.fill_null(pc.equal(pc.list_value_length(batch[boxes]), 0), False)
        return pc.if_else(plain, batch[whole], masked)


@dataclass(frozen=True)
class _Inputs:
    """Rows whose view is computed, its squares, and of all rows why text leaves none."""

    rows: np.ndarray
    squares: np.ndarray
    covered: list[str | None]


class ClipViewScore(OfView):
    """`clip_flipped_score` or `clip_masked_score`: cosine of the view and of the text, float32, rounded to 1e-4.

    Null where either is missing; of a picture without text, `clip_masked_score` is `clip_score` bit for bit.

    Example:
        ClipViewScore(model="ViT-B-32-quickgelu", weights="openai", name="b32", view="masked", detector="ppocr")
    """

    def identity(self) -> dict[str, Any]:
        """The names alone: all else is in the vectors that are read."""
        return {**super().identity(), "parameters": {"name": self.name, "view": self.view}}

    def reads(self) -> tuple[Column, ...]:
        vectors, embedding = self.vectors(), self.embedding()
        return (Column(vectors, vectors.image), Column(embedding, embedding.text_name))

    def writes(self) -> pa.Schema:
        return pa.schema([(f"{self.name}_{self.view}_score", pa.float32())])

    def run(self, batch: Batch) -> pa.Table:
        view, text = (batch[column] for column in self.reads())
        return pa.table([cosine(view, text)], schema=self.writes())
