"""Sets as Hugging Face's cache holds them: Arrow streams and parquet, of the right split and columns."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training_smoke.evaluate.evalsets import picture, write_arrow
from training_smoke.errors import TrainingError
from training_smoke.evaluate.tables import AssociationTable, CaptionTable

ROWS = [{"image": {"bytes": picture((i, i, i)), "path": None}, "caption": [f"{i}", f"also {i}"]} for i in range(5)]


def test_captions_from_an_arrow_cache(tmp_path: Path) -> None:
    write_arrow(tmp_path / "TEST" / "1.1.0" / "abc" / "flickr-test.arrow", ROWS)
    write_arrow(tmp_path / "TEST" / "1.1.0" / "abc" / "flickr-train.arrow", ROWS[:1])
    write_arrow(tmp_path / "TEST" / "1.1.0" / "abc" / "cache-1234abcd.arrow", ROWS)
    found = list(CaptionTable(str(tmp_path)).samples())
    assert [s.answer for s in found] == [(f"{i}", f"also {i}") for i in range(5)]
    assert found[3].image == ROWS[3]["image"]["bytes"]
    assert found[3].name == f"{tmp_path}:3"


def test_captions_from_parquet_in_parts(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for part in range(2):
        table = pa.Table.from_pylist([{**row, "split": "test"} for row in ROWS[part * 3 : part * 3 + 3]])
        pq.write_table(table, tmp_path / "data" / f"test-{part:05d}-of-00002.parquet")
    assert [s.answer[0] for s in CaptionTable(str(tmp_path)).samples()] == [*"01234"]  # type: ignore[index]


def test_a_picture_kept_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(picture((7, 7, 7)))
    row = {"image": {"bytes": None, "path": str(tmp_path / "one.png")}, "caption": ["x"]}
    write_arrow(tmp_path / "hub" / "a-test.arrow", [row])
    (sample,) = CaptionTable(str(tmp_path / "hub")).samples()
    assert sample.image == picture((7, 7, 7))


def test_associations(tmp_path: Path) -> None:
    row = {
        "cue": "fire",
        "candidates": ["stove", "lake", "match"],
        "candidate_images": [{"bytes": picture((i, 0, 0)), "path": None} for i in range(3)],
        "associations": ["match", "stove"],
    }
    write_arrow(tmp_path / "winogavil-test.arrow", [row])
    (found,) = AssociationTable(str(tmp_path)).instances()
    assert (found.cue, found.associated.tolist()) == ("fire", [True, False, True])
    assert found.images == tuple(picture((i, 0, 0)) for i in range(3))


def test_what_is_not_such_a_table(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no .arrow or .parquet files of the test split"):
        list(CaptionTable(str(tmp_path)).samples())
    write_arrow(tmp_path / "a-test.arrow", [{"image": ROWS[0]["image"]}])
    with pytest.raises(TrainingError, match=r"a-test.arrow has no column caption; it has \['image'\]"):
        list(CaptionTable(str(tmp_path)).samples())
    (tmp_path / "a-test.arrow").write_bytes(b"ARROW but not really, and long enough to be read as a length")
    with pytest.raises(TrainingError, match=r"a-test.arrow is broken"):
        list(CaptionTable(str(tmp_path)).samples())
