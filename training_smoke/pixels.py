"""Encoded images to the squares that towers are trained on, as fast as that goes.

square(data, 224)          # uint8 [224, 224, 3]
"""

from __future__ import annotations

import numpy as np

from stages.decode import decode
from stages.resize import resized

VERSION = 1  # rises when the pixels of any image change: what was decoded before is then decoded anew


def square(data: bytes, size: int) -> np.ndarray:
    """The central square of an image at `size` pixels a side: uint8 [size, size, 3], upright RGB.

    Areas are averaged on the way down, Lanczos on the way up (`stages.resize`). A JPEG is decoded at the half,
    quarter or eighth of its size that is not below `size`: at a quarter of the cost.

    Raises:
        stages.decode.DecodeError: the bytes are no picture; says why.
    """
    pixels = decode(data, factor=lambda width, height: size / min(width, height)).pixels
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized(pixels[top : top + side, left : left + side], "short", size, only_if_bigger=False)
