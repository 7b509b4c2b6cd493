"""Scenes as pictures: shapes in strong colours, with a soft shadow, before the place that the caption names."""

from __future__ import annotations

import io
import math
import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from curate.demo.backgrounds import background
from curate.demo.scenes import PALETTE, Group, Scene, english, scene

FINE = 3  # outlines are drawn larger, then shrunk: smooth edges
LEAST = 26.0  # radius in pixels below which a shape is no longer well seen
WIDE, TALL = ((384, 288), (400, 266), (336, 336)), ((288, 384), (336, 336), (300, 360))
SIZES = {"row": WIDE, "column": TALL, "inside": WIDE + TALL}
UPRIGHT = {"square": 0.22, "heart": 0.25, "diamond": 0.2, "cross": 0.3}  # most that such a shape is turned, radians

Box = tuple[float, float, float, float]  # left, top, width, height
Points = list[tuple[float, float]]


def draw(of: Scene) -> Image.Image:
    """The scene as an RGB picture; a pure function of the scene."""
    rng = random.Random(of.seed)
    width, height = rng.choice(SIZES[of.relation])
    picture = background(of.place, width, height, of.seed)
    if of.relation == "inside":
        inner, outer = of.groups
        x, y, r = width / 2, height / 2, 0.43 * min(width, height)
        _stamp(picture, outer, x, y, r, rng)
        half = r * (0.5 if outer.shape == "square" else 0.56)
        _scatter(picture, inner, (x - half, y - half, 2 * half, 2 * half), rng)
        return picture
    share = 1 / len(of.groups)
    for place, group in enumerate(of.groups):
        if of.relation == "row":
            box: Box = (place * share * width, 0, share * width, height)
        else:
            box = (0, place * share * height, width, share * height)
        _scatter(picture, group, box, rng)
    return picture


