"""A parameter that names a column of another stage."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest
from pydantic import ValidationError

from stages.base import Batch, Column, Source, Stage, fact
from stages.text_facts import TextFacts


class Twice(Stage):
    of: Source
    more: tuple[Source, ...] = ()

    def reads(self) -> tuple[Column, ...]:
        return (self.of, *self.more)

    def writes(self) -> pa.Schema:
        return pa.schema([("twice", pa.int32())])

    def run(self, batch: Batch) -> pa.Table:
        return pa.table({"twice": pa.array([2 * v for v in batch[self.of].to_pylist()], pa.int32())})


def test_a_string_is_a_fact_and_a_column_is_itself() -> None:
    assert Twice(of="width").reads() == (fact("width"),)
    words = Column(TextFacts(), "n_words")
    assert Twice(of=words, more=(words, "width")).reads() == (words, words, fact("width"))
    assert Twice(of="width").run(Batch.of(pa.table({"width": [3, 4]}))).to_pydict() == {"twice": [6, 8]}


def test_only_the_name_stands_among_the_parameters() -> None:
    stage = Twice(of=Column(TextFacts(), "n_words"), more=("width",))
    assert stage.identity()["parameters"] == {"of": "n_words", "more": ["width"]}
    assert pickle.loads(pickle.dumps(stage)) == stage
    assert hash(stage) != hash(Twice(of="n_words", more=("width",)))
    assert stage != Twice(of="n_words", more=("width",))


def test_names_are_looked_up_where_a_recipe_is_read() -> None:
    known = {"n_words": Column(TextFacts(), "n_words")}
    stage = Twice.model_validate({"of": "n_words", "more": ("other",)}, context={"columns": known})
    assert stage.reads() == (known["n_words"], fact("other"))


@pytest.mark.parametrize("wrong", [3, "", None, ["a"]])
def test_what_is_no_name_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError, match="expected the name of a column"):
        Twice.model_validate({"of": wrong})


def test_editors_are_told_that_it_is_a_string() -> None:
    assert Twice.model_json_schema()["properties"]["of"] == {"minLength": 1, "title": "Of", "type": "string"}
