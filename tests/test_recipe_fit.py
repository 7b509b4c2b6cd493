"""Recipes against the columns that there are: types that do not fit, names that hide others; told with their places."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import jpeg

from curate.errors import UserError
from curate.recipe import load_recipe
from curate.run.job import Job
from curate.run.progress import Progress
from tests.person import Person


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def at(path: Path) -> str:
    """A `source:` in one line."""
    return f"{{path: {path}}}"


def pictures(path: Path, texts: Sequence[str], **more: Sequence[Any]) -> Path:
    """A parquet of small pictures with these captions."""
    pq.write_table(pa.table({"text": texts, "image": [jpeg(i) for i in range(len(texts))], **more}), path)
    return path


def test_rules_that_do_not_fit_their_columns_are_all_named_with_their_places(person: Person) -> None:
    """Also those over the input's own columns, as soon as the list is read, and before a picture is."""
    path = pictures(person.folder / "some.parquet", ["a dog"], score=[0.5], label=["good"])
    filters = """\
  - where: "sharpness > 'abc'"
  - image_size: {min_side: 1}
  - where: "sharpnes > 3"
  - id: three
    where: sharpness
  - where: "score + 1"
  - where: "label > 3 and score > 'x'"
  - where: "length(label) > 3"
"""
    file = f"{person.folder}/r.yaml"
    assert person.error(at(path), filters).splitlines() == [
        f"{file}:5:5: filters.0.where: Conversion Error: Could not convert string 'abc' to FLOAT",
        f"{file}:7:5: filters.2.where: no column 'sharpnes'; did you mean 'sharpness'?",
        f"{file}:9:5: filters.3.where: `sharpness` is a FLOAT, not true or false: compare it with something",
        f"{file}:10:5: filters.4.where: `score + 1` is a DOUBLE, not true or false: compare it with something",
        f"{file}:11:5: filters.5.where: `label > 3 and score > 'x'` does not fit its columns: Binder Error: Cannot "
        "compare values of type VARCHAR and type INTEGER_LITERAL - an explicit cast is required",
    ]
    assert not (Path(person.pool) / "pixels").exists()
    assert person.run(at(path), '  - where: "length(label) > 3 and score > 0.4"\n')[0].kept == 1


def test_a_rule_from_the_command_line_is_named_as_it_was_given(person: Person) -> None:
    path = pictures(person.folder / "some.parquet", ["a dog"])
    recipe = load_recipe(person.recipe(at(path), '  - where: "not blank"\n'), ["filters.where.where=sharpness + 1"])
    with pytest.raises(UserError) as caught, Progress(None, "a test", io.StringIO()) as progress:
        Job(recipe, "inline").run(progress)
    assert str(caught.value).startswith(
        "--set filters.where.where=sharpness + 1: filters.0.where: `sharpness + 1` is a "
    )


def test_an_input_column_that_hides_one_of_a_stage_is_told(person: Person) -> None:
    path = pictures(person.folder / "some.parquet", ["a dog runs over the green grass"] * 2, lang=["english", "de"])
    outcome, said = person.run(at(path), "  - language: {keep: [en]}\n")
    assert said[1] == (
        "input column 'lang' hides 'lang' of language; to use that, leave it out of `keep:` under `source:`"
    )
    assert outcome.dropped == {"language": 2}  # "english" is not "en"
    recipe = load_recipe(person.recipe(at(path)))
    assert recipe.shadowed(["lang", "more", "blank"]) == [
        ("blank", "'blank' of image_facts"),
        ("lang", "'lang' of language"),
    ]
    assert recipe.shadowed([]) == []


def test_two_instances_of_a_stage_are_both_named_with_the_remedy(person: Person) -> None:
    columns = "columns:\n  - language\n  - image_facts\n  - language: {model: lid.176.ftz}\n"
    with pytest.raises(UserError) as caught:
        load_recipe(person.recipe("{path: a.csv}", rest=columns))
    file = f"{person.folder}/r.yaml"
    assert str(caught.value) == (
        f"{file}:9:5: columns.2.language: writes lang, lang_prob, as language at {file}:7:5 does, and a name means one "
        "column: leave one of them out (another recipe on the pool may have it), or write a stage of your own whose "
        "columns have other names"
    )
