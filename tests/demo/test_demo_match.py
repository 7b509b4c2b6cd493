"""The demo's own stage: what it reads in captions and pictures, and that it tells swapped captions from true ones."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.catalog import STAGES, load
from curate.demo.draw import draw, encoded
from curate.demo.match import SceneMatch, agreement, said
from curate.demo.scenes import english, scene
from curate.demo.tongues import translated
from stages.base import Batch


def stored(number: int) -> bytes:
    """The picture as the demo's pool holds it: long side 256, JPEG."""
    picture = draw(scene(number))
    picture.thumbnail((256, 256))
    return encoded(picture, "JPEG", 95)


def scores(texts: Sequence[str | None], images: list[bytes]) -> pa.Table:
    return SceneMatch().run(Batch.of(pa.table({"text": pa.array(texts, pa.string())}), images))


def test_captions_are_read() -> None:
    assert said("Two red circles to the left of an orange square") == {"red": 2, "orange": 1}
    assert said("four small pink rings inside a large blue hexagon") == {"pink": 4, "blue": 1}
    assert said("IMG_4894.jpg") == said("") == said(None) == {}
    for number in range(60):
        for phrase in range(24):
            assert said(english(scene(number), phrase)) == {g.colour: g.count for g in scene(number).groups}


def test_agreement_is_the_mean_over_all_colours() -> None:
    assert agreement({"red": 2}, {"red": 2}) == 1.0
    assert agreement({"red": 2}, {"red": 1}) == 0.7
    assert agreement({"red": 2, "blue": 1}, {"red": 2}) == 0.5
    assert agreement({"red": 2}, {"blue": 2}) == 0.0
    assert agreement({}, {"blue": 2}) == 0.0
    assert agreement({"red": 2}, {}) is None


def test_swapped_captions_that_differ_in_facts_score_below_true_ones() -> None:
    count, shift = 80, 7
    images, own = [stored(i) for i in range(count)], [english(scene(i), i) for i in range(count)]
    facts = [{(g.colour, g.count) for g in scene(i).groups} for i in range(count)]
    differ = [i for i in range(count) if facts[i] != facts[(i + shift) % count]]
    assert len(differ) > 70
    true = scores(own, images)["scene_match"].to_numpy()
    swapped = scores(own[shift:] + own[:shift], images)["scene_match"].to_numpy()[differ]
    auroc = np.mean(true[:, None] > swapped[None, :]) + 0.5 * np.mean(true[:, None] == swapped[None, :])
    assert auroc > 0.97
    assert np.mean(true == 1.0) > 0.95
    assert true.min() >= 0.5  # the recipe's threshold


def test_what_cannot_be_judged_is_null_and_says_why() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(buffer, "PNG")
    table = scores(["Untitled", translated(scene(0), "zh"), None, "a red star", "a red star"],
                   [stored(0), stored(0), stored(0), b"no picture", buffer.getvalue()])  # fmt: skip
    assert table["scene_match"].to_pylist() == [None, None, None, None, 0.0]
    errors = table["error"].to_pylist()
    assert errors[:3] == [None, None, None]
    assert "not_image" in errors[3] or "image" in errors[3]
    assert errors[4] is None


def test_a_recipe_names_it_by_import_path() -> None:
    assert load("curate.demo.match:SceneMatch", STAGES) is SceneMatch
    assert SceneMatch().identity()["name"] == "curate.demo.match:SceneMatch"
    with pytest.raises(KeyError, match="not asked for"):
        SceneMatch().run(Batch.of(pa.table({"url": ["u"]}), [stored(0)]))
