"""A text detector of one's own, and pictures with and without a line of text."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.text_detector_base import TextDetector


class Corner(TextDetector):
    """Says that the upper left quarter is text, where a picture's first pixel is not black."""

    def polygons(self, rgb: np.ndarray) -> list[np.ndarray]:
        return [np.array([(0, 0), (0.5, 0), (0.5, 0.5), (0, 0.5)])] if rgb[0, 0].any() else []


def png(rgb: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "PNG")
    return out.getvalue()


def scene(seed: int, width: int = 256, height: int = 200, discs: int = 3) -> np.ndarray:
    """Smooth colours and some soft discs (which may be taken for an O), without text; uint8 (height, width, 3)."""
    import cv2

    rng = np.random.default_rng(seed)
    rgb = cv2.resize(rng.integers(60, 200, (3, 4, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(discs):
        at = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        rgb = cv2.circle(rgb, at, int(rng.integers(15, 40)), [int(c) for c in rng.integers(0, 256, 3)], -1)
    return cv2.GaussianBlur(rgb, (5, 5), 0)


def written(rgb: np.ndarray, text: str, at: tuple[int, int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """(the picture with a white line of text on a black bar, bool (height, width): the line's rectangle)."""
    image = Image.fromarray(rgb)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    left, top, right, bottom = (round(v) for v in draw.textbbox(at, text, font=font))
    draw.rectangle((left - 4, top - 4, right + 4, bottom + 4), fill=(20, 20, 20))
    draw.text(at, text, font=font, fill=(250, 250, 250))
    where = np.zeros(rgb.shape[:2], bool)
    where[top:bottom, left:right] = True
    return np.asarray(image), where
