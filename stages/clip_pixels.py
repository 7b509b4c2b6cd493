"""Pictures to the squares that a CLIP is asked about, with the pixels that open_clip's own preprocessing gives.

    fit = Fit(224)
    fit(rgb)                # uint8 (height, width, 3) -> uint8 (224, 224, 3)

Pillow's antialiased bicubic (or bilinear) filter, sizes and offsets rounded as torchvision rounds them: equal to
`open_clip.image_transform_v2` to the byte (Pillow 13), without torchvision, without a picture in floats, and without
the pixels that the cut leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.clip_resize import resized

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
        (to_x, from_x), (to_y, from_y) = ((_middle(s, self.size), s) for s in self._sides(width, height))
        middle = resized(rgb, (from_x, from_y), (to_x[1], to_y[1]), self.bilinear)
        if middle.shape[:2] == (self.size, self.size):
            return middle
        square = np.full((self.size, self.size, 3), self.fill, np.uint8)
        square[to_y[0], to_x[0]] = middle
        return square

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


def _bounded(rgb: np.ndarray) -> np.ndarray:
    """The middle of a picture that is longer than LONGEST times its shorter side: of the rest nothing would be seen,
    and one pixel times 65,500 would be scaled to ten gigabytes."""
    height, width = rgb.shape[:2]
    most = LONGEST * min(height, width)
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return rgb[top : top + most, left : left + most] if top or left else rgb


def _middle(side: int, size: int) -> tuple[slice, slice]:
    """(where in the square, which part of the scaled picture)."""
    if side <= size:
        at = (size - side) // 2
        return slice(at, at + side), slice(0, side)
    at = round((side - size) / 2)
    return slice(0, size), slice(at, at + size)
