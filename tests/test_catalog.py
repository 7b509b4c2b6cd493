"""Names and import paths: what is found, and what is said where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.catalog import FILTERS, STAGES, default_fields, load, nearest
from filters.base import Filter
from filters.image_size import ImageSize
from stages.base import Barrier, Stage


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_of_the_table_is_one(name: str) -> None:
    kind = load(name, FILTERS)
    assert issubclass(kind, Filter)
    assert kind.method() == name
    assert kind.__doc__


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_of_the_table_is_one(name: str) -> None:
    kind = load(name, STAGES)
    assert issubclass(kind, Stage | Barrier)
    assert FILTERS.get(name) != STAGES[name]


def test_a_name_and_its_import_path_are_the_same_class() -> None:
    assert load("image_size", FILTERS) is load("filters.image_size:ImageSize", FILTERS) is ImageSize


def test_ones_own_by_import_path() -> None:
    assert load("recipe_parts:Bright", FILTERS).__name__ == "Bright"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagesize", r"'imagesize' is not known; did you mean 'image_size'\? \(built in: where, image_size, "),
        ("xqzw", r"'xqzw' is not known \(built in: .*; your own as package.module:Class\)"),
        ("nowhere_at_all:X", r"cannot import nowhere_at_all \(No module named 'nowhere_at_all'\); is it on PYTHONPATH"),
        ("filters.image_sise:ImageSize", r"cannot import filters.image_sise .*did you mean 'filters.image_size'\?"),
        ("filters.image_size:ImageSiz", r"filters.image_size has no 'ImageSiz'; did you mean 'ImageSize'\?"),
        ("json:loads", r"json:loads: is not a stage, barrier or filter"),
        ("pathlib:Path", r"pathlib:Path: is not a stage, barrier or filter"),
        (":", "':' is not known"),
        ("..filters:X", "'..filters:X' is not known"),
    ],
)
def test_what_is_not_there_is_said_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(name, FILTERS)


def test_a_module_that_is_not_python_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot import broken_module \(.*line 1"):
        load("broken_module:X", FILTERS)


def test_an_error_inside_a_module_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ZeroDivisionError):
        load("failing_module:X", FILTERS)


def test_plain_names_of_built_in_stages() -> None:
    fields = default_fields()
    expected = {"mean": "image_facts", "n_words": "text_facts", "lang": "language", "phash64_stored": "phash"}
    assert {n: fields[n].owner.method() for n in expected} == expected  # type: ignore[union-attr]
    assert "error" not in fields
    for name, column in fields.items():
        assert column.field == name
        assert column.owner is not None
        assert column.owner.identity() == type(column.owner)().identity()  # default parameters


def test_nearest_is_silent_where_nothing_is_near() -> None:
    assert nearest("sharpnes", ["sharpness", "mean"]) == "; did you mean 'sharpness'?"
    assert nearest("zzz", ["sharpness", "mean"]) == ""
