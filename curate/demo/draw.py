"""Scenes as pictures: shapes in strong colours before a soft background that is each scene's own."""

from __future__ import annotations

import io
import math
import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from curate.demo.scenes import PALETTE, Scene, english, scene

WIDTH, HEIGHT = 384, 288
SUPER = 2  # drawn larger, then shrunk: smooth edges


def draw(of: Scene) -> Image.Image:
    """The scene as an RGB picture of WIDTH x HEIGHT; a pure function of the scene."""
    rng = random.Random(of.seed)
    picture = _background(of.seed).resize((WIDTH * SUPER, HEIGHT * SUPER), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    column = WIDTH * SUPER / len(of.groups)
    for place, group in enumerate(of.groups):
        for x, y, r in _spots(rng, group.count, place * column, column):
            pen.polygon(_outline(group.shape, x, y, r, rng), fill=PALETTE[group.colour])
    small = picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    grain = np.roll(_grain(), of.seed % _grain().size)
    return Image.fromarray(np.clip(np.asarray(small, np.int16) + grain, 0, 255).astype(np.uint8))


@cache
def _grain() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH, 1)).astype(np.int16)


def _background(seed: int) -> Image.Image:
    """Soft, low in saturation, and different at the lowest frequencies, which perceptual hashes look at."""
    rng = np.random.default_rng(seed)
    light = rng.uniform(110, 245, (5, 7, 1))
    tint = rng.uniform(-12, 12, (5, 7, 3))
    return Image.fromarray(np.clip(light + tint, 0, 255).astype(np.uint8))


def _spots(rng: random.Random, count: int, left: float, width: float) -> list[tuple[float, float, float]]:
    """(x, y, radius) of shapes that do not touch, in one column of the picture."""
    height = HEIGHT * SUPER
    rows = 1 if count == 1 else 2
    across = math.ceil(count / rows)
    radius = min(width / across, height / rows) / 2
    found = []
    for i in range(count):
        x, y = left + width * (i // rows + 0.5) / across, height * (i % rows + 0.5) / rows
        r = radius * rng.uniform(0.5, 0.72)
        slack = radius * 0.9 - r
        found.append((x + rng.uniform(-slack, slack), y + rng.uniform(-slack, slack), r))
    return found


def _outline(shape: str, x: float, y: float, r: float, rng: random.Random) -> list[tuple[float, float]]:
    turn = rng.uniform(0, 2 * math.pi)
    corners = {"circle": 48, "square": 4, "triangle": 3, "star": 10}[shape]
    radii = [r * (0.45 if shape == "star" and i % 2 else 1.0) for i in range(corners)]
    steps = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return [(x + q * math.cos(a), y + q * math.sin(a)) for a, q in zip(steps, radii, strict=True)]


def encoded(picture: Image.Image, format: str = "JPEG", quality: int = 90) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **({} if format == "PNG" else {"quality": quality}))
    return out.getvalue()


def drawn_photos(count: int, seed: int = 0) -> tuple[list[bytes], list[str]]:
    """(JPEGs, captions) of the first scenes."""
    scenes = [scene(i, seed) for i in range(count)]
    return [encoded(draw(s)) for s in scenes], [english(s, i) for i, s in enumerate(scenes)]
