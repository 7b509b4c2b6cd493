"""Answers are compared as VQA compares them: VQA's own examples, and what makes two answers one."""

from __future__ import annotations

import doctest

import pytest

from training_smoke.evaluate import answers
from training_smoke.evaluate.answers import exact, kind_of, normal, vqa_accuracy
from training_smoke.evaluate.folders import Question


def test_examples() -> None:
    assert doctest.testmod(answers).failed == 0


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ("Yes.", "yes"),
        ("a red ball", "red ball"),
        ("The Dog", "dog"),
        ("two", "2"),
        ("none", "0"),
        ("ten men", "10 men"),
        ("it's", "its"),
        ("black-and-white", "black and white"),
        ("  on   grass ", "on grass"),
        ("1,000", "1000"),
        ("1,000,000", "1000000"),
        ("red, green", "red green"),
        ("10:30", "10:30"),
        ("snow!?", "snow"),
        ("tank_top", "tank top"),
    ],
)
def test_one_answer(said: str, same: str) -> None:
    assert normal(said) == normal(same)


@pytest.mark.parametrize(
    ("said", "other"), [("dog", "dogs"), ("1", "10"), ("red", "dark red"), ("3.5", "35"), ("", "no")]
)
def test_two_answers(said: str, other: str) -> None:
    assert normal(said) != normal(other)


def test_exact_match_of_any() -> None:
    assert exact("A man.", ["woman", "man"])
    assert not exact("men", ["woman", "man"])


def test_silence_is_no_answer() -> None:
    for answer in ("a", "The", "", "?"):
        assert not exact("", [answer])
        assert not exact("...", [answer])
        assert vqa_accuracy("", [answer] * 10) == 0
    assert exact("A.", ["a"])
    assert not exact("a", ["the"])


@pytest.mark.parametrize(("same", "expected"), [(0, 0), (1, 1 / 3), (2, 2 / 3), (3, 1), (10, 1)])
def test_accuracy_counts_people(same: int, expected: float) -> None:
    assert vqa_accuracy("two dogs", ["2 dogs"] * same + ["cat"] * (10 - same)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "kind"), [("Yes", "yes_no"), ("no.", "yes_no"), ("three", "number"), ("red", "other")]
)
def test_kinds(answer: str, kind: str) -> None:
    assert kind_of(Question("?", (answer, "7"))) == kind
