"""Vectors of pictures embedded again, mirrored or with text painted over, by torch and Pillow alone.

are_of(chosen, "l14_flipped_image", path_of_towers, {uid: mirrored(picture(chosen, uid))})
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps

from tests.recipes.world import Chosen

CLOSE = 2e-3  # of a vector of length one, stored in half precision


def picture(seen: Chosen, uid: str) -> Image.Image:
    """As it is to be seen."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(seen.rows["image"][uid]))).convert("RGB")


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def lopsided(seen: Chosen, count: int = 5) -> list[str]:
    """Some pictures that people took."""
    return list(seen.rows.index[seen.rows["kind"] == "large"][:count])


def without_text(image: Image.Image, boxes: Sequence[Sequence[float]]) -> Image.Image:
    """5.4: each band of text, across the whole picture, in the mean colour of a few rows above and below it."""
    pixels = np.asarray(image).copy()
    height = len(pixels)
    bands = [(round(min(b[1::2]) * height), round(max(b[1::2]) * height)) for b in boxes]
    text = np.zeros(height, bool)
    for top, end in bands:
        text[top:end] = True
    by = max(1, round(min(image.size) / 64))
    out = pixels.copy()
    for top, end in bands:
        around = np.zeros(height, bool)
        around[max(0, top - by) : end + by] = True
        out[top:end] = np.rint(pixels[around & ~text].mean(axis=(0, 1)))
    return Image.fromarray(out)


def embedded(weights: str, images: Sequence[Image.Image]) -> np.ndarray:
    """float64 (n, dim): the shorter side to the size of the towers, bicubic, the centre cut out."""
    import torch

    from training_smoke.towers_file import load_towers

    towers = load_towers(weights)
    size, squares = towers.image_size, []
    for image in images:
        short = min(image.size)
        wide, high = (size if side == short else int(size * side / short) for side in image.size)
        left, top = round((wide - size) / 2), round((high - size) / 2)
        resized = image.resize((wide, high), Image.Resampling.BICUBIC)
        squares.append(np.asarray(resized.crop((left, top, left + size, top + size))))
    with torch.inference_mode():
        asked = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
        found: np.ndarray = towers.encode_images(asked).numpy().astype(np.float64)
    return found


def are_of(seen: Chosen, column: str, weights: str, views: Mapping[str, Image.Image]) -> None:
    """Vectors of a column are those of these views, and not those of the pictures as they are."""
    assert len(views) >= 5
    stored = np.stack([np.asarray(seen.column(column)[uid], np.float64) for uid in views])
    own = embedded(weights, [picture(seen, uid) for uid in views])
    ours = embedded(weights, list(views.values()))
    off, moved = (np.abs(stored - other).max(axis=1) for other in (ours, own))
    assert (off < CLOSE).all(), f"{column}: off by {off}"
    assert (moved > 3 * CLOSE).all(), f"{column}: moved by {moved}"
