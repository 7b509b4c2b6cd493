"""Facts of stored pixels: against definitions on drawn pictures, and plausible on real photos."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFilter

from stages.base import Batch
from stages.image_facts import SIDE, ImageFacts, of_gray


def encoded(pixels: np.ndarray | Image.Image, format: str = "PNG") -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def facts(*images: bytes) -> list[dict[str, object]]:
    table = ImageFacts().run(Batch.of(pa.table({"uid": list(range(len(images)))}), list(images)))
    assert table.schema == ImageFacts().writes()
    return table.to_pylist()


def test_flat_pictures_are_blank_and_as_bright_as_they_are() -> None:
    black, gray, white = facts(*(encoded(np.full((40, 60, 3), v, np.uint8)) for v in (0, 119, 255)))
    assert black == {"mean": 0.0, "sharpness": 0.0, "entropy": 0.0, "blank": True, "error": None}
    assert (gray["mean"], white["mean"]) == (119.0, 255.0)
    assert gray["blank"] is True
    assert white["blank"] is True


def test_entropy_counts_levels() -> None:
    every_level = np.repeat(np.arange(256, dtype=np.uint8)[:, None], SIDE, axis=1)
    halves = np.zeros((SIDE, SIDE), np.uint8)
    halves[:, SIDE // 2 :] = 255
    ramp, two = facts(encoded(every_level), encoded(halves))
    assert ramp["entropy"] == 8.0
    assert two["entropy"] == 1.0
    assert ramp["blank"] is False


def test_blank_begins_below_a_deviation_of_five() -> None:
    checker = (np.indices((SIDE, SIDE)).sum(axis=0) % 2).astype(np.int16) * 2 - 1  # deviation one
    four, five = facts(*(encoded((128 + k * checker).astype(np.uint8)) for k in (4, 5)))
    assert four["blank"] is True
    assert five["blank"] is False


def test_blur_lowers_sharpness() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    sharp, soft, softer = facts(
        *(encoded(i) for i in (noise, noise.filter(ImageFilter.GaussianBlur(1)), noise.filter(ImageFilter.BoxBlur(5))))
    )
    assert sharp["sharpness"] > 20 * soft["sharpness"] > 20 * softer["sharpness"] > 0  # type: ignore[operator]


def test_an_image_that_does_not_decode_has_nulls_and_the_reason() -> None:
    good, bad = facts(encoded(np.zeros((8, 8, 3), np.uint8)), b"<html>404</html>")
    assert good["error"] is None
    assert [bad[k] for k in ("mean", "sharpness", "entropy", "blank")] == [None] * 4
    assert str(bad["error"]).startswith("not_image: ")


def test_the_smallest_picture_has_facts() -> None:
    (tiny,) = facts(encoded(np.full((1, 1, 3), 7, np.uint8)))
    assert (tiny["mean"], tiny["blank"], tiny["error"]) == (7.0, True, None)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=24)))
def test_facts_equal_the_definitions(gray: np.ndarray) -> None:
    found = of_gray(gray)
    p = np.bincount(gray.ravel(), minlength=256) / gray.size
    g = gray.astype(float)
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    assert found.mean == pytest.approx(g.mean(), abs=1e-4)
    assert found.sharpness == pytest.approx(laplacian.var(), rel=1e-9, abs=1e-4)
    assert found.entropy == pytest.approx(-sum(x * np.log2(x) for x in p if x), abs=1e-4)
    assert found.blank == (g.std() < 5)


def test_real_photos(shared_data: Path) -> None:
    rows = pq.read_table(shared_data / "images" / "pairs_flickr8k-00000.parquet", columns=["image"]).slice(0, 60)
    found = facts(*rows.column("image").to_pylist())
    assert all(f["error"] is None and f["blank"] is False for f in found)
    assert all(10 < f["mean"] < 245 and 3 < f["entropy"] <= 8 and f["sharpness"] > 50 for f in found)  # type: ignore[operator]
