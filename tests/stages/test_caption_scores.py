"""Length, repetition and agreement of texts: by hand, and what must hold of any text."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base import TEXT, Batch, Stage
from stages.caption_scores import CaptionScores, overlap, repetition
from stages.tokens import tokens
from tests.stages.text_lists import MANY, ONE, many, one


def asked(stage: Stage, batch: Batch) -> dict[str, list[Any]]:
    table = stage.run(batch)
    assert table.schema == stage.writes()
    found: dict[str, list[Any]] = table.to_pydict()
    return found


def test_of_one_caption_a_sample() -> None:
    rows = one(["A red bus, a red car", None, "", "犬 🐕", "!?"], web=["Red bus tour 2019", "x", "y", None, "z"])
    found = asked(CaptionScores(text=ONE), rows)
    assert found["told_words"] == [6, None, 0, 1, 0]
    assert found["told_chars"] == [20, None, 0, 3, 2]
    assert found["told_repetition"] == [pytest.approx(0.2), None, None, 0, None]  # "a red" came back
    assert found["told_overlap"] == [pytest.approx(0.4), None, None, None, None]


def test_of_lists_of_captions() -> None:
    stage = CaptionScores(text=MANY, name="mine", ngram=1)
    assert stage.writes().field("mine_words").type == pa.list_(pa.int32())
    found = asked(stage, many([["a dog", "dog dog", None], None, []], web=["a dog", "b", "c"]))
    assert found["mine_words"] == [[2, 2, None], None, []]
    assert found["mine_repetition"] == [[0, 0.5, None], None, []]
    assert found["mine_overlap"] == [[1, 0.5, None], None, []]


def test_the_webs_text_agrees_with_itself_and_has_no_such_column() -> None:
    stage = CaptionScores()
    assert stage.reads() == (TEXT,)
    assert asked(stage, Batch.of(pa.table({"text": ["two words"]}))) == {
        "text_words": [2],
        "text_chars": [9],
        "text_repetition": [0],
    }


def test_what_is_compared_with_is_one_text() -> None:
    with pytest.raises(ValueError, match="'told' has several texts a sample"):
        CaptionScores(text="text", against=MANY).run(many([["a"], ["b"]], web=["a", "b"]))
    swapped = asked(CaptionScores(text="text", against=ONE), one(["a dog"], web=["dog"]))
    assert swapped["text_overlap"] == [pytest.approx(0.6667)]


def test_the_docs_numbers() -> None:
    assert repetition(["a", "cat", "and", "a", "cat", "and", "a", "cat"]) == 0.5714
    assert overlap(["a", "red", "bus"], ["red", "bus", "tour", "2019", "red"]) == 0.5


words = st.lists(st.sampled_from(["a", "dog", "cat", "red", "2", "犬"]), max_size=12)


@given(words, words, st.integers(1, 4))
def test_shares_are_shares(some: list[str], others: list[str], ngram: int) -> None:
    shared = overlap(some, others)
    assert shared == overlap(others, some)
    assert (shared is None) == (not some or not others)
    assert shared is None or 0 <= shared <= 1
    if some:
        assert overlap(some, sorted(some)) == 1
        once, twice = repetition(some, ngram), repetition(some + some, ngram)
        assert once is not None
        assert twice is not None
        assert 0 <= once <= twice < 1 or ngram > len(some)
        assert (once == 0) == (
            len(runs := list(zip(*[some[i:] for i in range(ngram)], strict=False))) == len(set(runs))
        )


@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text()), max_size=3)), max_size=4))
def test_lists_are_as_long_as_those_that_are_read(rows: list[list[str | None] | None]) -> None:
    rows = [row and [t and t.encode("utf8", "ignore").decode() for t in row] for row in rows]
    for values in asked(CaptionScores(text=MANY), many(rows)).values():
        assert [v and len(v) for v in values] == [row and len(row) for row in rows]
    found = asked(CaptionScores(text=MANY), many(rows))["told_words"]
    assert found == [
        row if row is None else [None if t is None else len(tokens(t.lower(), "words")) for t in row] for row in rows
    ]
