"""PDQ after its definition, step by step, in NumPy; and what the published code gives to known pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from stages.fingerprints_pdq import Pdq, of_luma, of_pixels, quality, thinned

PATTERN = np.stack([(7 * x + 13 * y + 5 * ((x * y) % 11)) % 256 for y in range(100) for x in range(150)])
PATTERN = PATTERN.reshape(100, 150).astype(np.float32)
KNOWN = ("1cb4fda93584ffaa00dcd5aaff00aa55450aaa576514aa5d6d31aa7d19a85e55", 100)


def box(values: np.ndarray, window: int) -> np.ndarray:
    """Means along axis 0 over those of `window` rows around that are there, in float64."""
    length, half = len(values), (window + 2) // 2
    rows = []
    for i in range(length):
        first, last = max(0, i + half - window), min(length, i + half)
        rows.append(values[first:last].mean(axis=0))
    return np.array(rows)


def reference(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(64x64 pixels, 16x16 coefficients) in float64, by sums written out."""
    small = luma.astype(np.float64)
    if luma.shape != (64, 64):
        for _ in range(2):
            small = box(small.T, -(-luma.shape[1] // 128)).T
            small = box(small, -(-luma.shape[0] // 128))
        rows, columns = (((np.arange(64) + 0.5) * n / 64).astype(int) for n in luma.shape)
        small = small[rows][:, columns]
    cosines = np.array([[math.cos(math.pi / 128 * (i + 1) * (2 * j + 1)) for j in range(64)] for i in range(16)])
    return small, cosines @ small @ cosines.T / 32


@example(0, 5, 8)
@given(st.integers(0, 2**32 - 1), st.integers(5, 300), st.integers(5, 300))
def test_it_is_the_definition(seed: int, height: int, width: int) -> None:
    """A bit may differ from float64 only where its coefficient is at the median."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.float32)
    small, block = reference(noise)
    np.testing.assert_allclose(thinned(noise), small, atol=0.01)
    hashed = np.unpackbits(np.frombuffer(of_luma(noise).hash, np.uint8))[::-1].reshape(16, 16).astype(bool)
    median = np.sort(block, axis=None)[127]
    assert np.abs(block - median)[hashed != (block > median)].max(initial=0) < 1e-2 * np.abs(block).max()
    assert hashed.sum() <= 128, "half, and fewer where several coefficients are the median, as of few pixels"


def test_known_pixels() -> None:
    """As the published code (package pdqhash 0.2.8) hashes them."""
    found = of_luma(PATTERN)
    assert (found.hash.hex(), found.quality) == KNOWN


def test_a_colour_picture_is_hashed_by_its_luma() -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    luma = (rgb[..., 0] * 0.299 + rgb[..., 1] * 0.587 + rgb[..., 2] * 0.114).astype(np.float32)
    assert of_pixels(rgb) == of_luma(luma)
    gray = np.repeat(rgb[:, :, :1], 3, axis=2)
    assert of_pixels(np.asfortranarray(gray)) == of_pixels(gray)


def test_quality_is_0_for_flat_and_100_for_noise() -> None:
    assert quality(np.full((64, 64), 130, np.float32)) == 0
    assert quality(np.random.default_rng(1).integers(0, 256, (64, 64)).astype(np.float32)) == 100
    step = np.zeros((64, 64), np.float32)
    step[:, 32:] = 255  # 64 steps of 100 %, over 90
    assert quality(step) == 71
    step[:, 32:] = 2  # steps below 1 % are none
    assert quality(step) == 0


def test_small_and_flat_pictures() -> None:
    assert of_pixels(np.zeros((4, 80, 3), np.uint8)) is None
    flat = of_pixels(np.full((80, 80, 3), 200, np.uint8))
    assert flat is not None
    assert flat.quality == 0
    with pytest.raises(ValueError, match="at least 5x5"):
        of_luma(np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match="float32"):
        of_luma(np.zeros((40, 40)))


def test_a_smaller_copy_is_near() -> None:
    picture = Image.fromarray(np.random.default_rng(5).integers(0, 256, (12, 16, 3), dtype=np.uint8))
    large, half = (np.asarray(picture.resize(size, Image.Resampling.BICUBIC)) for size in ((640, 480), (320, 240)))
    a, b = of_pixels(large), of_pixels(half)
    assert isinstance(a, Pdq)
    assert isinstance(b, Pdq)
    assert (int(a.hash.hex(), 16) ^ int(b.hash.hex(), 16)).bit_count() <= 16
