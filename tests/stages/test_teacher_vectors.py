"""Teachers' vectors: those that the model itself gives of augmented pictures and of captions, in the pool's shapes."""

from __future__ import annotations

from itertools import count as counting
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.augment import augmented
from stages.augmentations import AUGMENTATIONS, Augmentations
from stages.base import Batch, Column, Stage, fact
from stages.clip_model import Clip
from stages.decode import to_array
from stages.teacher_vectors import BAD, TeacherImages, TeacherTexts
from stages.texts import TEXTS
from tests.stages.clip_parts import DIM, MODEL, Weights, make_weights, picture

DRAWN = Augmentations(count=3)
COLUMN = Column(DRAWN, "augmentations")


class Several(Stage):
    """Stands for a captioner with several texts a sample."""

    def writes(self) -> pa.Schema:
        return pa.schema([("coca", TEXTS)])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("clip"))


def images_stage(weights: Weights) -> TeacherImages:
    return TeacherImages(model=MODEL, weights=weights.open_clip, batch=4, name="openai", augmentations=COLUMN)


def pool(broken: int | None = 2, count: int = 4) -> Batch:
    sizes = {"width": pa.array([40] * count, pa.int32()), "height": pa.array([30] * count, pa.int32())}
    uid = pa.array([i.to_bytes(16, "big") for i in range(count)], pa.binary(16))
    batch = Batch.of(
        pa.table({"uid": uid, **sizes}), [b"no picture" if i == broken else picture(i) for i in range(count)]
    )
    batch.add({COLUMN: DRAWN.run(batch).column(0).combine_chunks()})
    return batch


def test_vectors_are_those_of_the_augmented_pictures(weights: Weights) -> None:
    stage, batch = images_stage(weights), pool()
    table = stage.run(batch)
    assert table.schema == stage.writes()
    found = table.column("openai_augmented").to_pylist()
    assert found[2] is None
    assert table.column("error").to_pylist()[2].startswith("not_image: ")
    for row in (0, 1, 3):
        squares = [augmented(to_array(picture(row)), a, 32) for a in batch[COLUMN][row].as_py()]
        wanted = stage.clip().image_vectors(np.stack(squares), 4)
        np.testing.assert_allclose(np.array(found[row], np.float32), wanted, atol=1e-3)
        assert np.abs(np.diff(wanted, axis=0)).max() > 0.01  # augmentations are seen
    assert np.allclose(np.linalg.norm(np.array(found[0], np.float32), axis=1), 1, atol=2e-3)


def test_no_more_squares_are_held_than_two_passes_have(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """256 rows with 30 augmentations each would be a gigabyte, of each of the batches that are prepared ahead."""
    passes: list[int] = []
    made = counting(1)
    ahead: list[int] = []

    def counted(rgb: np.ndarray, augmentation: Any, size: int) -> np.ndarray:
        ahead.append(next(made) - sum(passes))
        return augmented(rgb, augmentation, size)

    right = Clip.image_vectors

    def seen(clip: Clip, squares: np.ndarray, batch: int) -> np.ndarray:
        found = right(clip, squares, batch)
        passes.append(len(squares))
        return found

    monkeypatch.setattr("stages.teacher_vectors.augmented", counted)
    monkeypatch.setattr(Clip, "image_vectors", seen)
    stage, batch = images_stage(weights), pool(broken=None, count=20)
    stage.open()
    stage.prepare(batch)
    assert not ahead  # what waits for its turn has no squares
    stage.run(batch)
    assert passes == [4] * 15
    assert 0 < max(ahead) <= 2 * 4


def test_company_does_not_change_a_vector(weights: Weights) -> None:
    stage = images_stage(weights)
    assert stage.run(pool(count=1)).column(0).to_pylist()[0] == stage.run(pool(broken=None)).column(0).to_pylist()[0]


def test_rows_without_augmentations_have_none(weights: Weights) -> None:
    batch = pool()
    batch.add({COLUMN: pa.nulls(4, AUGMENTATIONS)})
    assert images_stage(weights).run(batch).column(0).null_count == 4


def test_a_text_has_a_vector_and_a_list_of_texts_a_list(weights: Weights) -> None:
    plain = TeacherTexts(model=MODEL, weights=weights.open_clip, batch=4, name="openai")
    several = TeacherTexts(
        model=MODEL, weights=weights.open_clip, batch=4, name="openai", text=Column(Several(), "coca")
    )
    said = ["a red bicycle", "a dog", "a cat"]
    first = plain.run(Batch.of(pa.table({"text": pa.array([*said, None], pa.string())})))
    assert first.schema == plain.writes()
    assert first.column("openai_text").type == pa.list_(pa.float16(), DIM)
    alone = first.column("openai_text").to_pylist()
    assert alone[3] is None
    lists = [[{"source": "coca", "text": t} for t in said[:2]], None, [], [{"source": "coca", "text": said[2]}]]
    lists[3].append({"source": "coca", "text": None})  # type: ignore[union-attr, dict-item]
    batch = Batch({Column(Several(), "coca"): pa.array(lists, TEXTS)}, 4)
    second = several.run(batch)
    assert second.schema == several.writes()
    found = second.column("openai_coca").to_pylist()
    assert found == [alone[:2], None, [], [alone[2], None]]
    assert second.column("error").null_count == 4
    wanted = plain.clip().text_vectors(plain.clip().tokens(said), 4)
    np.testing.assert_allclose(np.array(alone[:3], np.float32), wanted, atol=1e-3)


def test_a_vector_that_is_not_finite_is_null_and_said(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    right, done = Clip.image_vectors, counting()

    def spoiled(clip: Clip, squares: np.ndarray, batch: int) -> np.ndarray:
        found = right(clip, squares, batch).copy()
        if next(done) == 1:
            found[0] = np.nan  # the fifth of all: the second row's second
        return found

    monkeypatch.setattr(Clip, "image_vectors", spoiled)
    table = images_stage(weights).run(pool())
    assert [v is None for v in table.column(0).to_pylist()[1]] == [False, True, False]
    assert table.column("error").to_pylist()[1] == BAD
    assert table.column("error").to_pylist()[0] is None


def test_both_are_asked_about_survivors_only_and_name_what_they_read(weights: Weights) -> None:
    images = images_stage(weights)
    texts = TeacherTexts(weights=weights.ours, text=fact("altogether"))
    assert images.sparse
    assert DRAWN.sparse
    assert texts.sparse
    assert COLUMN in images.reads()
    assert texts.reads() == (fact("altogether"),)
    assert texts.writes().names == ["clip_altogether", "error"]
