"""The demo's scenes: pure functions, true captions in every language, pictures that hashes tell apart."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curate.demo.backgrounds import PAINTERS, background
from curate.demo.draw import draw, drawn_photos, encoded, outline
from curate.demo.scenes import COUNTS, PALETTE, PLACES, SHAPES, Group, Scene, english, scene
from curate.demo.tongues import LANGUAGES, translated
from stages.base import Batch
from stages.fingerprint import of_image


@given(number=st.integers(0, 10**9), seed=st.integers(0, 1000), phrase=st.integers(0, 100))
def test_a_scene_is_a_pure_function_and_its_caption_names_every_group(number: int, seed: int, phrase: int) -> None:
    of = scene(number, seed)
    assert of == scene(number, seed)
    assert len({g.colour for g in of.groups}) == len(of.groups)
    caption = english(of, phrase)
    assert caption == english(of, phrase)
    for g in of.groups:
        assert f"{g.colour} {g.shape}{'' if g.count == 1 else 'es' if g.shape == 'cross' else 's'}" in caption
        assert g.count == 1 or f"{COUNTS[g.count - 1]} " in caption


def test_seeds_and_numbers_decide_the_scene() -> None:
    assert scene(7) != scene(8)
    assert scene(7, seed=1) != scene(7, seed=2)


def test_captions_say_how_groups_lie() -> None:
    one, two = Group(2, "red", "cross"), Group(1, "orange", "square", "large")
    said = {r: english(Scene((one, two), r, "wood", 0), 0) for r in ("row", "column", "inside")}
    assert said == {
        "row": "two red crosses to the left of a large orange square on a wooden table",
        "column": "two red crosses above a large orange square on a wooden table",
        "inside": "two red crosses inside a large orange square on a wooden table",
    }
    three = Scene((one, Group(1, "orange", "ring"), Group(1, "blue", "star", "small")), "column", "sea", 0)
    assert english(three, 3) == (
        "This drawing shows two red crosses, an orange ring and a small blue star from top to bottom"
    )


def test_no_place_names_a_colour() -> None:
    assert PLACES.keys() == PAINTERS.keys()
    assert not [p for p in PLACES.values() for colour in PALETTE if colour in p.split()]


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_name_every_group_and_differ(language: str) -> None:
    texts = [translated(scene(i), language, i) for i in range(200)]
    assert all(str(g.count) in t for i, t in enumerate(texts) for g in scene(i).groups)
    assert len(set(texts)) > 190


def test_the_language_model_agrees() -> None:
    language = pytest.importorskip("stages.language").Language()
    language.open()

    def share(texts: list[str], wanted: str) -> float:
        import pyarrow as pa

        found = language.run(Batch.of(pa.table({"text": texts})))["lang"].to_pylist()
        return found.count(wanted) / len(found)

    assert share([english(scene(i), i) for i in range(2000)], "en") > 0.998
    for other in LANGUAGES:
        assert share([translated(scene(i), other, i) for i in range(200)], "en") == 0
        assert share([translated(scene(i), other, i) for i in range(200)], other) > 0.95


def test_pictures_are_the_same_again_and_have_many_tones() -> None:
    for number in range(30):
        picture = draw(scene(number))
        assert picture.tobytes() == draw(scene(number)).tobytes()
        assert picture.mode == "RGB"
        assert picture.convert("L").entropy() > 4.5


def test_hashes_tell_pictures_apart_and_see_enough_in_each() -> None:
    prints = [of_image(draw(scene(i))) for i in range(400)]
    hashes = np.array([p.phash64 for p in prints], np.uint64)
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    assert distance[np.triu_indices(len(hashes), 1)].min() > 4  # the recipe's distance
    assert min(p.quality for p in prints) >= 50  # below that, hashes are never paired


@pytest.mark.parametrize("place", PAINTERS)
def test_no_background_is_taken_for_a_shape(place: str) -> None:
    from curate.demo.match import seen

    for seed in range(5):
        small = background(place, 384, 288, seed).resize((96, 96), Image.Resampling.BOX)
        assert seen(np.asarray(small)) == {}


def test_outlines_stay_in_their_circle_and_are_large() -> None:
    for shape in SHAPES:
        x, y = np.array(outline(shape)).T
        assert np.hypot(x, y).max() <= 1.02, shape
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        assert area > 1.1, shape
    with pytest.raises(ValueError, match="no shape is called 'blob'"):
        outline("blob")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_formats_are_what_they_say(format: str) -> None:
    data = encoded(draw(scene(3)), format)
    assert Image.open(io.BytesIO(data)).format == format


def test_drawn_photos_come_with_their_captions() -> None:
    images, texts = drawn_photos(3)
    assert images == [encoded(draw(scene(i))) for i in range(3)]
    assert texts == [english(scene(i), i) for i in range(3)]
