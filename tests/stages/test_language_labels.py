"""Languages under other names: maps in the recipe and in files, and what is too unsure to have one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.recipe import load_recipe
from stages.base import Batch
from stages.language import Language

TEXTS = ["a brown dog runs over the grass", "ein Hund rennt über die Wiese", "一只棕色的狗在草地上奔跑", "x1", "", None]


def named(stage: Language, texts: list[str | None] = TEXTS) -> list[str | None]:
    table = stage.run(Batch.of(pa.table({"text": pa.array(texts, pa.string())})))
    assert table.schema == stage.writes()
    return table.column(0).to_pylist()


def test_some_renamed_and_the_others_as_they_are() -> None:
    assert named(Language(labels={"de": "german"}))[:3] == ["en", "german", "zh"]


def test_all_others_under_one_name() -> None:
    found = named(Language(labels={"en": "en", "*": "other"}))
    assert found[:3] == ["en", "other", "other"]
    assert found[4:] == [None, None]


def test_an_unsure_answer_is_nolang_and_not_renamed() -> None:
    plain = Language().run(Batch.of(pa.table({"text": TEXTS}))).to_pylist()
    assert plain[3]["lang_prob"] < 0.5 < plain[1]["lang_prob"]
    found = named(Language(labels={"en": "en", "*": "other", "nolang": "never"}, nolang_below=0.5))
    assert found == ["en", "other", "other", "nolang", None, None]


def test_a_probability_at_the_floor_is_sure_enough() -> None:
    prob = Language().run(Batch.of(pa.table({"text": ["x1"]}))).to_pylist()[0]["lang_prob"]
    exact = round(prob, 4)
    assert named(Language(nolang_below=exact), ["x1"]) != ["nolang"]
    assert named(Language(nolang_below=exact + 1e-4), ["x1"]) == ["nolang"]


def test_columns_have_the_name_that_they_are_given() -> None:
    assert Language(name="wiki").writes().names == ["wiki", "wiki_prob"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("map.json", '{"de": "german", "*": "other"}'), ("map.txt", "# LID to ours\nde german\n\n*\tother  # the rest\n")],
)
def test_maps_in_files(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    stage = Language(labels=str(tmp_path / name))
    assert named(stage)[:3] == ["other", "german", "other"]
    assert stage.files()[1:] == (str(tmp_path / name),)
    assert stage.identity()["parameters"]["labels"] == str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("map.json", "[1]", r'is no JSON object, as \{"zh_yue": "zh"\}'),
        ("map.json", "{", r"map\.json is no JSON"),
        ("map.json", '{"de": 1}', r"labels map names to names.*found \('de', 1\)"),
        ("map.txt", "de german\nzh\n", r"map\.txt:2: expected two names, as `zh_yue zh`, found 'zh'"),
    ],
)
def test_files_that_are_no_maps(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        named(Language(labels=str(tmp_path / name)))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"language: labels: no file /nowhere/map\.json"):
        Language(labels="/nowhere/map.json").files()


@pytest.mark.parametrize("labels", [{"no": False}, {"": "x"}, {"de": ""}, ("de",)])
def test_labels_that_are_no_names(labels: Any) -> None:
    with pytest.raises(ValueError, match="labels map names to names"):
        Language(labels=labels)


def test_columns_from_before_there_were_labels_stay_good() -> None:
    assert set(Language().identity()["parameters"]) == {"model"}
    given = Language(labels={"b": "c", "a": "d"}, name="wiki", nolang_below=0.2).identity()["parameters"]
    assert given["labels"] == [["a", "d"], ["b", "c"]]
    assert (given["name"], given["nolang_below"]) == ("wiki", 0.2)


def test_a_map_in_a_recipe(tmp_path: Path) -> None:
    """With two stages of one kind, since each has names of its own."""
    (tmp_path / "r.yaml").write_text(
        "recipe: r\ncolumns:\n  - language\n  - language: {name: part, nolang_below: 0.5, "
        "labels: {en: en, '*': other}}\n"
        "filters:\n  - id: most\n    where: \"lang = 'en' OR part = 'nolang'\"\n    on_missing: drop\n"
    )
    recipe = load_recipe(str(tmp_path / "r.yaml"))
    assert recipe.resolve("part").owner == Language(name="part", labels={"*": "other", "en": "en"}, nolang_below=0.5)
