"""The stage: kinds, columns, versions; difference hashes as imagehash has them; keys of turned pictures."""

from __future__ import annotations

import io
from collections.abc import Callable

import imagehash
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from pydantic import ValidationError

from stages.base import Batch
from stages.fingerprint import luma_of, of_pixels, phash64_from_gray, phash256_from_gray
from stages.fingerprints import Fingerprints, column_of
from stages.fingerprints_dhash import dhash64_from_gray, dhash64_of_luma, dhash256_from_gray, dhash256_of_luma
from stages.fingerprints_dihedral import keys64, keys256, orientations64, orientations256
from stages.fingerprints_pdq import of_pixels as pdq_of
from stages.lanczos import thumbnails
from stages.phash import PHash

KINDS = (
    *("phash64", "phash64_flip", "phash64_dihedral", "phash256", "phash256_flip", "phash256_dihedral"),
    *("dhash64", "dhash256", "pdq", "colours"),
)
TURNS: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda p: p,
    lambda p: p[:, ::-1],
    lambda p: p[::-1],
    lambda p: p[::-1, ::-1],
    lambda p: p.swapaxes(0, 1),
    lambda p: p.swapaxes(0, 1)[::-1],
    lambda p: p.swapaxes(0, 1)[:, ::-1],
    lambda p: p.swapaxes(0, 1)[::-1, ::-1],
]
"""The group of the square, as it acts on pixels; the first four in the order of `orientations64`."""


