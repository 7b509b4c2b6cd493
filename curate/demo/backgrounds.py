"""Places behind the shapes: a wall, hills, a tablecloth, ... Soft and low in saturation, so that shapes stand out.

Each place is one gray field in 0..1 that a ramp of two or three tints colours. Fields differ from scene to scene in
their lowest frequencies too (light, horizon, folds), which are what perceptual hashes look at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

Field = np.ndarray  # float32 (height, width), about 0..1
Colour = tuple[int, int, int]

TILE = 768


@cache
def _noise() -> Field:
    """Smooth noise of several octaves, mean 0, standard deviation 1; scenes cut their pieces from it."""
    draw = np.random.default_rng(20)
    total = np.zeros((TILE, TILE), np.float32)
    for cells, weight in ((5, 1.0), (11, 0.55), (24, 0.3), (60, 0.14)):
        coarse = Image.fromarray(draw.standard_normal((cells, cells), np.float32))
        total += weight * np.asarray(coarse.resize((TILE, TILE), Image.Resampling.BICUBIC))
    return (total - total.mean()) / total.std()


@cache
def _grain() -> Field:
    return np.float32(0.016) * np.random.default_rng(21).standard_normal((TILE, TILE), np.float32)


class Canvas:
    """Size, coordinates (x and y in 0..1) and the draws of one scene's background."""

    def __init__(self, width: int, height: int, draw: np.random.Generator) -> None:
        self.width, self.height, self.draw = width, height, draw
        self.x = np.linspace(0, 1, width, dtype=np.float32)[None, :]
        self.y = np.linspace(0, 1, height, dtype=np.float32)[:, None]

    def number(self, least: int, below: int) -> int:
        return int(self.draw.integers(least, below))

    def cut(self, tile: Field) -> Field:
        """A random piece of a tile, at times mirrored."""
        top, left = self.draw.integers(0, TILE - self.height), self.draw.integers(0, TILE - self.width)
        piece = tile[top : top + self.height, left : left + self.width]
        return piece[:: self.draw.choice((-1, 1)), :: self.draw.choice((-1, 1))]

    def noise(self) -> Field:
        return self.cut(_noise())

    def curve(self, level: float, height: float) -> np.ndarray:
        """A skyline, (1, width): the y of its top at each x."""
        slow, fast = self.draw.uniform(3, 6), self.draw.uniform(7, 13)
        bumps = np.sin(slow * self.x + self.draw.uniform(0, 6)) + 0.45 * np.sin(fast * self.x + self.draw.uniform(0, 6))
        return level + height * bumps


def ones(where: np.ndarray) -> Field:
    """1 where the condition holds, else 0: products with booleans would be float64, at twice the work."""
    return where.astype(np.float32)


def plaster(c: Canvas) -> Field:
    """A wall in light that falls from one side, with a course of faint bricks."""
    rows = c.number(7, 12)
    v = c.y * rows + c.draw.uniform()
    u = c.x * rows * 0.55 * c.width / c.height + 0.5 * (np.floor(v) % 2)
    mortar = (np.abs(v % 1 - 0.5) > 0.46) | (np.abs(u % 1 - 0.5) > 0.48)
    return 0.6 + 0.1 * c.noise() - 0.22 * ones(mortar)


def sky(c: Canvas) -> Field:
    return 0.12 + 0.25 * c.y + np.clip(0.45 * c.noise() + 0.15, 0, 0.7)


def hills(c: Canvas) -> Field:
    field = 0.85 + 0.12 * c.y + 0.04 * c.noise()
    level = c.draw.uniform(0.35, 0.5)
    for shade in (0.52, 0.32, 0.12):
        field = np.where(c.y > c.curve(level, 0.045), shade + 0.12 * (c.y - level), field)
        level += c.draw.uniform(0.14, 0.2)
    return field + 0.04 * c.noise()


def mist(c: Canvas) -> Field:
    """Trunks of trees that fade upwards and away."""
    field = np.broadcast_to(0.75 + 0.1 * c.y, (c.height, c.width)).copy()
    for _ in range(c.number(7, 12)):
        at, wide, dark = c.draw.uniform(0, 1), c.draw.uniform(0.006, 0.02), c.draw.uniform(0.15, 0.5)
        bent = at + c.draw.uniform(-0.08, 0.08) * (c.y - 0.5)
        field -= dark * ones(np.abs(c.x - bent) < wide) * (1 - 0.6 * c.y)
    return field + 0.14 * c.noise()


def paper(c: Canvas) -> Field:
    edge = np.minimum(np.minimum(c.x, 1 - c.x), np.minimum(c.y, 1 - c.y))
    lines = np.abs((c.y * c.number(9, 15)) % 1 - 0.5) > 0.475
    return 0.7 - 0.5 * np.exp(-edge * 14) + 0.11 * c.noise() - 0.16 * ones(lines)


