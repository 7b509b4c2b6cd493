"""Language labels kept or dropped, with a floor that means what it says for a float32 column."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.language import Language
from stages.base import Batch
from stages.language import Language as LanguageStage
from tests.filters.run_rules import reasons


def dropped(chosen: Language, *found: tuple[str | None, float | None]) -> list[str | None]:
    langs, probabilities = zip(*found, strict=True)
    return reasons(
        chosen, pa.table({"lang": pa.array(langs, pa.string()), "lang_prob": pa.array(probabilities, pa.float32())})
    )


def test_datacomp_keeps_english_without_a_floor() -> None:
    english = Language(keep=("en",))
    assert dropped(english, ("en", 0.13), ("de", 0.99), ("eng", 0.9), ("en", 1.0)) == [
        None,
        "language",
        "language",
        None,
    ]
    assert english.reads() == ("lang",)


def test_a_floor() -> None:
    chosen = Language(keep=("en", "zh"), min_prob=0.7)
    found = [("en", 0.7), ("en", 0.6999), ("zh", 0.9), ("fr", 0.1)]
    assert dropped(chosen, *found) == [None, "low_probability", None, "language"]
    assert chosen.reads() == ("lang", "lang_prob")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_probability_passes_the_floor_that_it_equals(ten_thousandths: int) -> None:
    floor = ten_thousandths / 10_000
    expected = [None, "low_probability"] if floor > 0 else [None, None]
    assert dropped(Language(keep=("en",), min_prob=floor), ("en", floor), ("en", max(0, floor - 1e-4))) == expected


def test_text_without_a_language_follows_the_policy() -> None:
    with pytest.raises(ValueError, match="language is NULL"):
        dropped(Language(keep=("en",)), (None, None))
    assert dropped(Language(keep=("en",), on_missing="drop"), (None, None)) == ["missing"]
    assert dropped(Language(keep=("en",), min_prob=0.5, on_missing="keep"), (None, None)) == [None]


def test_reads_what_the_stage_writes() -> None:
    texts = pa.table({"text": ["a brown dog runs over the grass", "一只棕色的狗在草地上奔跑", ""]})
    table = LanguageStage().run(Batch.of(texts))
    chosen = Language(keep=("en",), min_prob=0.3, on_missing="drop")
    assert reasons(chosen, table) == [None, "language", "missing"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"keep": ()}, "at least 1 item"),
        ({"keep": ("__label__en",)}, "keep names as the model gives them, like en or zh, not '__label__en'"),
        ({"keep": ("EN",)}, "not 'EN'"),
        ({"keep": ("",)}, "not ''"),
        ({"keep": (False,)}, "valid string"),  # `no` in YAML
        ({"keep": ("en",), "min_prob": 1.5}, "less than or equal to 1"),
    ],
)
def test_parameters_that_make_no_sense(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Language(**parameters)


def test_a_name_is_data_not_sql() -> None:
    assert dropped(Language(keep=("x') or ('1'='1",)), ("en", 1.0)) == ["language"]


def test_the_column_of_another_stage() -> None:
    chosen = Language(keep=("en", "zh-Latn"), column="lang_cld3", min_prob=0.5)
    assert chosen.reads() == ("lang_cld3", "lang_cld3_prob")
    rows = [("en", 0.9), ("zh-Latn", 0.6), ("zh", 0.9), ("en", 0.4)]
    found = reasons(chosen, [{"lang_cld3": lang, "lang_cld3_prob": prob} for lang, prob in rows])
    assert found == [None, None, "language", "low_probability"]


def test_verdicts_from_before_there_were_other_columns_stay_good() -> None:
    assert Language(keep=("en",)).identity()["parameters"] == {"keep": ["en"], "min_prob": None, "on_missing": "error"}
    assert Language(keep=("en",), column="wiki").identity()["parameters"]["column"] == "wiki"


@pytest.mark.parametrize("column", ["lang; drop", "lang)", "", "1st"])
def test_a_column_is_a_plain_name(column: str) -> None:
    with pytest.raises(ValueError, match="should match pattern"):
        Language(keep=("en",), column=column)
