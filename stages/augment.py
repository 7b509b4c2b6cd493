"""Augmentations that stand in a column, applied to a picture: pixels that a teacher saw, for a student to see again.

    for augmentation in row["augmentations"]:                   # of the stage `augmentations`
        square = augmented(rgb, augmentation, 224)              # uint8 (224, 224, 3)

The crop is scaled with PIL's bicubic filter, as torchvision's RandomResizedCrop does; operations are torchvision's of
PIL images, on the square, what comes in from outside is black. A student that is not of the teacher's size sees the
same part of the picture, moved and turned alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.augmentations import SPANS, cut_of

if TYPE_CHECKING:
    from PIL.Image import Image


def augmented(rgb: np.ndarray, augmentation: Mapping[str, Any], size: int) -> np.ndarray:
    """uint8 (height, width, 3) -> uint8 (size, size, 3).

    Args:
        augmentation: one entry of the column: left, top, width, height in shares; operations of name and magnitude.

    Raises:
        ValueError: an operation that is none of RandAugment's.
    """
    from PIL import Image

    height, width = rgb.shape[:2]
    left, top, wide, high = cut_of(dict(augmentation), width, height)
    part = Image.fromarray(np.ascontiguousarray(rgb[top : top + high, left : left + wide]))
    image = part.resize((size, size), Image.Resampling.BICUBIC)
    for operation in augmentation["operations"]:
        image = operated(image, operation["name"], operation["magnitude"])
    return np.asarray(image)


def operated(image: Image, name: str, magnitude: float) -> Image:
    """One of RandAugment's operations on a PIL image in RGB."""
    if name not in SPANS:
        raise ValueError(f"augmentation {name!r}: there are {', '.join(SPANS)}")
    found: Image = _OPERATIONS[name](image, magnitude) if name in _OPERATIONS else image
    return found


def _affine(image: Image, translate: tuple[float, float] = (0, 0), shear: tuple[float, float] = (0, 0)) -> Any:
    """translate: shares of the sides, cut to whole pixels. shear: tangents, about the upper left corner."""
    from torchvision.transforms import functional as F  # type: ignore[import-untyped]

    pixels = [int(round(share * side, 3)) for share, side in zip(translate, image.size, strict=True)]
    degrees = [math.degrees(math.atan(tangent)) for tangent in shear]
    centre = [0, 0] if any(shear) else None
    return F.affine(image, angle=0.0, translate=pixels, scale=1.0, shear=degrees, center=centre)


def _enhanced(kind: str) -> Callable[[Image, float], Any]:
    def enhance(image: Image, magnitude: float) -> Any:
        from PIL import ImageEnhance

        return getattr(ImageEnhance, kind)(image).enhance(1 + magnitude)

    return enhance


def _ops(kind: str, by_magnitude: bool = False) -> Callable[[Image, float], Any]:
    def operate(image: Image, magnitude: float) -> Any:
        from PIL import ImageOps

        does = getattr(ImageOps, kind)
        return does(image, int(magnitude) if kind == "posterize" else magnitude) if by_magnitude else does(image)

    return operate


def _rotated(image: Image, degrees: float) -> Any:
    from torchvision.transforms import functional as F  # type: ignore[import-untyped]

    return F.rotate(image, degrees)


_OPERATIONS: dict[str, Callable[[Any, float], Any]] = {
    "ShearX": lambda image, m: _affine(image, shear=(m, 0)),
    "ShearY": lambda image, m: _affine(image, shear=(0, m)),
    "TranslateX": lambda image, m: _affine(image, translate=(m, 0)),
    "TranslateY": lambda image, m: _affine(image, translate=(0, m)),
    "Rotate": _rotated,
    **{kind: _enhanced(kind) for kind in ("Brightness", "Color", "Contrast", "Sharpness")},
    "Posterize": _ops("posterize", by_magnitude=True),
    "Solarize": _ops("solarize", by_magnitude=True),  # above a threshold that may be half a step
    "AutoContrast": _ops("autocontrast"),
    "Equalize": _ops("equalize"),
}
