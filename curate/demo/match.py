"""An honest stand-in for CLIP in the demo, and an example of a user's own stage.

    columns:
      - curate.demo.match:SceneMatch

It sees the colours of drawn scenes and how many shapes have each, reads the same from the caption, and says
how well the two agree. It sees neither what the shapes are nor how they lie to each other, and it knows nothing of
photos: real pools use a real model.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from curate.demo.scenes import PALETTE
from stages.base import IMAGE, TEXT, Batch, Column, Stage

SIDE = 96
NEAR = 60.0  # distance in RGB within which a pixel counts as a palette colour
LEAST = 0.004  # share of the picture that a shape covers at least
_COLOURS = np.array(list(PALETTE.values()), np.float32)
_COUNTS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4}
_NAMED = re.compile(rf"\b(?:({'|'.join(_COUNTS)})\s+)?(?:(?:small|large)\s+)?({'|'.join(PALETTE)})\b")


class SceneMatch(Stage):
    """scene_match in 0..1: agreement of colours and counts; null where the caption names no colour we know."""

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE, TEXT)

    def writes(self) -> pa.Schema:
        return pa.schema([("scene_match", pa.float32())])

    def run(self, batch: Batch) -> pa.Table:
        images, texts = batch.images(side=SIDE), batch[TEXT].to_pylist()
        scores = [None if im is None else agreement(seen(im), said(t)) for im, t in zip(images, texts, strict=True)]
        return pa.table(
            {
                "scene_match": pa.array(scores, pa.float32()),
                "error": pa.array(batch.image_errors(), pa.string()),
            }
        )


def said(text: str | None) -> dict[str, int]:
    """Colour -> how many shapes of it the caption names."""
    return {colour: _COUNTS.get(count, 1) for count, colour in _NAMED.findall((text or "").lower())}


def seen(image: np.ndarray) -> dict[str, int]:
    """Colour -> how many blobs of it the picture (side, side, 3) has."""
    from scipy import ndimage

    pixels = image.reshape(-1, 1, 3).astype(np.float32)
    distance = np.linalg.norm(pixels - _COLOURS, axis=2)
    nearest, close = distance.argmin(1), distance.min(1) < NEAR
    found = {}
    for i, colour in enumerate(PALETTE):
        mask = ((nearest == i) & close).reshape(image.shape[:2])
        labels, _ = ndimage.label(mask)
        sizes = np.bincount(labels.ravel())[1:]
        blobs = int((sizes > LEAST * mask.size).sum())
        if blobs:
            found[colour] = blobs
    return found


def agreement(image: dict[str, int], text: dict[str, int]) -> float | None:
    """Mean over all colours seen or said: 0.7 for being in both, 0.3 for the same number."""
    if not text:
        return None
    colours = image.keys() | text.keys()
    both = [c for c in colours if c in image and c in text]
    return round(sum(0.7 + 0.3 * (image[c] == text[c]) for c in both) / len(colours), 4)
