"""The signature of colours: copies agree, recoloured things do not, small ones on white neither."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from stages.fingerprints_colours import BYTES, of_pixels

KNOWN = "2212155a3a238b5f30ba7f605c81d4b589df3f361f83973a"


def shoe(colour: str, side: int = 224, ground: str = "white") -> Image.Image:
    """Something small and of one colour on a plain ground."""
    picture = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(picture)
    draw.ellipse([side * 0.35, side * 0.45, side * 0.65, side * 0.55], fill=colour)
    draw.rectangle([side * 0.35, side * 0.53, side * 0.66, side * 0.57], fill="#303030")
    return picture


def scene(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((240, 180), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def apart(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of the bytes."""
    one, other = (of_pixels(np.asarray(p)).astype(int) for p in (a, b))
    return float(np.abs(one - other).mean())


@pytest.mark.parametrize("picture", [scene(1), scene(2), shoe("crimson"), shoe("#f4f0e8")])
@pytest.mark.parametrize("change", ["jpeg 30", "half", "squashed", "twice"])
def test_copies_agree(picture: Image.Image, change: str) -> None:
    copies = {
        "jpeg 30": encoded(picture, 30),
        "half": picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC),
        "squashed": picture.resize((picture.width, round(picture.height * 0.7)), Image.Resampling.BICUBIC),
        "twice": picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.LANCZOS),
    }
    assert apart(picture, copies[change]) < 4


@pytest.mark.parametrize("other", ["darkgreen", "navy", "black", "hotpink", "saddlebrown"])
def test_the_same_thing_in_another_colour_does_not(other: str) -> None:
    """Where the mean difference of plain thumbnails is small, most of both being white."""
    one, two = (shoe(colour) for colour in ("crimson", other))
    assert apart(one, two) > 8
    plain = [np.asarray(p.resize((8, 8), Image.Resampling.BOX)).astype(int) for p in (one, two)]
    assert np.abs(plain[0] - plain[1]).mean() < 8


def test_colour_counts_less_than_light() -> None:
    """So that more gray copies agree; by how much, for one flat colour: cells are of that colour."""
    red = of_pixels(np.full((64, 64, 3), (200, 100, 100), np.uint8)).reshape(-1, 3)
    light = 200 * 0.299 + 100 * 0.701
    assert (red == np.rint([light + (200 - light) * 2 / 3, *[light + (100 - light) * 2 / 3] * 2])).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 70))
def test_any_size_has_a_signature(seed: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = of_pixels(pixels)
    assert (found.dtype, found.shape) == (np.uint8, (BYTES,))
    assert (of_pixels(np.asfortranarray(pixels)) == found).all()


def test_mirrored_pictures_have_mirrored_cells() -> None:
    pixels = np.asarray(scene(3).resize((320, 320)))
    cells = of_pixels(pixels).reshape(6, 6, 3).astype(int)
    mirrored = of_pixels(np.ascontiguousarray(pixels[:, ::-1])).reshape(6, 6, 3).astype(int)
    assert np.abs(cells - mirrored[:, ::-1]).max() <= 2


def test_known_bytes() -> None:
    """A change of these is a change of the algorithm: raise its version."""
    y, x = np.mgrid[0:50, 0:70]
    pixels = np.stack([(7 * x + 3 * y) % 256, (x * y) % 256, np.where(x > 30, 255, 20)], axis=2).astype(np.uint8)
    assert of_pixels(pixels).tobytes().hex()[:48] == KNOWN
