"""Squares of pictures: those of open_clip's own preprocessing, to the byte."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.clip_pixels import Fit, How
from stages.clip_resize import resized
from stages.decode import to_array

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


def test_of_real_jpegs_too(shared_data: Path) -> None:
    """From the bytes on, decoding included: no pixel differs from what open_clip's loader would see."""
    transform = pytest.importorskip("open_clip.transform", reason="open_clip is not installed: nothing to compare with")
    prepare = transform.image_transform(
        224, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode="shortest", interpolation="bicubic"
    )
    fit = Fit(224)
    for file, rows in (("labelled_eval", slice(0, 400, 20)), ("pairs_web_products_coco", slice(4560, 4571))):
        table = pq.read_table(shared_data / "images" / f"{file}.parquet", columns=["image"])
        for data in table.column("image").to_pylist()[rows]:
            theirs = prepare(Image.open(io.BytesIO(data)).convert("RGB"))
            expected = (theirs.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            assert np.array_equal(fit(to_array(data)), expected)


@given(st.tuples(*[st.integers(1, 90)] * 4), st.tuples(*[st.floats(0, 1)] * 4), st.booleans())
def test_any_part_of_any_size_is_pillows(
    sides: tuple[int, int, int, int], cuts: tuple[float, float, float, float], bilinear: bool
) -> None:
    height, width, out_height, out_width = sides
    rgb = np.random.default_rng(sides).integers(0, 256, (height, width, 3), np.uint8)
    left, top = int(cuts[0] * (out_width - 1)), int(cuts[1] * (out_height - 1))
    right, bottom = left + 1 + int(cuts[2] * (out_width - left - 1)), top + 1 + int(cuts[3] * (out_height - top - 1))
    kind = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
    whole = np.asarray(Image.fromarray(rgb).resize((out_width, out_height), kind))
    part = (slice(left, right), slice(top, bottom))
    found = resized(rgb, (out_width, out_height), part, bilinear)
    assert np.array_equal(found, whole[part[1], part[0]])


@pytest.mark.parametrize("sides", [(17_000, 3), (3, 17_000)], ids=str)
def test_what_is_longer_than_coefficients_are_kept_for(sides: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*sides, 3), np.uint8)
    whole = np.asarray(Image.fromarray(rgb).resize((4, 4), Image.Resampling.BICUBIC))
    assert np.array_equal(resized(rgb, (4, 4), (slice(0, 4), slice(1, 3))), whole[1:3])


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


@pytest.mark.parametrize("low", [False, True])
def test_normalised_as_the_towers_do_it(low: bool) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    from stages.clip_colours import normaliser
    from training_smoke.config import Towers
    from training_smoke.towers import build

    towers = build(Towers("tiny-conv", image_size=16, context=8), 0).eval()
    towers = towers.bfloat16() if low else towers
    squares = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8))
    seen: list[torch.Tensor] = []
    towers.image_features = lambda pixels: seen.append(pixels) or pixels.flatten(1)
    towers.encode_images(squares.permute(0, 3, 1, 2))
    found = normaliser(towers)(squares)
    assert found.dtype == (torch.bfloat16 if low else torch.float32)
    assert torch.equal(found, seen[0])
    assert found.stride() == seen[0].stride()