def scene(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Smooth random colours, uint8 (height, width, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def batch(*images: bytes) -> Batch:
    return Batch.of(pa.table({"uid": [bytes([i]) for i in range(len(images))]}), list(images))


def bits_apart(a: bytes, b: bytes) -> int:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


# ---------------------------------------------------------------- the stage


def test_every_kind_is_a_column_and_agrees_with_its_function() -> None:
    stage, pixels = Fingerprints(kinds=KINDS), scene(1)
    table = stage.run(batch(png(pixels)))
    assert table.schema == stage.writes()
    row = table.to_pylist()[0]
    wanted, pdq = of_pixels(pixels), pdq_of(pixels)
    assert pdq is not None
    assert (row["phash64_stored"], row["phash256_stored"]) == (wanted.phash64, wanted.phash256)
    assert (row["phash_quality_stored"], row["pdq"], row["pdq_quality"]) == (wanted.quality, pdq.hash, pdq.quality)
    luma = luma_of(pixels)
    assert (row["dhash64"], row["dhash256"]) == (dhash64_of_luma(luma), dhash256_of_luma(luma))
    assert len(row["colours"]) == 108
    assert row["error"] is None
    assert table.select(PHash().writes().names).equals(PHash().run(batch(png(pixels))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_alone_is_as_among_others(kind: str) -> None:
    images = [png(scene(2)), b"<html>", png(scene(3, 33, 20))]
    together = Fingerprints(kinds=KINDS).run(batch(*images))
    alone = Fingerprints.model_validate({"kinds": [kind]}).run(batch(*images))
    assert alone.num_columns < together.num_columns
    assert alone.equals(together.select(alone.column_names))
    assert alone.column(column_of(kind)).to_pylist()[1] is None
    assert alone.column("error").to_pylist() == [None, "not_image: a web page", None]


def test_a_batch_is_its_rows() -> None:
    stage, images = Fingerprints(kinds=KINDS), [png(scene(n)) for n in range(5)]
    whole = stage.run(batch(*images))
    assert whole.equals(pa.concat_tables([stage.run(batch(i)) for i in images]))


def test_a_picture_too_small_for_pdq_has_none_and_no_zeros() -> None:
    row = Fingerprints(kinds=("pdq", "colours")).run(batch(png(scene(4)[:4]))).to_pylist()[0]
    assert (row["pdq"], row["pdq_quality"], row["error"]) == (None, 0, None)
    assert row["colours"] is not None


@pytest.mark.parametrize(("kinds", "said"), [((), "at least 1"), (("pdq", "pdq"), "each kind once"), (("md5",), "md5")])
def test_wrong_kinds_are_refused(kinds: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Fingerprints.model_validate({"kinds": kinds})


def test_versions_of_what_decides_are_in_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Fingerprints(kinds=("pdq", "phash256_flip")).identity()
    assert before["algorithms"] == {"pdq": 1, "phash": 1}
    assert set(before["decoders"]) == {"pillow", "simplejpeg"}
    plain = PHash().identity()
    assert plain["decoders"] == before["decoders"]
    monkeypatch.setattr("stages.fingerprint.version", lambda _: "99.0")
    assert Fingerprints(kinds=("pdq", "phash256_flip")).identity() != before
    assert PHash().identity() != plain


# ---------------------------------------------------------------- difference hashes


@pytest.mark.parametrize("seed", range(8))
def test_dhash_is_that_of_imagehash(seed: int) -> None:
    image = Image.fromarray(scene(seed, 90 + 17 * seed, 200 - 11 * seed)).filter(ImageFilter.UnsharpMask(3))
    luma = np.asarray(image.convert("L"))
    assert f"{dhash64_of_luma(luma):016x}" == str(imagehash.dhash(image))
    assert dhash256_of_luma(luma).hex() == str(imagehash.dhash(image, hash_size=16))


def test_dhash_of_shades() -> None:
    rising = np.tile(np.arange(9, dtype=np.uint8), (1, 8, 1))
    assert dhash64_from_gray(rising).tolist() == [2**64 - 1]
    assert dhash64_from_gray(rising[:, :, ::-1]).tolist() == [0]
    assert dhash256_from_gray(np.full((1, 16, 17), 200, np.uint8)).tobytes() == bytes(32)
    with pytest.raises(ValueError, match=r"\(n, 8, 9\)"):
        dhash64_from_gray(np.zeros((1, 9, 8), np.uint8))


# ---------------------------------------------------------------- turned pictures


@given(st.integers(0, 2**32 - 1))
def test_hashes_of_orientations_are_those_of_turned_thumbnails(seed: int) -> None:
    small, large = thumbnails(luma_of(scene(seed)))
    of64, of256 = orientations64(small[None])[:, 0], orientations256(large[None])[:, 0]
    for at, turn in enumerate(TURNS[:4]):
        for offset, transpose in ((0, lambda p: p), (4, lambda p: p.T)):
            assert phash64_from_gray(np.ascontiguousarray(transpose(turn(small)))[None])[0] == of64[at + offset]
            turned = np.ascontiguousarray(transpose(turn(large)))[None]
            assert phash256_from_gray(turned)[0].tobytes() == of256[at + offset].tobytes()


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_turned_thumbnails_have_one_key(seed: int, symmetric: bool) -> None:
    small, large = thumbnails(luma_of(scene(seed)))
    if symmetric:  # then two orientations are one picture, and which is taken must not matter
        small, large = (np.minimum(t, t[:, ::-1]) for t in (small, large))
    eight = [np.stack([turn(t) for turn in TURNS]) for t in (small, large)]
    assert len(set(keys64(eight[0], "dihedral").tolist())) == 1
    assert len({k.tobytes() for k in keys256(eight[1], "dihedral")}) == 1
    assert keys64(eight[0][:2], "flip").tolist() == [keys64(small[None], "flip")[0]] * 2
    assert keys64(small[None], "dihedral")[0] in orientations64(small[None])
    assert keys256(large[None], "flip")[0].tobytes() in {o.tobytes() for o in orientations256(large[None])[:2, 0]}


def test_no_picture_has_no_key() -> None:
    assert keys64(np.zeros((0, 32, 32), np.uint8), "flip").shape == (0,)
    assert keys256(np.zeros((0, 64, 64), np.uint8), "dihedral").shape == (0, 32)


def test_keys_of_turned_pictures_are_near() -> None:
    stage = Fingerprints(kinds=("phash256_dihedral", "phash256_flip", "phash256"))
    for seed in range(6):
        pixels = scene(seed, 240, 200)
        rows = stage.run(batch(*(png(np.ascontiguousarray(turn(pixels))) for turn in TURNS))).to_pylist()
        assert max(bits_apart(r["phash256_dihedral"], rows[0]["phash256_dihedral"]) for r in rows) <= 8
        assert bits_apart(rows[1]["phash256_flip"], rows[0]["phash256_flip"]) <= 8
        assert bits_apart(rows[1]["phash256_stored"], rows[0]["phash256_stored"]) > 60
        assert keys64(thumbnails(luma_of(pixels))[0][None], "flip").dtype == np.uint64
