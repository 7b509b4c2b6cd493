"""The stage over entries: which list a text goes to, and what makes two stages one."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.base import TEXT, Batch, fact
from stages.metaclip_lists import numbers
from stages.metaclip_match import MetaclipMatch


def matched(stage: MetaclipMatch, **columns: list[Any]) -> list[Any]:
    table = stage.run(Batch.of(pa.table({n: pa.array(c, pa.string()) for n, c in columns.items()})))
    assert table.schema == stage.writes()
    return list(table.column("match_ids").to_pylist())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "en.json").write_text(json.dumps(["dog", "cat"]))
    (tmp_path / "zh.json").write_text(json.dumps(["狗", "猫"]))
    return tmp_path


def test_one_list_for_all(folder: Path) -> None:
    stage = MetaclipMatch(metadata=str(folder / "en.json"))
    assert stage.reads() == (TEXT,)
    assert matched(stage, text=["a cat, a dog", None, "", "狗"]) == [[0, 1], None, [], []]
    assert matched(pickle.loads(pickle.dumps(stage)), text=["cat"]) == [[1]]
    assert matched(stage, text=[]) == []


def test_each_language_its_list_and_the_rest_goes_to_other(folder: Path) -> None:
    stage = MetaclipMatch(metadata=str(folder), language="tongue")
    assert stage.reads() == (TEXT, fact("tongue"))
    rows: dict[str, list[Any]] = {
        "text": ["一只猫", "a cat", "un chien", "dog", None, "猫和狗", None],
        "tongue": ["zh", "en", "fr", None, "en", "zh", None],
    }
    assert matched(stage, **rows) == [[1], [1], [], [], None, [0, 1], None]
    (folder / "other.json").write_text(json.dumps(["chien", "dog"]))
    stage = MetaclipMatch(metadata=str(folder), language="tongue")
    assert matched(stage, **rows) == [[1], [1], [0], [1], None, [0, 1], None]


def test_numbers_of_lists() -> None:
    tongues = pa.chunked_array([["en", None], ["xx", "other", "de"]])
    assert numbers(["de", "en", "other"], tongues, 5).tolist() == [1, 2, 2, 2, 0]
    assert numbers(["de", "en"], tongues, 5).tolist() == [1, -1, -1, -1, 0]
    assert numbers([""], None, 3).tolist() == [0, 0, 0]
    assert numbers(["de"], pa.array([], pa.string()), 0).dtype == np.int64


def test_identity_names_lists_by_label_and_file(folder: Path) -> None:
    one, all_ = MetaclipMatch(metadata=str(folder / "en.json")), MetaclipMatch(metadata=str(folder), language="tongue")
    assert one.identity()["parameters"]["metadata"] == {"": str(folder / "en.json")}
    assert list(all_.identity()["parameters"]["metadata"]) == ["en", "zh"]
    assert all_.files() == (str(folder / "en.json"), str(folder / "zh.json"))
    assert all_.need().memory_gb >= 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metadata": "gone.json"}, r"no list of entries at /.*gone\.json; make one with `curate metadata build`"),
        ({"metadata": "."}, "is a folder; name one of its lists, or give `language:`"),
        ({"metadata": "gone", "language": "lang"}, "with `language:` it is a folder of <label>"),
    ],
)
def test_what_is_missing_is_said_in_files(given: dict[str, str], said: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said):
        MetaclipMatch(**given).files()


def test_a_bad_list_is_known_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('["dog", "dog"]')
    with pytest.raises(ValueError, match=r"m\.json: entries 0 and 1 are both 'dog'"):
        MetaclipMatch(metadata=str(tmp_path / "m.json")).open()
