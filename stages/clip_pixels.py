"""Pictures to the squares that a CLIP is asked about, with the pixels that open_clip's own preprocessing gives.

    fit = Fit(224)
    fit(rgb)                # uint8 (height, width, 3) -> uint8 (224, 224, 3)

Pillow's antialiased bicubic (or bilinear) filter, sizes and offsets rounded as torchvision rounds them: equal to
`open_clip.image_transform_v2` to the byte, without torchvision and without a picture in floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

LONGEST = 64  # times the shorter side
How = Literal["shortest", "squash", "longest"]


@dataclass(frozen=True, slots=True)
class Fit:
    """How a picture becomes a square of `size` pixels a side.

    how: shortest: that side to size, the centre cut out (CLIP). squash: both sides to size (SigLIP). longest: that side
    to size, padded with `fill`.
    """

    size: int
    how: How = "shortest"
    bilinear: bool = False
    fill: int = 0

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 (height, width, 3) -> uint8 (size, size, 3)."""
        if self.how == "shortest":
            rgb = _bounded(rgb)
        height, width = rgb.shape[:2]
        scaled = self._scaled(rgb, *self._sides(width, height))
        return scaled if scaled.shape[:2] == (self.size, self.size) else self._centre(scaled)

    def _sides(self, width: int, height: int) -> tuple[int, int]:
        if self.how == "squash":
            return self.size, self.size
        if self.how == "longest":
            ratio = max(width, height) / self.size
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        short = min(width, height)
        # torchvision cuts the longer side off, it does not round it.
        return (
            self.size if width == short else int(self.size * width / short),
            self.size if height == short else int(self.size * height / short),
        )

    def _scaled(self, rgb: np.ndarray, width: int, height: int) -> np.ndarray:
        if rgb.shape[:2] == (height, width):
            return rgb
        kind = Image.Resampling.BILINEAR if self.bilinear else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(rgb).resize((width, height), kind))

    def _centre(self, rgb: np.ndarray) -> np.ndarray:
        """The middle of what is larger, in the middle of what is smaller."""
        square = np.full((self.size, self.size, 3), self.fill, np.uint8)
        (to_y, from_y), (to_x, from_x) = (_middle(side, self.size) for side in rgb.shape[:2])
        square[to_y, to_x] = rgb[from_y, from_x]
        return square


def _bounded(rgb: np.ndarray) -> np.ndarray:
    """The middle of a picture that is longer than LONGEST times its shorter side: of the rest nothing would be seen,
    and one pixel times 65,500 would be scaled to ten gigabytes."""
    height, width = rgb.shape[:2]
    most = LONGEST * min(height, width)
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return rgb[top : top + most, left : left + most] if top or left else rgb


def _middle(side: int, size: int) -> tuple[slice, slice]:
    """(where in the square, which part of the picture)."""
    if side <= size:
        at = (size - side) // 2
        return slice(at, at + side), slice(None)
    at = round((side - size) / 2)
    return slice(None), slice(at, at + size)
