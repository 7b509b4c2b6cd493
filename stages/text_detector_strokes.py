"""Text in pictures without any weights: thin strokes, lighter or darker than what is around, that stand in lines.

    TextBoxes()                                 # or detector="strokes"

Strokes are what a morphological opening or closing of two sizes takes away (top hat, black hat); their connected
parts are letters, and letters of like height, brightness and stroke beside each other are lines, as in the classical
detectors (stroke width transform: Epshtein et al. 2010; stable regions: Chen et al. 2011; these lose thin letters of
small pictures, which a hat keeps). The thresholds are this project's own, set on other photos than those named next. It
sees printed, nearly horizontal text that stands out by 80 gray levels, from 4 letters on; not handwriting, joined or
large letters, slanted lines, or faint ones. On 200 photos of Flickr8k at 224 pixels with a black or white line of 12 to
30 pixels drawn into them it found 78 % (ppocr 98 %), and it saw text in 13 % of those without (ppocr 21 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from stages.text_detector_base import TextDetector

HATS = (9, 19)  # pixels: strokes are thinner than these
CONTRAST = 40  # gray levels that a stroke stands out by
STANDS_OUT = 80  # gray levels that a line does, on average: of lines found in photos without text three in four do not


@dataclass(frozen=True, slots=True)
class _Letter:
    """A part, or several that touch: its box in pixels, mean gray, whether dark on light, width of its strokes."""

    left: int
    top: int
    width: int
    height: int
    gray: float
    dark: bool
    stroke: float

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def letters(self) -> int:
        """How many touch, at most: one is at least half as wide as high, but for an I."""
        return max(1, round(self.width / (0.7 * self.height)))


class StrokeText(TextDetector):
    """Upright rectangles around lines of letters, from top to bottom.

    side: pixels that the longer side is made; pictures are enlarged to at most twice their size. letters: fewest in a
    line.
    """

    version: ClassVar[int] = 1

    side: int = Field(default=512, ge=64, le=2048)
    letters: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _weightless(self) -> StrokeText:
        if self.weights is not None:
            raise ValueError("text detector strokes has no weights: leave `detector_weights` out")
        return self

    def polygons(self, rgb: np.ndarray) -> list[np.ndarray]:
        gray = self._gray(rgb)
        found = {
            _around(line)
            for hat in HATS
            for dark in (False, True)
            for line in _lines(_parts(gray, hat, dark))
            if sum(a.letters for a in line) >= self.letters and _is_text(line, gray)
        }
        sides = np.array(gray.shape[::-1])
        return [np.array([(a, b), (c, b), (c, d), (a, d)]) / sides for a, b, c, d in sorted(found)]

    def _gray(self, rgb: np.ndarray) -> np.ndarray:
        import cv2

        height, width = rgb.shape[:2]
        by = min(2.0, self.side / max(height, width))
        size = (max(8, round(width * by)), max(8, round(height * by)))
        gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        return cv2.resize(gray, size, interpolation=cv2.INTER_AREA if by < 1 else cv2.INTER_CUBIC)


def _is_text(line: list[_Letter], gray: np.ndarray) -> bool:
    """At least three parts, as high as each other, on one base line, in a box longer than high, that stand out."""
    heights, bottoms = (np.array(v, float) for v in ([a.height for a in line], [a.bottom for a in line]))
    left, top, right, bottom = _around(line)
    return (
        len(line) >= 3
        and float(np.median(np.abs(bottoms - np.median(bottoms)))) <= 0.08 * float(heights.mean())
        and float(heights.std()) <= 0.35 * float(heights.mean())
        and right - left >= 1.5 * (bottom - top)
        and _contrast(line, gray[max(0, top) : bottom, max(0, left) : right]) >= STANDS_OUT
    )


def _contrast(line: list[_Letter], box: np.ndarray) -> float:
    """Gray levels between the strokes and what is behind them in the line's box."""
    ink = sum(a.gray for a in line) / len(line)
    behind = box[box > ink + 20] if line[0].dark else box[box < ink - 20]
    return abs(float(behind.mean()) - ink) if behind.size else 0.0


def _around(line: list[_Letter]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a line, with a margin."""
    margin = max(1, round(0.15 * max(a.height for a in line)))
    left, top = min(a.left for a in line) - margin, min(a.top for a in line) - margin
    return left, top, max(a.right for a in line) + margin, max(a.bottom for a in line) + margin


def _parts(gray: np.ndarray, hat: int, dark: bool) -> list[_Letter]:
    """Connected strokes thinner than `hat` that are as tall and wide as letters are, from left to right."""
    import cv2

    square = np.ones((hat, hat), np.uint8)
    out = cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT if dark else cv2.MORPH_TOPHAT, square)
    strongest = cv2.dilate(out, np.ones((2 * hat + 1, 2 * hat + 1), np.uint8))
    strokes = ((out >= CONTRAST) & (out >= 0.5 * strongest)).astype(np.uint8)
    _, label, stats, _ = cv2.connectedComponentsWithStats(strokes, connectivity=8)
    depth = cv2.distanceTransform(strokes, cv2.DIST_L2, 3)
    found = []
    for number, (x, y, w, h, area) in enumerate(stats.tolist()):
        if number and _sized(area, w, h, *gray.shape):
            window = slice(y, y + h), slice(x, x + w)
            mine = label[window] == number
            stroke = 2 * float(depth[window][mine].max())
            if stroke <= 0.45 * h + 1:
                found.append(_Letter(x, y, w, h, float(gray[window][mine].mean()), dark, stroke))
    return sorted(found, key=lambda a: (a.left, a.top, a.width, a.height))


def _sized(area: int, width: int, height: int, of_height: int, of_width: int) -> bool:
    full = area / (width * height)
    return (
        6 <= height <= of_height // 4
        and 0.1 * height <= width <= min(8 * height, of_width // 2)
        and 0.12 <= full <= (0.75 if width > height else 1)
    )


def _lines(letters: list[_Letter]) -> list[list[_Letter]]:
    """Letters, from left to right, joined with those to the right that they go with."""
    from stages.components import component_labels

    reach = max((a.height for a in letters), default=0)
    pairs = []
    for i, a in enumerate(letters):
        for j in range(i + 1, len(letters)):
            if letters[j].left - a.right > reach:
                break
            if _together(a, letters[j]):
                pairs.append((i, j))
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    lines: dict[int, list[_Letter]] = {}
    for letter, line in zip(letters, component_labels(len(letters), first, second), strict=True):
        lines.setdefault(int(line), []).append(letter)
    return [*lines.values()]


def _together(a: _Letter, b: _Letter) -> bool:
    """Do they stand in one line, drawn with one pen?"""
    tall, small = max(a.height, b.height), min(a.height, b.height)
    shared = min(a.bottom, b.bottom) - max(a.top, b.top)
    thick, thin = max(a.stroke, b.stroke), min(a.stroke, b.stroke)
    return (
        tall <= 2 * small
        and shared >= 0.6 * small
        and -0.3 * small <= b.left - a.right <= 0.8 * tall
        and thick <= 1.6 * thin + 1
        and abs(a.gray - b.gray) <= 40
    )
