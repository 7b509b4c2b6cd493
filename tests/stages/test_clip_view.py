"""Flipped and masked pictures: what is seen, when nothing is computed again, and when there is no score."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageOps

from curate.run.prints import Prints
from stages.base import IMAGE, Batch, Column, Stage
from stages.clip_model import Clip
from stages.clip_view import ClipView, ClipViewScore
from stages.text_boxes import SCHEMA
from stages.text_mask import painted
from tests.stages.clip_parts import MODEL, Weights, make_weights, matrix, picture

HALF = [0.0, 0.0, 0.5, 0.0, 0.5, 1.0, 0.0, 1.0]
TEXTS = ["a red bicycle", "a dog", None, "a cat", "a tree"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("clip"))


def view(weights: Weights, kind: str, **more: Any) -> ClipView:
    return ClipView(**{"model": MODEL, "weights": weights.open_clip, "batch": 4, "view": kind, **more})


def pictures(broken: int | None = 3) -> list[bytes]:
    return [b"no picture" if i == broken else picture(i, 40 + 9 * i) for i in range(len(TEXTS))]


def computed(stage: Stage, images: list[bytes], given: dict[str, pa.Array] | None = None) -> tuple[pa.Table, Batch]:
    """The stage's table, after all that it reads was computed; `given`: columns to stand in, by field."""
    rows = Batch.of(pa.table({"text": pa.array(TEXTS, pa.string())}), images)

    def visit(column: Column) -> None:
        owner = column.owner
        assert owner is None or isinstance(owner, Stage)
        if owner is None or column in rows._columns:
            return
        if given and column.field in given:
            rows.add({column: given[column.field]})
            return
        for read in owner.reads():
            visit(read)
        table = owner.run(rows)
        rows.add({Column(owner, n): table.column(n).combine_chunks() for n in table.column_names})

    for read in stage.reads():
        visit(read)
    return stage.run(rows), rows


def found(boxes: list[list[list[float]] | None], cover: list[float | None]) -> dict[str, pa.Array]:
    return {
        "text_boxes": pa.array(boxes, SCHEMA.field("text_boxes").type),
        "text_cover": pa.array(cover, pa.float32()),
    }


def test_flipped_is_the_vector_of_the_mirrored_picture(weights: Weights) -> None:
    stage = view(weights, "flipped")
    table, _ = computed(stage, pictures())
    mirrored = []
    for data in pictures(None):
        out = io.BytesIO()
        ImageOps.mirror(Image.open(io.BytesIO(data))).save(out, "PNG")
        mirrored.append(out.getvalue())
    expected, _ = computed(stage.embedding(), mirrored)
    assert table.schema == stage.writes()
    assert table.column_names == ["clip_flipped_image", "error"]
    ours, theirs = matrix(table, "clip_flipped_image"), matrix(expected, "clip_image")
    assert np.isnan(ours[3]).all()
    np.testing.assert_allclose(np.delete(ours, 3, 0), np.delete(theirs, 3, 0), atol=1e-3)
    plain, _ = computed(stage.embedding(), pictures())
    assert np.nanmax(np.abs(ours - matrix(plain, "clip_image"))) > 0.01
    assert table.column("error").to_pylist()[3].startswith("not_image: ")
    assert stage.reads() == (IMAGE,)


def test_masked_is_the_vector_of_the_painted_picture(weights: Weights) -> None:
    stage = view(weights, "masked")
    table, _ = computed(stage, pictures(), found([[HALF], [HALF], [], None, [HALF]], [0.5, 0.5, 0, None, 0.5]))
    over = []
    for data in pictures(None):
        out = io.BytesIO()
        Image.fromarray(painted(np.asarray(Image.open(io.BytesIO(data))), [HALF])).save(out, "PNG")
        over.append(out.getvalue())
    expected, _ = computed(stage.embedding(), over)
    ours, theirs = matrix(table, "clip_masked_image"), matrix(expected, "clip_image")
    np.testing.assert_allclose(ours[[0, 1, 4]], theirs[[0, 1, 4]], atol=1e-3)
    assert table.column("clip_masked_image").to_pylist()[3] is None


