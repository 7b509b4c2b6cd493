"""Rules about captions: on sentences as people write them, on lists of any kind, and on any text."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.where import Where
from stages.base import Batch
from stages.caption_rules import CaptionRules, repetition
from stages.word_lists import Phrases
from tests.filters.run_rules import reasons


def rules(text: str | None, stage: CaptionRules | None = None) -> dict[str, Any]:
    stage = stage or CaptionRules()
    table = stage.run(Batch.of(pa.table({"text": pa.array([text], pa.string())})))
    assert table.schema == stage.writes()
    return table.to_pylist()[0]


def test_repetition_of_words_and_of_tokens() -> None:
    found = rules("Dog, dog and DOG. dog")
    assert found["word_repetition"] == pytest.approx(3 / 5)
    assert found["token_repetition"] == pytest.approx(1 / 5)
    assert rules("a dog a dog")["token_repetition"] == 0.5
    assert rules("all words differ")["word_repetition"] == 0


def test_a_fifth_repeated_is_within_the_bound_of_a_fifth() -> None:
    samples = CaptionRules().run(Batch.of(pa.table({"text": ["one two three four one", "a b c a b c d"]})))
    chosen = Where(sql="word_repetition <= 0.2")
    assert reasons(chosen, samples) == [None, next(iter(chosen.rules()))]


@pytest.mark.parametrize(
    ("text", "ratio", "lower"),
    [
        ("A dog in Paris", 0.5, False),
        ("a dog in Paris", 0.25, True),
        ("BUY NOW", 1.0, False),
        ("3 dogs", 0.0, False),
        ("ein Hund, Österreich", 2 / 3, True),
        ("一只狗", 0.0, False),
        ("'tis a dog", 0.0, True),
    ],
)
def test_capitals(text: str, ratio: float, lower: bool) -> None:
    found = rules(text)
    assert (found["capitalised_ratio"], found["first_word_lower"]) == (pytest.approx(ratio), lower)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Click to  enlarge: a red car", True),
        ("a red car (click to enlarge)", False),  # the bracket comes after
        ("A red car, stock photo", True),
        ("stock photo", True),
        ("stock photos of cars", False),
        ("a stock photo of a car", False),
        ("photo", False),
        ("", False),
    ],
)
def test_boilerplate_at_either_end(text: str, expected: bool) -> None:
    assert rules(text)["boilerplate"] is expected


def test_phrases_of_ones_own() -> None:
    stage = CaptionRules(boilerplate=("View more product information",))
    assert rules("View more product information MALA pencil", stage)["boilerplate"] is True
    assert rules("stock photo", stage)["boilerplate"] is False
    assert rules("stock photo", CaptionRules(boilerplate=()))["boilerplate"] is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://a.b/c", True),
        ("www.shop.de dress", True),
        ("Shop dresses at example.com", True),
        ("DSC_0012.JPG", True),
        ("photo.jpeg of a dog", True),
        ("a dog. Come here", False),
        ("The end.A new start", False),
        ("version 1.2 of it", False),
        ("U.S. flag", False),
        ("company", False),
    ],
)
def test_addresses_and_file_names(text: str, expected: bool) -> None:
    assert rules(text)["url_like"] is expected


def test_digits() -> None:
    assert rules("IMG_4894 from 2019")["digits"] == 8
    assert rules("٣ dogs, ½")["digits"] == 1


def test_words_of_given_lists(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("damn\nbad word\n\n🖕\n", encoding="utf-8")
    (tmp_path / "two.txt").write_text("Damn\nf*ck\n", encoding="utf-8")
    stage = CaptionRules(profanity=(str(tmp_path / "one.txt"), str(tmp_path / "two.txt")))
    assert [
        f["profanity"] for f in (rules(t, stage) for t in ("DAMN!", "a bad  word, damn", "f*ck 🖕", "goddamn", "bad"))
    ] == [
        1,
        2,
        2,
        0,
        0,
    ]
    assert rules(None, stage)["profanity"] is None
    assert stage.files() == (str(tmp_path / "one.txt"), str(tmp_path / "two.txt"))


def test_without_lists_there_is_no_column_that_says_all_is_well() -> None:
    assert "profanity" not in CaptionRules().writes().names
    assert "profanity" not in rules("damn")


def test_a_list_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"caption_rules: no file /nowhere/list\.txt; give the path"):
        CaptionRules(profanity=("/nowhere/list.txt",)).files()


def test_lists_that_are_no_lists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n  \n")
    with pytest.raises(ValueError, match=r"empty\.txt: the list has no entry"):
        CaptionRules(profanity=(str(tmp_path / "empty.txt"),)).open()
    (tmp_path / "latin.txt").write_bytes("señor".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt: a list must be UTF-8"):
        CaptionRules(profanity=(str(tmp_path / "latin.txt"),)).open()


def test_no_text_and_no_word() -> None:
    assert set(rules(None).values()) == {None}
    found = rules(" !!! ")
    assert [found[n] for n in ("word_repetition", "token_repetition", "capitalised_ratio", "first_word_lower")] == [
        None
    ] * 4
    assert (found["boilerplate"], found["url_like"], found["digits"]) == (False, False, 0)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_any_text_has_an_answer_that_depends_on_it_alone(texts: list[str]) -> None:
    stage = CaptionRules()
    table = stage.run(Batch.of(pa.table({"text": pa.array(texts, pa.string())})))
    assert table.to_pylist() == [rules(text) for text in texts]
    for row in table.to_pylist():
        for name in ("word_repetition", "token_repetition", "capitalised_ratio"):
            assert row[name] is None or 0 <= row[name] <= 1


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=8), st.lists(st.text("ab ", max_size=5), max_size=4)
)
def test_phrases_match_as_a_scan_does(words: list[str], phrases: list[str]) -> None:
    found = Phrases.of(phrases)
    wanted = {tuple(p.split()) for p in phrases if p.split()}
    scan = sum(tuple(words[i : i + n]) in wanted for n in range(1, 9) for i in range(len(words) - n + 1))
    assert found.count(" ".join(words)) == scan
    ends = any(tuple(words[: len(w)]) == w or tuple(words[-len(w) :]) == w for w in wanted)
    assert found.at_either_end(" ".join(words)) == ends
    assert 0 <= repetition(words) < 1


def test_an_opened_stage_travels_without_its_lists(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("damn")
    stage = CaptionRules(profanity=(str(tmp_path / "list.txt"),))
    stage.open()
    travelled = pickle.loads(pickle.dumps(stage))
    assert travelled == stage
    assert rules("damn", travelled)["profanity"] == 1
