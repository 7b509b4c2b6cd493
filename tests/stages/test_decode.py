"""Every picture upright and in RGB, every other file refused by name, whatever the bytes."""

from __future__ import annotations

import io
import json
import tarfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.run.fetch.examine import examine
from curate.run.fetch.spec import IngestSpec
from stages.decode import DecodeError, decode, encode, open_image, probe, to_array
from stages.resize import resized

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\..*")
REASONS = {"not_image", "bomb", "decode_error", "truncated", "too_small"}


def photo(width: int = 48, height: int = 32, mode: str = "RGB") -> Image.Image:
    """Smooth colours with a dark top-left corner, so that turns and flips show."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def outcome(data: bytes, **options: int) -> str:
    """ "ok" or the reason; anything but a picture or a DecodeError with one printable line fails the test."""
    try:
        picture = decode(data, **options)
    except DecodeError as error:
        return error.outcome if error.detail.isprintable() else f"unprintable {error.detail!r}"
    return "ok" if picture.image.mode == "RGB" else f"mode {picture.image.mode}"


def reason(data: bytes, **options: int) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(data, **options)
    return caught.value.outcome


GOOD = {
    "jpeg": encoded(photo(), "JPEG"),
    "png": encoded(photo(), "PNG"),
    "webp": encoded(photo(), "WEBP"),
    "gif": encoded(photo(), "GIF"),
    "bmp": encoded(photo(), "BMP"),
    "tiff": encoded(photo(), "TIFF"),
    "avif": encoded(photo(), "AVIF"),
}


@pytest.mark.parametrize("name", GOOD)
def test_each_format_of_the_list_comes_out_as_the_same_rgb(name: str) -> None:
    picture = decode(GOOD[name])
    assert (picture.format, picture.image.mode, picture.image.size) == (name, "RGB", (48, 32))
    difference = np.abs(np.asarray(picture.image, np.int16) - np.asarray(photo(), np.int16))
    assert difference.mean() < (8 if name == "gif" else 4)  # a palette of 256 colours, lossy codecs
    assert picture.plain == (name in ("jpeg", "png", "webp"))
    assert probe(GOOD[name]).format == name


def test_mpo_and_animations_give_their_first_frame_and_are_not_plain() -> None:
    first, second = photo(), photo().transpose(Image.Transpose.ROTATE_180)
    for format, name in (("MPO", "jpeg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif")):
        data = encoded(first, format, save_all=True, append_images=[second])
        picture = decode(data)
        assert (picture.format, picture.plain) == (name, False)
        assert np.asarray(picture.image)[0, 0].max() < 60  # the dark corner of the first frame


def test_exif_orientation_is_applied_in_all_eight_ways() -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for format in ("JPEG", "PNG", "WEBP", "TIFF"):
            data = encoded(photo(), format, exif=exif)
            picture = decode(data)
            turned = orientation >= 5
            assert picture.image.size == ((32, 48) if turned else (48, 32)), (format, orientation)
            corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
            assert np.asarray(picture.image)[corner[orientation]].max() < 40, (format, orientation)
            assert picture.plain == (orientation == 1 and format != "TIFF")


def test_broken_exif_does_not_cost_the_picture() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40)
    assert decode(data).image.size == (48, 32)


def test_alpha_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    clear.paste((10, 20, 30, 255), (0, 0, 4, 8))
    for format in ("PNG", "WEBP", "TIFF"):
        data = encoded(clear, format, **({"lossless": True} if format == "WEBP" else {}))
        pixels = np.asarray(open_image(data))
        assert (pixels[:, 4:] == 255).all(), format
        assert (pixels[:, :4] == (10, 20, 30)).all(), format
    assert not decode(encoded(clear, "PNG")).plain
    gray = Image.merge("LA", (Image.new("L", (4, 4), 7), Image.new("L", (4, 4), 0)))
    assert (np.asarray(open_image(encoded(gray, "PNG"))) == 255).all()


def test_a_transparent_colour_without_alpha_channel_is_white_too() -> None:
    indexed = Image.new("P", (4, 4), 1)
    indexed.putpalette([9, 9, 9, 200, 0, 0])
    assert (np.asarray(open_image(encoded(indexed, "PNG"))) == (200, 0, 0)).all()
    see_through = encoded(indexed, "PNG", transparency=1)
    assert (np.asarray(open_image(see_through)) == 255).all()
    assert not decode(see_through).plain


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    for format in ("PNG", "TIFF"):
        pixels = np.asarray(open_image(encoded(Image.fromarray(values), format)))
        assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]
        assert (pixels[..., 0] == pixels[..., 2]).all()


def deep_png(colour: int, channels: int) -> bytes:
    """A PNG of 16 bits a sample, which Pillow does not write in colour."""
    rows = np.arange(6 * 8 * channels, dtype=np.uint16).reshape(6, -1) * 211
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    header = (8).to_bytes(4) + (6).to_bytes(4) + bytes([16, colour, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    made = [len(d).to_bytes(4) + kind + d + zlib.crc32(kind + d).to_bytes(4) for kind, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_not_plain_and_stored_as_eight(colour: int, channels: int) -> None:
    """Readers make 8 bits of 16 in ways of their own."""
    data = deep_png(colour, channels)
    picture = decode(data)
    assert (picture.width, picture.height, picture.plain) == (8, 6, False)
    stored = examine(data, None, IngestSpec(format="png")).stored
    assert stored is not None
    assert stored[24] == 8, "bits a sample, in the header"
    assert (decode(stored).pixels == picture.pixels).all()
    assert decode(stored).plain


def test_thirty_two_bits_mean_what_their_range_says_or_are_refused() -> None:
    def first_row(values: list[float], dtype: type) -> list[int]:
        return np.asarray(open_image(encoded(Image.fromarray(np.array([values], dtype)), "TIFF")))[0, :, 0].tolist()

    assert first_row([0, 0.5, 1], np.float32) == [0, 128, 255]
    assert first_row([0, 100.4, 255], np.float32) == [0, 100, 255]
    assert first_row([0, 257, 65535], np.int32) == [0, 1, 255]
    for bad in ([-1.0, 2.0], [0.0, float("nan")], [0.0, 1e6]):
        with pytest.raises(DecodeError, match="no 8-bit meaning"):
            first_row(bad, np.float32)


def test_cmyk_palette_and_bilevel_become_rgb() -> None:
    assert np.asarray(open_image(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG")))[0, 0, 0] > 200
    assert np.asarray(open_image(encoded(photo(mode="P"), "PNG"))).shape == (32, 48, 3)
    assert set(np.unique(np.asarray(open_image(encoded(photo(mode="1"), "PNG"))))) == {0, 255}


def test_size_is_checked_before_anything_is_decoded() -> None:
    header = b"\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0"  # 60000 x 60000, and no pixel data at all
    ihdr = len(header).to_bytes(4, "big") + b"IHDR" + header + zlib.crc32(b"IHDR" + header).to_bytes(4, "big")
    idat = b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")
    started = time.perf_counter()
    assert reason(b"\x89PNG\r\n\x1a\n" + ihdr + idat) == "bomb"
    assert time.perf_counter() - started < 0.5
    assert reason(GOOD["png"], max_pixels=48 * 32 - 1) == "bomb"
    assert decode(GOOD["png"], max_pixels=48 * 32).image.size == (48, 32)
    assert reason(GOOD["png"], min_side=33) == "too_small"
    assert decode(GOOD["png"], min_side=32).image.size == (48, 32)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no bytes"),
        (b"<!DOCTYPE html><html>gone</html>", "a web page"),
        (b'\n <svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'{"error": 404}', "XML or JSON"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        (b"%PDF-1.7", "a PDF"),
        (b"hello", "68 65 6c 6c 6f"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, what: str) -> None:
    with pytest.raises(DecodeError, match=what) as caught:
        decode(data)
    assert caught.value.outcome == "not_image"


@pytest.mark.parametrize("name", GOOD)
def test_a_cut_file_is_refused_by_name(name: str) -> None:
    data = encoded(photo(160, 120), name.upper())
    for share in (0.5, 0.7, 0.9):
        assert reason(data[: int(len(data) * share)]) in ("truncated", "decode_error")
    if name in ("jpeg", "png", "webp"):  # where "truncated" leads to another attempt
        assert reason(data[: len(data) * 3 // 4]) == "truncated"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_mutated_bytes_give_a_picture_or_a_named_reason(name: str, data: st.DataObject) -> None:
    raw = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for candidate in (bytes(raw), bytes(raw[:cut]), bytes(raw[cut:])):
        assert outcome(candidate, max_pixels=1_000_000) in REASONS | {"ok"}


def test_every_hostile_file_has_an_outcome(shared_data: Path) -> None:
    known = {}
    for line in (shared_data / "hostile/manifest.jsonl").read_text().splitlines():
        entry = json.loads(line)
        known[entry["file"]] = entry["pillow"]
    seen: dict[str, str] = {}
    with tarfile.open(shared_data / "hostile/hostile_images.tar") as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            started = time.perf_counter()
            seen[member.name] = outcome(file.read())
            assert time.perf_counter() - started < 20, member.name
    assert len(seen) == len(known) == 277
    listed = {"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"}
    for name, pillow in known.items():
        if pillow["outcome"] == "ok" and pillow["format"] in listed:
            assert seen[name] == "ok", name
        elif pillow["outcome"] == "decode_error":
            assert seen[name] in REASONS, name


def test_to_array_squashes_by_area_and_does_not_change_with_the_asker() -> None:
    full = to_array(GOOD["png"])
    assert full.shape == (32, 48, 3)
    assert full.dtype == np.uint8
    assert to_array(GOOD["png"], mode="L").shape == (32, 48)
    small = to_array(GOOD["png"], side=8)
    means = full.reshape(8, 4, 8, 6, 3).astype(np.float64).mean(axis=(1, 3))
    assert np.abs(small - means).max() <= 1
    assert to_array(GOOD["png"], side=8, mode="L").shape == (8, 8)
    with pytest.raises(ValueError, match="mode must be"):
        to_array(GOOD["png"], mode="CMYK")


@pytest.mark.parametrize(
    ("how", "size", "bigger_only", "expected"),
    [
        ("none", (400, 200), True, (400, 200)),
        ("short", (400, 200), True, (200, 100)),
        ("long", (400, 200), True, (100, 50)),
        ("border", (400, 200), True, (100, 100)),
        ("crop", (400, 200), True, (100, 100)),
        ("short", (80, 40), True, (80, 40)),
        ("long", (80, 40), True, (80, 40)),
        ("border", (80, 40), True, (100, 100)),
        ("crop", (80, 40), True, (80, 40)),
        ("crop", (150, 40), True, (100, 40)),
        ("short", (80, 40), False, (200, 100)),
        ("long", (80, 40), False, (100, 50)),
        ("crop", (80, 40), False, (100, 100)),
        ("long", (4000, 3), True, (100, 1)),
        ("long", (333, 222), True, (100, 67)),
    ],
)
def test_resize_modes(how: str, size: tuple[int, int], bigger_only: bool, expected: tuple[int, int]) -> None:
    image = np.asarray(photo(*size))
    done = resized(image, how, 100, bigger_only)  # type: ignore[arg-type]
    assert done.shape == (expected[1], expected[0], 3)
    if size == expected:
        assert done is image
    if how == "border":
        assert done[0, 50].tolist() == [255, 255, 255]


def test_enlarging_a_thread_is_refused() -> None:
    with pytest.raises(DecodeError, match="would be enlarged"):
        resized(np.asarray(photo(4000, 1)), "short", 512, only_if_bigger=False)


def test_encode_writes_the_formats_without_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    image = open_image(encoded(photo(), "JPEG", exif=exif, comment=b"secret place", icc_profile=b"secret place" * 9))
    for format in ("jpg", "png", "webp"):
        data = encode(image, format, 95)  # type: ignore[arg-type]
        assert b"secret" not in data
        assert np.abs(to_array(data).astype(int) - np.asarray(image)).mean() < 3
    with pytest.raises(DecodeError, match="at most 16383"):
        encode(photo(16_400, 1), "webp")