def test_without_text_nothing_is_computed_and_every_bit_is_the_same(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 10.15: the masked score is the score."""
    stage = view(weights, "masked")
    plain, _ = computed(stage.embedding(), pictures())
    none = found([[], [], [], None, []], [0, 0, 0, None, 0])
    vectors = {**none, "clip_image": plain.column("clip_image").combine_chunks()}
    monkeypatch.setattr(Clip, "_there", lambda self, rows: pytest.fail("a forward pass"))
    table, _ = computed(stage, pictures(), vectors)
    assert table.column("clip_masked_image").combine_chunks().equals(plain.column("clip_image").combine_chunks())
    monkeypatch.undo()
    score = ClipViewScore(model=MODEL, weights=weights.open_clip, batch=4, view="masked")
    from stages.clip import ClipScore

    plain_score, _ = computed(ClipScore(model=MODEL, weights=weights.open_clip, batch=4), pictures())
    masked_score, _ = computed(score, pictures(), none)
    assert masked_score.column("clip_masked_score").equals(plain_score.column("clip_score"))
    assert masked_score.column(0).null_count == 2  # no picture, no text


def test_covered_by_text_is_dropped_and_says_so(weights: Weights) -> None:
    """Section 10.15: fully painted, forced out."""
    whole = [0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    stage = view(weights, "masked")
    table, _ = computed(stage, pictures(), found([[whole], [HALF], [], None, [whole]], [1.0, 0.9, 0, None, 0.9001]))
    there = [v is not None for v in table.column("clip_masked_image").to_pylist()]
    assert there == [False, True, True, False, False]
    errors = table.column("error").to_pylist()
    assert errors[0] == "masked: text covers 100% of the picture"
    assert errors[4] == "masked: text covers 90% of the picture"
    assert errors[1] is errors[2] is None


def test_the_detector_enters_by_what_is_read(weights: Weights) -> None:
    def hashed(**parameters: Any) -> tuple[str, str]:
        said = {"weights": weights.ours, "view": "masked", **parameters}
        return Prints().base(ClipView(**said)), Prints().base(ClipViewScore(**said))

    plain = hashed()
    assert hashed(device="cuda", compiled=False, cpus=2) == plain
    own = hashed(detector="tests.stages.text_parts:Corner")
    for other in (own, hashed(view="flipped"), hashed(batch=8), hashed(name="b")):
        assert other[0] != plain[0]
        assert other[1] != plain[1]
    assert "detector" not in ClipView(weights=weights.ours, view="masked").identity()["parameters"]


def test_parameters_that_make_no_sense(weights: Weights) -> None:
    with pytest.raises(ValueError, match="a flipped picture needs no detector"):
        ClipView(weights=weights.ours, view="flipped", detector="strokes")
    with pytest.raises(ValueError, match="detector 'stroke' is not known; did you mean 'strokes'"):
        ClipViewScore(weights=weights.ours, view="masked", detector="stroke")
    with pytest.raises(ValueError, match="view"):
        ClipViewScore(weights=weights.ours, view="turned")


def test_scores_of_both_views(weights: Weights) -> None:
    for kind in ("flipped", "masked"):
        stage = ClipViewScore(weights=weights.ours, view=kind, name="dfn", batch=4)
        assert stage.writes() == pa.schema([(f"dfn_{kind}_score", pa.float32())])
        assert [c.field for c in stage.reads()] == [f"dfn_{kind}_image", "dfn_text"]
        table, rows = computed(stage, pictures())
        image, text = (np.array(rows[c].to_pylist()[0], np.float64) for c in stage.reads())
        expected = image @ text / np.linalg.norm(image) / np.linalg.norm(text)
        assert table.column(0).to_pylist()[0] == pytest.approx(expected, abs=6e-5)
