"""Strong augmentations as numbers: where a picture is cut, and what is then done to it; drawn by uid, kept as a column.

    captions:
      make:
        - augmentations: {count: 10}
        - teacher_images: {model: ViT-L-14-quickgelu, weights: openai, name: openai, augmentations: augmentations}

Datasets that are reinforced with a teacher's knowledge (Vasu et al. 2023, arXiv:2311.17049, MobileCLIP: DataCompDR)
keep with each picture the augmentations under which the teacher saw it, so that a student may see the very same. They
are a random resized crop (Szegedy et al. 2015, as torchvision draws it) and RandAugment (Cubuk et al. 2019,
arXiv:1909.13719). `stages.augment.augmented` applies them. How many operations there are, and their magnitude, are
torchvision's: unverified.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from stages.base import UID, Batch, Column, Stage, fact
from stages.draws import uniform

OPERATION = pa.struct([("name", pa.string()), ("magnitude", pa.float32())])
AUGMENTATIONS = pa.list_(
    pa.struct(
        [
            ("left", pa.float32()),
            ("top", pa.float32()),
            ("width", pa.float32()),
            ("height", pa.float32()),
            ("operations", pa.list_(OPERATION)),
        ]
    )
)
"""Of each augmentation the part of the picture that is cut out, in shares of its width and height, and what is done."""

TRIES = 10  # of torchvision, before it takes the middle
SPANS: dict[str, tuple[float, float, bool]] = {
    "Identity": (0, 0, False),
    "ShearX": (0, 0.3, True),
    "ShearY": (0, 0.3, True),
    "TranslateX": (0, 150 / 331, True),
    "TranslateY": (0, 150 / 331, True),
    "Rotate": (0, 30, True),
    "Brightness": (0, 0.9, True),
    "Color": (0, 0.9, True),
    "Contrast": (0, 0.9, True),
    "Sharpness": (0, 0.9, True),
    "Posterize": (8, 4, False),
    "Solarize": (255, 0, False),
    "AutoContrast": (0, 0, False),
    "Equalize": (0, 0, False),
}
"""RandAugment's operations, as torchvision has them: magnitude at 0, at the most, and whether its sign is drawn. Of
translations it is a share of the side, so that it does not hang on the size; rotations are in degrees."""


class Augmentations(Stage):
    """`augmentations`: `count` augmentations of each picture, list<struct>, drawn by seed and uid.

    Null where the size of the picture is not known.

    count: DataCompDR-1B has 10, -12M 30. scale: shares of the picture's area that a crop may have. ratio: its width by
    its height, from and to. operations: of RandAugment, one after another. magnitude: 0 to 30.
    name: of the column. seed: of the draws.
    """

    version: ClassVar[int] = 2  # 1 was of all samples: its files are no parts of a stage for survivors
    sparse: ClassVar[bool] = True  # some 500 bytes a row, for teachers, who are asked about survivors

    name: str = Field(default="augmentations", pattern="^[a-z][a-z0-9_]{0,31}$")
    count: int = Field(default=10, ge=1, le=256)
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    operations: int = Field(default=2, ge=0, le=16)
    magnitude: int = Field(default=9, ge=0, le=30)
    seed: int = 0

    @field_validator("scale", "ratio")
    @classmethod
    def _a_span(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected two numbers above 0, the smaller one first")
        return value

    def reads(self) -> tuple[Column, ...]:
        return (UID, fact("width"), fact("height"))

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, AUGMENTATIONS)])

    def run(self, batch: Batch) -> pa.Table:
        uid, sizes = batch[UID], [batch[n].to_numpy(zero_copy_only=False).astype(float) for n in ("width", "height")]
        known = np.all([np.isfinite(side) & (side > 0) for side in sizes], axis=0)
        uid, (width, height) = uid.filter(pa.array(known)), (side[known] for side in sizes)
        drawn = [self._one(number, uid, width, height) for number in range(self.count)]
        lists = np.full(batch.num_rows, None, object)
        for row, at in enumerate(np.flatnonzero(known)):
            lists[at] = [augmentation[row] for augmentation in drawn]
        return pa.table([pa.array(lists, AUGMENTATIONS)], schema=self.writes())

    def _one(self, number: int, uid: pa.Array, width: np.ndarray, height: np.ndarray) -> list[dict[str, object]]:
        """The augmentation of this number, of each row."""
        crops = self._crops(f"augmentations/{number}", uid, width, height)
        done = [self._operation(f"augmentations/{number}/operation/{i}", uid) for i in range(self.operations)]
        return [
            {**dict(zip(("left", "top", "width", "height"), crop, strict=True)), "operations": list(operations)}
            for crop, operations in zip(crops, zip(*done, strict=True) if done else [()] * len(crops), strict=True)
        ]

    def _crops(self, salt: str, uid: pa.Array, width: np.ndarray, height: np.ndarray) -> np.ndarray:
        """float64 (n, 4): left, top, width, height as shares. The first try that fits, else the middle."""
        sizes = np.stack([width, height])
        found = np.stack(_middle(width, height, self.ratio))
        logs = np.log(self.ratio)
        for attempt in reversed(range(TRIES)):
            area, shape, x, y = (
                uniform(self.seed, f"{salt}/{what}/{attempt}", uid) for what in ("area", "shape", *"xy")
            )
            pixels = width * height * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
            ratio = np.exp(logs[0] + shape * (logs[1] - logs[0]))
            part = np.stack([np.round(np.sqrt(pixels * ratio)), np.round(np.sqrt(pixels / ratio))])
            at = np.floor(np.stack([x, y]) * (sizes - part + 1))
            fits = ((part > 0) & (part <= sizes)).all(axis=0)
            found[:, fits] = np.concatenate([at, part])[:, fits]
        return np.asarray((found / np.concatenate([sizes, sizes])).T)

    def _operation(self, salt: str, uid: pa.Array) -> list[dict[str, object]]:
        """One of RandAugment's, of each row."""
        names = list(SPANS)
        which = (uniform(self.seed, f"{salt}/name", uid) * len(names)).astype(int)
        minus = uniform(self.seed, f"{salt}/sign", uid) < 0.5
        return [
            {"name": names[i], "magnitude": magnitude(names[i], self.magnitude) * (-1 if negative else 1)}
            for i, negative in zip(which, minus & [SPANS[names[i]][2] for i in which], strict=True)
        ]


def magnitude(name: str, of_thirty: int) -> float:
    """What torchvision has for this operation at a magnitude of 0 to 30; translations as a share of the side."""
    low, high, _ = SPANS[name]
    if name == "Posterize":  # in bits
        return low - round(of_thirty / (30 / (low - high)))
    return low + (high - low) * of_thirty / 30


def _middle(width: np.ndarray, height: np.ndarray, ratio: tuple[float, float]) -> tuple[np.ndarray, ...]:
    """What torchvision cuts out where no try fits: left, top, width, height in pixels."""
    shape = width / height
    high = np.where(shape < ratio[0], np.round(width / ratio[0]), height)
    wide = np.where(shape > ratio[1], np.round(height * ratio[1]), width)
    return np.floor((width - wide) / 2), np.floor((height - high) / 2), wide, high


def cut_of(augmentation: dict[str, float], width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, width, height) in pixels of a picture of this size, inside of it, at least one pixel."""
    wide = min(width, max(1, round(augmentation["width"] * width)))
    high = min(height, max(1, round(augmentation["height"] * height)))
    left = min(width - wide, max(0, math.floor(augmentation["left"] * width + 0.5)))
    top = min(height - high, max(0, math.floor(augmentation["top"] * height + 0.5)))
    return left, top, wide, high
