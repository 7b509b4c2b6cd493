"""Length bounds at their boundaries, by each definition of a word."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from filters.caption_length import CaptionLength
from stages.base import Batch
from stages.text_facts import TextFacts
from tests.filters.run_rules import reasons


def dropped(chosen: CaptionLength, *texts: str | None) -> list[str | None]:
    batch = Batch.of(pa.table({"text": pa.array(texts, pa.string())}))
    return reasons(chosen, TextFacts().run(batch))


def test_the_boundaries_of_datacomps_basic_filter() -> None:
    basic = CaptionLength(min_words=3, min_chars=6)
    assert dropped(basic, "a b cd", "aaa bbb", "a b c", "abcdef", "a red car") == [
        None,  # three words, six characters
        "min_words",  # two words
        "min_chars",  # five characters
        "min_words",
        None,
    ]


def test_upper_bounds_are_inclusive() -> None:
    assert dropped(CaptionLength(max_words=2), "a b", "a b c") == [None, "max_words"]
    assert dropped(CaptionLength(max_chars=3), "abc", "abcd") == [None, "max_chars"]


def test_coyo_bounds() -> None:
    coyo = CaptionLength(min_words=3, max_words=256, min_chars=6, max_chars=1000, count="coyo")
    texts = ["a   b   c", " ".join(["ab"] * 256), " ".join(["ab"] * 257), "ab cd " + "e" * 994, "ab cd " + "e" * 995]
    assert dropped(coyo, *texts) == ["min_chars", None, "max_words", None, "max_chars"]
    assert dropped(CaptionLength(min_chars=6), texts[0]) == [None]  # uncleaned it has nine characters


def test_fasttext_counts_a_newline_and_does_not_split_at_wide_spaces() -> None:
    image_based = CaptionLength(min_words=2, min_chars=6, count="fasttext")
    texts = ["one word", "oneword\n", "one\u00a0word"]
    assert dropped(image_based, *texts) == [None, None, "min_words"]
    assert dropped(CaptionLength(min_words=2), *texts) == [None, "min_words", None]


def test_only_the_columns_that_count_are_read() -> None:
    assert CaptionLength(min_words=1).reads() == ("n_words",)
    assert CaptionLength(max_chars=9, count="coyo").reads() == ("n_chars_clean",)
    assert CaptionLength(min_words=1, min_chars=1, count="fasttext").reads() == ("n_words_fasttext", "n_chars")


def test_null_texts_follow_the_policy() -> None:
    with pytest.raises(ValueError, match="min_words is NULL"):
        dropped(CaptionLength(min_words=1), None)
    assert dropped(CaptionLength(min_words=1, on_missing="drop"), None, "") == ["missing", "min_words"]
    assert dropped(CaptionLength(min_words=1, on_missing="keep"), None) == [None]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "caption_length needs a bound: min_words, max_words, min_chars or max_chars"),
        ({"min_words": 4, "max_words": 3}, "min_words 4 is above max_words 3"),
        ({"min_chars": 4, "max_chars": 3}, "min_chars 4 is above max_chars 3"),
        ({"min_words": -1}, "greater than or equal to 0"),
        ({"min_words": 2, "count": "laion"}, "'datacomp', 'fasttext' or 'coyo'"),
    ],
)
def test_bounds_that_make_no_sense(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptionLength(**parameters)