def _scatter(picture: Image.Image, group: Group, box: Box, rng: random.Random) -> None:
    """Stamp the shapes of a group into cells of its box, so that none touches another."""
    left, top, width, height = box
    across, down = max(
        ((a, math.ceil(group.count / a)) for a in range(1, group.count + 1)),
        key=lambda cells: min(width / cells[0], height / cells[1]),
    )
    cell = min(width / across, height / down) / 2
    order = list(range(across * down))
    rng.shuffle(order)
    for i in sorted(order[: group.count]):
        r = _radius(group.size, cell, min(picture.size), rng)
        x, y = left + width * (i % across + 0.5) / across, top + height * (i // across + 0.5) / down
        slack_x, slack_y = (max(0.0, 0.94 * side / 2 - r) for side in (width / across, height / down))
        slack = 0.8 * cell  # not too far from the middle: the whole should look arranged
        x += rng.uniform(-1, 1) * min(slack_x, slack)
        y += rng.uniform(-1, 1) * min(slack_y, slack)
        _stamp(picture, group, x, y, r, rng)


def _radius(size: str, cell: float, side: int, rng: random.Random) -> float:
    if size == "large":
        return cell * rng.uniform(0.84, 0.92)
    if size == "small":
        return min(0.9 * cell, max(LEAST, side * rng.uniform(0.085, 0.1)))
    return min(cell * rng.uniform(0.66, 0.82), 0.26 * side)


def _stamp(picture: Image.Image, group: Group, x: float, y: float, r: float, rng: random.Random) -> None:
    """One shape with its shadow, centred on (x, y); its circumscribed circle has radius r."""
    margin = 8
    side = math.ceil(r) + margin
    left, top = round(x) - side, round(y) - side
    mask = _mask(group.shape, r, side, rng)
    shadow = mask.filter(ImageFilter.BoxBlur(4)).point([v * 2 // 5 for v in range(256)])
    picture.paste((38, 36, 48), (left + 3, top + 5), shadow)
    picture.paste(_shaded(group.colour).resize(mask.size, Image.Resampling.NEAREST), (left, top), mask)


@cache
def _shaded(colour: str) -> Image.Image:
    """The colour, a little lighter above and darker below."""
    steps = np.linspace(16, -16, 256)[:, None, None]
    return Image.fromarray(np.clip(np.full((256, 8, 3), PALETTE[colour]) + steps, 0, 255).astype(np.uint8))


def _mask(shape: str, r: float, side: int, rng: random.Random) -> Image.Image:
    """L picture of 2 side x 2 side: 255 where the shape is."""
    limit = UPRIGHT.get(shape, math.pi)
    turn = rng.uniform(-limit, limit)
    sin, cos = math.sin(turn), math.cos(turn)
    large = Image.new("L", (2 * side * FINE,) * 2)
    pen = ImageDraw.Draw(large)
    middle, scale = side * FINE, r * FINE
    points = [(middle + scale * (x * cos - y * sin), middle + scale * (x * sin + y * cos)) for x, y in outline(shape)]
    pen.polygon(points, fill=255)
    if shape == "ring":
        hole = 0.56 * scale
        pen.ellipse((middle - hole, middle - hole, middle + hole, middle + hole), fill=0)
    return large.reduce(FINE)


@cache
def outline(shape: str) -> Points:
    """The shape's outline within the unit circle; y points down. A ring is its outer circle."""
    match shape:
        case "circle" | "ring":
            return _regular(64)
        case "square":
            return _regular(4, math.pi / 4)
        case "triangle":
            return _regular(3, -math.pi / 2)
        case "hexagon":
            return _regular(6)
        case "star":
            return [
                (x * s, y * s) for i, (x, y) in enumerate(_regular(10, -math.pi / 2)) for s in (1 - 0.54 * (i % 2),)
            ]
        case "diamond":
            return [(0.0, -1.0), (0.64, 0.0), (0.0, 1.0), (-0.64, 0.0)]
        case "cross":
            a, b = 0.33, 0.94
            quarter = [(a, -b), (a, -a), (b, -a)]
            turns = [(1, 0), (0, 1), (-1, 0), (0, -1)]
            return [(x * c - y * s, x * s + y * c) for c, s in turns for x, y in quarter]
        case "heart":
            steps = [2 * math.pi * i / 48 for i in range(48)]
            return [(0.94 * math.sin(t) ** 3, -_heart(t) / 17) for t in steps]
        case "crescent":
            outer = [(math.cos(t), math.sin(t)) for t in np.linspace(0.9, 2 * math.pi - 0.9, 48)]
            x, y = outer[-1]
            bow = math.atan2(y, x - 0.9)  # the inner arc is of a circle around (0.9, 0), through both horns
            inner = math.hypot(x - 0.9, y)
            arc = np.linspace(bow, -bow - 2 * math.pi, 32)
            return outer + [(0.9 + inner * math.cos(t), inner * math.sin(t)) for t in arc]
    raise ValueError(f"no shape is called {shape!r}")


def _heart(t: float) -> float:
    return 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)


def _regular(corners: int, first: float = 0.0) -> Points:
    steps = [first + 2 * math.pi * i / corners for i in range(corners)]
    return [(math.cos(t), math.sin(t)) for t in steps]


def encoded(picture: Image.Image, format: str = "JPEG", quality: int = 90) -> bytes:
    """The picture as JPEG, PNG or WEBP; fast rather than small where the format leaves the choice."""
    options = {"PNG": {"compress_level": 1}, "WEBP": {"quality": quality, "method": 0}}
    out = io.BytesIO()
    picture.save(out, format, **options.get(format, {"quality": quality}))
    return out.getvalue()


def drawn_photos(count: int, seed: int = 0) -> tuple[list[bytes], list[str]]:
    """(JPEGs, captions) of the first scenes."""
    scenes = [scene(i, seed) for i in range(count)]
    return [encoded(draw(s)) for s in scenes], [english(s, i) for i, s in enumerate(scenes)]
