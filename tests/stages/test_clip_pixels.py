"""Squares of pictures: those of open_clip's own preprocessing, to the byte."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stages.clip_pixels import Fit, How

SIDES = [(32, 32), (33, 32), (47, 91), (200, 61), (61, 200), (16, 16), (9, 70), (300, 7), (32, 500), (1, 1)]


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("how", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_equal_to_open_clips(sides: tuple[int, int], how: How, bilinear: bool) -> None:
    transform = pytest.importorskip("open_clip.transform", reason="open_clip is not installed: nothing to compare with")
    rgb = np.random.default_rng(sides).integers(0, 256, (*sides, 3), np.uint8)
    theirs = transform.image_transform_v2(
        transform.PreprocessCfg(
            32, "RGB", (0.0,) * 3, (1.0,) * 3, "bilinear" if bilinear else "bicubic", resize_mode=how, fill_color=9
        ),
        is_train=False,
    )(Image.fromarray(rgb))
    expected = (theirs.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(Fit(32, how, bilinear, fill=9)(rgb), expected)


def test_a_square_of_the_size_is_not_touched() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert Fit(32)(rgb) is rgb


def test_one_pixel_times_many_takes_no_memory() -> None:
    import tracemalloc

    long = np.zeros((60_000, 1, 3), np.uint8)
    long[30_000 - 32 : 30_000 + 32] = 200
    tracemalloc.start()
    found = Fit(224)(long)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    assert found.shape == (224, 224, 3)
    assert found.min() > 190
