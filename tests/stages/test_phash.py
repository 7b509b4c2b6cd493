"""Hashes as imagehash gives them, exact on any machine, and steady where float cosines are not."""

from __future__ import annotations

import io
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.fftpack
from PIL import Image

from stages.base import Batch
from stages.decode import open_image
from stages.fingerprint import of_image, phash64_from_gray, phash256_from_gray, quality_from_gray
from stages.phash import PHash

Y, X = np.mgrid[0:32, 0:32]
PATTERN = (7 * X + 13 * Y + 5 * ((X * Y) % 11)) % 256


def hex64(values: np.ndarray) -> str:
    return f"{int(phash64_from_gray(values.astype(np.uint8)[None])[0]):016x}"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (8 * X, "8000000000000000"),
        (8 * Y, "8000000000000000"),
        ((X // 4 + Y // 4) % 2 * 255, "8000000000000000"),
        (np.full((32, 32), 128), "8000000000000000"),
        (PATTERN, "c815c39f3770a54d"),
        (255 - PATTERN, "b76a3c60c88f5ab2"),
        (np.clip(PATTERN + 10, 0, 255), "c815c39f3770a54d"),
    ],
)
def test_known_vectors(values: np.ndarray, expected: str) -> None:
    assert hex64(values) == expected


def test_mirrored_pattern_is_30_bits_away() -> None:
    assert (int(hex64(PATTERN), 16) ^ int(hex64(PATTERN[:, ::-1]), 16)).bit_count() == 30


def test_every_flat_picture_has_the_same_hash_and_no_quality() -> None:
    flat = np.repeat(np.arange(1, 256, dtype=np.uint8), 64 * 64).reshape(255, 64, 64)
    assert set(phash64_from_gray(flat[:, :32, :32]).tolist()) == {1 << 63}
    assert {row.tobytes() for row in phash256_from_gray(flat)} == {b"\x80" + bytes(31)}
    assert quality_from_gray(flat).max() == 0


def test_a_batch_hashes_as_its_rows_do() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (17, 64, 64), dtype=np.uint8)
    together = phash256_from_gray(noise)
    assert together.shape == (17, 32)
    assert all((phash256_from_gray(one[None])[0] == row).all() for one, row in zip(noise, together, strict=True))
    assert phash64_from_gray(np.zeros((0, 32, 32), np.uint8)).shape == (0,)
    assert quality_from_gray(noise).min() == 100


def test_wrong_thumbnails_are_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8 \(n, 32, 32\)"):
        phash64_from_gray(np.zeros((1, 64, 64), np.uint8))


def photos(shared_data: Path, count: int) -> list[bytes]:
    found: list[bytes] = []
    for name, column in (
        ("pairs_flickr8k-00000", "image"),
        ("pairs_web_products_coco", "image"),
        ("labelled_eval", "image"),
    ):
        file = pq.ParquetFile(shared_data / f"images/{name}.parquet")
        found += next(file.iter_batches(count, columns=[column])).column(0).to_pylist()
    return found


def test_identical_to_imagehash_on_photos(shared_data: Path) -> None:
    """64 bits: all alike. 256 bits: a bit may differ only where its coefficient ties with the median."""
    ties = 0
    for data in photos(shared_data, 70):
        ours, theirs = of_image(open_image(data)), Image.open(io.BytesIO(data))
        assert f"{ours.phash64:016x}" == str(imagehash.phash(theirs))
        if ours.phash256.hex() != str(imagehash.phash(theirs, hash_size=16)):
            ties += 1
            small = np.asarray(theirs.convert("L").resize((64, 64), Image.Resampling.LANCZOS))
            block = scipy.fftpack.dct(scipy.fftpack.dct(small, axis=0), axis=1)[:16, :16]
            bits = np.unpackbits(np.frombuffer(ours.phash256, np.uint8)).reshape(16, 16).astype(bool)
            margin = np.abs(block - np.median(block))[bits != (block > np.median(block))]
            assert margin.max() < 1e-6 * np.abs(block).max()
    assert ties <= 2


def test_stage_hashes_stored_pixels_and_says_why_not() -> None:
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    out = io.BytesIO()
    picture.save(out, "PNG")
    stage = PHash()
    table = stage.run(Batch.of(pa.table({"uid": [b"a", b"b"]}), [out.getvalue(), b"<html>"]))
    assert table.schema == stage.writes()
    wanted = of_image(picture)
    assert table.to_pylist()[0] == {
        "phash64_stored": wanted.phash64,
        "phash256_stored": wanted.phash256,
        "phash_quality_stored": wanted.quality,
        "error": None,
    }
    assert table.to_pylist()[1]["phash64_stored"] is None
    assert table.to_pylist()[1]["error"] == "not_image: a web page"