def wood(c: Canvas) -> Field:
    planks = c.number(3, 6)
    v = c.y * planks + c.draw.uniform()
    plank = np.floor(v).astype(int)
    shade = c.draw.uniform(-0.2, 0.2, planks + 2).astype(np.float32)[plank]
    rings = np.sin(55 * v + 5 * c.noise() + 40 * shade)
    return 0.55 + shade + 0.09 * rings - 0.35 * ones(v % 1 < 0.03) + 0.05 * c.noise()


def stripes(c: Canvas) -> Field:
    tilt, count = c.draw.uniform(-0.6, 0.6), c.number(4, 8)
    u = (c.x + tilt * c.y) * count + c.draw.uniform() + 0.06 * c.noise()
    wide, thin = (u % 1) < 0.45, np.abs(u % 1 - 0.72) < 0.04
    return 0.72 - 0.32 * ones(wide) - 0.4 * ones(thin) + 0.05 * c.noise()


def checks(c: Canvas) -> Field:
    count, right, low = c.draw.uniform(4, 7), c.draw.uniform(), c.draw.uniform()
    folds = 0.05 * c.noise()
    across = ((c.x * count * c.width / c.height + right + folds) % 1) < 0.5
    down = ((c.y * count + low + folds) % 1) < 0.5
    return 0.85 - 0.26 * ones(across) - 0.26 * ones(down) + folds


def sea(c: Canvas) -> Field:
    level = c.draw.uniform(0.38, 0.62)
    above = 0.75 + 0.2 * (c.y - level) + np.clip(0.16 * c.noise(), 0, 0.3)
    depth = np.maximum(c.y - level, 0.001)
    ripples = np.sin(26 * np.log(depth) + 2.2 * c.noise())
    return np.where(c.y < level, above, 0.36 - 0.3 * depth + 0.07 * ripples)


def dusk(c: Canvas) -> Field:
    """Streaks of cloud that the last light catches, over a dark ridge."""
    lights = c.cut(_grain()) > 0.05
    streaks = np.clip(np.sin(c.draw.uniform(20, 30) * c.y + 2.5 * c.noise()), 0, 1)
    field = 0.12 + 0.5 * c.y + (0.1 + 0.3 * c.y) * streaks + 0.4 * ones(lights) * (1 - c.y)
    return np.where(c.y > c.curve(c.draw.uniform(0.82, 0.9), 0.03), 0.05 + 0.02 * c.noise(), field)


PAINTERS: dict[str, tuple[Callable[[Canvas], Field], tuple[Colour, ...]]] = {
    "plaster": (plaster, ((158, 146, 138), (226, 218, 208), (246, 242, 236))),
    "sky": (sky, ((148, 166, 190), (206, 216, 228), (252, 252, 250))),
    "hills": (hills, ((96, 108, 92), (158, 170, 150), (232, 232, 226))),
    "mist": (mist, ((120, 126, 128), (196, 202, 204), (240, 240, 236))),
    "paper": (paper, ((142, 116, 88), (226, 210, 182), (246, 238, 220))),
    "wood": (wood, ((92, 70, 54), (168, 138, 110), (206, 180, 152))),
    "stripes": (stripes, ((112, 104, 120), (176, 168, 176), (236, 230, 222))),
    "checks": (checks, ((138, 124, 122), (206, 194, 188), (246, 242, 234))),
    "sea": (sea, ((104, 126, 140), (178, 194, 200), (246, 240, 228))),
    "dusk": (dusk, ((46, 48, 68), (124, 106, 122), (238, 206, 180))),
}


@cache
def _ramp(colours: tuple[Colour, ...]) -> bytes:
    """A palette of 256 colours, from the first (field 0) to the last (field 1)."""
    at = np.linspace(0, 255, len(colours))
    channels = [np.interp(np.arange(256), at, channel) for channel in zip(*colours, strict=True)]
    return np.stack(channels, axis=1).astype(np.uint8).tobytes()


def background(place: str, width: int, height: int, seed: int) -> Image.Image:
    """An RGB picture of a place in PAINTERS; a pure function of its arguments."""
    paint, colours = PAINTERS[place]
    canvas = Canvas(width, height, np.random.default_rng(seed))
    light = canvas.draw.uniform(-0.16, 0.16) * (canvas.x - 0.5) + canvas.draw.uniform(-0.16, 0.16) * (canvas.y - 0.5)
    field = paint(canvas) + light + canvas.cut(_grain())
    picture = Image.fromarray(np.clip(field * 255, 0, 255).astype(np.uint8)).convert("P")
    picture.putpalette(_ramp(colours))
    return picture.convert("RGB")
