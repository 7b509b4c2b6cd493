"""Pictures to the pixels that an image model is asked about, as torchvision's transforms make them of a PIL image.

    Cut(288, "shorter", bilinear=True)(rgb)         # Resize(288): uint8 (288, any, 3) or (any, 288, 3)
    Cut(320, "squash", bilinear=True)(rgb)          # Resize([320, 320])
    Cut(224, "crop", shorter=256)(rgb)              # Resize(256, bicubic), CenterCrop(224)

Pixels, sizes and offsets are torchvision's to the byte (`stages.clip_resize`), without the pixels that the cut leaves
out. Of pictures that are very long the middle is looked at only: see `LONGEST`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.clip_resize import resized

Resize = Literal["shorter", "squash", "crop"]

LONGEST: dict[Resize, int] = {"shorter": 8, "crop": 64}
"""Times its shorter side that a picture may be long; of a longer one the middle is taken. With `shorter` all of it goes
through the model, and a line of 65,500 pixels would be a hundred times the work of a photo; with `crop` a line that is
one pixel high would be scaled to gigabytes before it is cut."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How a picture is brought to size.

    how: shorter: that side becomes `size`, the other follows. squash: both sides become `size`. crop: the shorter side
    becomes `shorter`, and the middle square of `size` is cut out.
    shorter: for crop; left out, `size`. bilinear: in place of bicubic.
    """

    size: int
    how: Resize = "crop"
    shorter: int | None = None
    bilinear: bool = False

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 (height, width, 3) -> uint8 (rows, columns, 3)."""
        if self.how in LONGEST:
            rgb = _middle(rgb, LONGEST[self.how] * min(rgb.shape[:2]))
        height, width = rgb.shape[:2]
        to_width, to_height = self._scaled(width, height)
        part = slice(0, to_width), slice(0, to_height)
        if self.how == "crop":
            part = _centre(to_width, self.size), _centre(to_height, self.size)
        return resized(rgb, (to_width, to_height), part, self.bilinear)

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        if self.how == "squash":
            return self.size, self.size
        wanted = self.shorter if self.how == "crop" and self.shorter is not None else self.size
        short = min(width, height)
        # torchvision cuts the longer side off, it does not round it.
        return (
            wanted if width == short else int(wanted * width / short),
            wanted if height == short else int(wanted * height / short),
        )


def _middle(rgb: np.ndarray, most: int) -> np.ndarray:
    height, width = rgb.shape[:2]
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return rgb[top : top + most, left : left + most] if top or left else rgb


def _centre(side: int, size: int) -> slice:
    at = round((side - size) / 2)
    return slice(at, at + size)
