"""Stages over texts that captioners wrote: scalar in, scalar out; list in, list of equal length out."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curate.catalog import default_fields
from stages.base import TEXT, Batch, Stage
from stages.language import Language
from stages.language_cld3 import LanguageCld3
from stages.text_facts import TextFacts
from stages.text_source import column_like, column_type, has_lists, named
from tests.stages.text_lists import MANY, ONE, many, one

ROWS = [["a red car on the street", None, ""], None, [], ["ein rotes Auto auf der Straße"]]


def asked(stage: Stage, batch: Batch) -> dict[str, list[Any]]:
    table = stage.run(batch)
    assert table.schema == stage.writes()
    found: dict[str, list[Any]] = table.to_pydict()
    return found


def test_names_and_types_are_known_before_anything_runs() -> None:
    assert [named(c, "itm") for c in (TEXT, ONE, MANY)] == ["itm", "told_itm", "told_itm"]
    assert [has_lists(c) for c in (TEXT, ONE, MANY)] == [False, False, True]
    assert column_type(MANY, pa.int32()) == pa.list_(pa.int32())
    assert column_type(ONE, pa.int32()) == pa.int32()


def test_lists_of_the_input_are_refused() -> None:
    batch = Batch.of(pa.table({"all": pa.array([["a", "b"]])}))
    with pytest.raises(ValueError, match="'all' is a column of the input with lists of texts"):
        TextFacts(text="all").run(batch)
    with pytest.raises(ValueError, match="column of the input"):
        column_like(batch, TextFacts(text="all").text, [1, 2], pa.int32())


def test_facts_of_captions() -> None:
    found = asked(TextFacts(text=MANY), many(ROWS))
    assert found["told_n_words"] == [[6, None, 0], None, [], [6]]
    assert found["told_n_chars"][0] == [23, None, 0]
    assert asked(TextFacts(text=ONE), one(["a  dog", None]))["told_n_chars_clean"] == [5, None]
    assert len(found) == len(TextFacts().writes())


@pytest.mark.parametrize("kind", [Language, LanguageCld3])
def test_language_of_captions(kind: Any) -> None:
    stage = kind(text=MANY, labels={"de": "german"})
    try:
        stage.open()
    except ValueError as e:
        pytest.skip(str(e))
    found = asked(stage, many(ROWS))
    begins = f"told_{kind().name}"
    assert found[begins] == [["en", None, None], None, [], ["german"]]
    assert [p and p > 0.5 for p in found[f"{begins}_prob"][0]] == [True, None, None]
    single = asked(kind(text=ONE), one(["a red car on the street", None]))
    assert single[begins] == ["en", None]


def test_the_webs_text_is_asked_as_before() -> None:
    assert TextFacts().identity() == {"name": "text_facts", "version": 1, "parameters": {}}
    assert TextFacts().reads() == Language().reads() == (TEXT,)
    assert set(Language().identity()["parameters"]) == {"model"}
    assert Language(text=ONE).identity()["parameters"]["text"] == "told"
    assert TextFacts(text=ONE).identity()["parameters"] == {"text": "told"}
    assert {"n_words", "lang", "lang_prob"} <= default_fields().keys()
