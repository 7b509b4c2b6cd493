"""The fast ways give what the slow ones give: JPEG pixels, thumbnails for hashes, sizes from headers."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.decode import DecodeError, decode
from stages.fingerprint import of_image, of_pixels
from stages.image_header import header_of
from stages.lanczos import thumbnails
from stages.resize import encoded, factor, resized


def scene(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Soft shapes with some noise: what JPEG is made for."""
    random = np.random.default_rng(seed)
    soft = cv2.resize(random.integers(0, 256, (7, 9, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(soft.astype(int) + random.integers(-9, 10, soft.shape), 0, 255).astype(np.uint8)


def as_file(pixels: np.ndarray, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1), st.sampled_from(["noise", "bars", "flat"]))
def test_thumbnails_are_pillows_to_the_bit(height: int, width: int, seed: int, kind: str) -> None:
    """Noise has values in doubt in every column; bars overshoot and are clipped; tall ones begin with columns."""
    random = np.random.default_rng(seed)
    luma = random.integers(0, 256, (height, width), np.uint8)
    if kind == "bars":
        luma = (luma > 127).astype(np.uint8) * 255
    if kind == "flat":
        luma[:] = luma[0, 0]
    for found, side in zip(thumbnails(luma), (32, 64), strict=True):
        wanted = np.asarray(Image.fromarray(luma).resize((side, side), Image.Resampling.LANCZOS))
        assert (found == wanted).all()


@pytest.mark.parametrize("shape", [(900, 1344), (1400, 539), (1100, 250), (33, 4000), (16_500, 3)])
def test_thumbnails_of_large_pictures_too(shape: tuple[int, int]) -> None:
    luma = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    for found, side in zip(thumbnails(luma), (32, 64), strict=True):
        assert (found == np.asarray(Image.fromarray(luma).resize((side, side), Image.Resampling.LANCZOS))).all()


def test_pixels_hash_as_their_image_does() -> None:
    for seed in range(10):
        pixels = scene(200 + 31 * seed, 180, seed)
        assert of_pixels(pixels) == of_image(Image.fromarray(pixels))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}, {"subsampling": 1}]
)
def test_jpeg_pixels_are_pillows(options: dict[str, object]) -> None:
    for pixels in (scene(301, 203), scene(301, 203)[..., 0]):
        data = as_file(pixels, "JPEG", **options)
        assert (decode(data).pixels == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()


def test_scaled_decode_is_no_smaller_than_wanted_and_near_the_whole() -> None:
    for seed, (width, height) in enumerate([(1000, 700), (700, 1001), (640, 640), (300, 220)]):
        for orientation in (1, 6):
            exif = Image.Exif()
            exif[0x0112] = orientation
            data = as_file(scene(width, height, seed), "JPEG", exif=exif)
            whole = decode(data)
            small = decode(data, factor=lambda w, h: factor(w, h, "short", 256))
            assert (small.width, small.height) == (whole.width, whole.height)
            assert min(small.pixels.shape[:2]) >= min(256, height, width)
            assert small.pixels.size < whole.pixels.size or min(width, height) < 400
            a, b = (resized(p, "crop", 220).astype(float) for p in (whole.pixels, small.pixels))
            assert 10 * np.log10(255**2 / max(1e-9, ((a - b) ** 2).mean())) > 30


def test_sizes_are_rounded_as_img2dataset_rounds_them() -> None:
    """Half to even: 101 / 2 is 50, 103 / 2 is 52."""
    assert resized(np.zeros((200, 101, 3), np.uint8), "long", 100).shape[:2] == (100, 50)
    assert resized(np.zeros((200, 103, 3), np.uint8), "long", 100).shape[:2] == (100, 52)


def test_down_is_area_and_up_is_lanczos() -> None:
    pixels = scene(300, 210)
    assert (resized(pixels, "long", 100) == cv2.resize(pixels, (100, 70), interpolation=cv2.INTER_AREA)).all()
    up = resized(pixels, "long", 600, only_if_bigger=False)
    assert (up == cv2.resize(pixels, (600, 420), interpolation=cv2.INTER_LANCZOS4)).all()
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    assert encoded(pixels, "jpg", 95) == cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 400), st.sampled_from(["noise", "bars"]), st.booleans())
def test_areas_are_opencvs_to_the_bit(width: int, height: int, side: int, kind: str, turned: bool) -> None:
    """Also one pixel wide, by whole factors, with one side that stays, and of a view that is not contiguous."""
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    if kind == "bars":
        pixels = (pixels > 127).astype(np.uint8) * 255  # sums that lie just between two values
    if turned:
        pixels = pixels.transpose(1, 0, 2)
    found = resized(pixels, "long", side)
    size = found.shape[1], found.shape[0]
    wanted = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
    assert (found == (pixels if side >= max(width, height) else wanted)).all()


@pytest.mark.parametrize(
    ("format", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True})],
)
def test_a_header_tells_size_and_turn(format: str, options: dict[str, object]) -> None:
    for orientation in range(1, 9) if format == "JPEG" else [1]:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = as_file(scene(61, 40), format, **options, **({"exif": exif} if format == "JPEG" else {}))
        found, picture = header_of(data), decode(data)
        assert found is not None
        assert (found.format, found.width, found.height) == (picture.format, picture.width, picture.height)
        for cut in (12, 20):
            with pytest.raises(DecodeError):
                header_of(data[:cut])
    assert header_of(as_file(scene(61, 40), "GIF")) is None


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.data())
def test_a_broken_header_is_a_size_or_a_named_reason(format: str, data: st.DataObject) -> None:
    raw = bytearray(as_file(scene(20, 20), format))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, min(200, len(raw)) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    assert size_or_reason(bytes(raw[:cut])) in ("a size", "not_image", "truncated", "decode_error")


def size_or_reason(data: bytes) -> str:
    try:
        found = header_of(data)
    except DecodeError as e:
        return e.outcome
    return "a size" if found is None or min(found.width, found.height) >= 1 else str(found)
