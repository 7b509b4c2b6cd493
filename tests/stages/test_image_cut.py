"""Pictures are brought to size as torchvision does it, to the byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.image_cut import LONGEST, Cut

sides = st.integers(3, 120)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


@given(sides, sides, st.sampled_from(["shorter", "squash", "crop"]), st.booleans(), st.integers(8, 40))
def test_pixels_are_torchvisions(height: int, width: int, how: str, bilinear: bool, size: int) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="torchvision is not installed")
    if how == "shorter" and max(height, width) > LONGEST["shorter"] * min(height, width):
        return
    rgb = noise(height, width)
    kind = transforms.InterpolationMode.BILINEAR if bilinear else transforms.InterpolationMode.BICUBIC
    steps = {
        "shorter": [transforms.Resize(size, kind)],
        "squash": [transforms.Resize([size, size], kind)],
        "crop": [transforms.Resize(size + 5, kind), transforms.CenterCrop(size)],
    }[how]
    expected = np.asarray(transforms.Compose(steps)(Image.fromarray(rgb)))
    found = Cut(size, how, size + 5 if how == "crop" else None, bilinear)(rgb)  # type: ignore[arg-type]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("height", "width"), [(2, 5000), (5000, 2)])
def test_of_a_line_the_middle_is_looked_at(height: int, width: int) -> None:
    rgb = noise(height, width)
    short = Cut(16, "shorter", bilinear=True)(rgb)
    assert sorted(short.shape[:2]) == [16, 16 * LONGEST["shorter"]]
    middle = rgb[max(0, height - 16) // 2 :, max(0, width - 16) // 2 :][:16, :16]
    assert np.array_equal(short, Cut(16, "shorter", bilinear=True)(middle))
    assert Cut(16, "crop", 20)(rgb).shape == (16, 16, 3)
