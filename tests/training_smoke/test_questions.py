"""Questions made of captions: what is asked and what is not, both answers alike often, the same on every machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training_smoke.questions import Question, balanced, questions_of, sure_questions

FLICKR8K = Path(__file__).parents[3] / "shared/data/images"


def asked(caption: str) -> dict[str, str]:
    return dict(questions_of(caption))


@pytest.mark.parametrize(
    ("caption", "question", "answer"),
    [
        ("Two brown dogs run on the beach .", "how many dogs are there?", "two"),
        ("Two brown dogs run on the beach .", "what are the dogs doing?", "running"),
        ("Two brown dogs run on the beach .", "where is this?", "at the beach"),
        ("Two brown dogs run on the beach .", "what is in the picture?", "dogs"),
        ("A black and white dog leaps over a log", "what color is the dog?", "black and white"),
        ("A black and white dog leaps over a log", "what is the dog doing?", "jumping"),
        ("A black and white dog leaps over a log", "how many dogs are there?", "one"),
        ("a man in a grey shirt sits", "what color is the shirt?", "gray"),
        ("a man in a grey shirt sits", "what is in the picture?", "a man"),
        ("Three young boys in red shorts", "what color are the shorts?", "red"),
        ("Three young boys in red shorts", "how many boys are there?", "three"),
    ],
)
def test_what_a_caption_says_is_answered(caption: str, question: str, answer: str) -> None:
    assert asked(caption)[question] == answer


@pytest.mark.parametrize(
    ("caption", "question"),
    [
        ("a black dog and a brown dog", "what color is the dog?"),  # which?
        ("a black dog and a brown dog", "how many dogs are there?"),
        ("a dog chases another dog", "how many dogs are there?"),
        ("a dog with others", "how many dogs are there?"),
        ("a red car beside blue cars", "what color is the car?"),
        ("a man on a snowy street", "where is this?"),  # two answers
        ("a man watches and a boy runs", "what is the man doing?"),  # another runs
        ("two people on a bench", "is there a woman?"),  # may be
        ("a girl in a hat", "is there a woman?"),
        ("a dog fetches a toy", "is there a ball?"),
        ("surfers at the shore", "is there a beach?"),
    ],
)
def test_what_a_caption_leaves_open_is_not_asked(caption: str, question: str) -> None:
    assert question not in asked(caption)


def test_of_yes_and_no_there_are_as_many() -> None:
    for caption in ("A man and his dog on a snowy street", "a woman", "Two boys play with a ball in the water"):
        answers = Counter(answer for _, answer in questions_of(caption))
        assert answers["yes"] == answers["no"] > 0


def test_a_text_without_any_of_its_words_has_no_questions() -> None:
    assert questions_of("IMG 2031.jpg") == questions_of("") == sure_questions([]) == []


def test_it_is_a_function_of_the_text(tmp_path: Path) -> None:
    """Not of this process's hashes of strings, by which sets are ordered."""
    said = "A man and two dogs run through the snow near a red car ."
    code = f"from training_smoke.questions import *; print(questions_of({said!r}), sure_questions([{said!r}] * 3))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{questions_of(said)} {sure_questions([said] * 3)}\n"}


def test_what_is_sure_is_said_twice_and_never_denied() -> None:
    sure = dict(
        sure_questions(
            [
                "A brown dog runs in the grass .",
                "A tan dog running with a ball .",
                "A dog is running through a field of grass .",
            ]
        )
    )
    assert sure["is there a dog?"] == sure["is anyone running?"] == sure["is there grass?"] == "yes"
    assert sure["what is the dog doing?"] == "running"
    assert sure["how many dogs are there?"] == "one"
    assert sure["is there snow?"] == "no"
    assert "is there a ball?" not in sure  # one of three says so
    assert "what color is the dog?" not in sure  # they differ
    assert "is there a person?" in sure


def test_balanced_leaves_no_answer_oftener_than_all_others() -> None:
    counts = ("one", "one", "one", "two", "three")
    questions: list[list[Question]] = [
        [("is there a dog?", "yes" if i % 3 else "no"), ("how many?", counts[i % 5]), ("what is this?", "a dog")]
        for i in range(30)
    ]
    found = balanced(questions)
    answers = Counter(one for own in found for one in own)
    assert answers == {
        ("is there a dog?", "yes"): 10,
        ("is there a dog?", "no"): 10,
        ("how many?", "one"): 12,
        ("how many?", "two"): 6,
        ("how many?", "three"): 6,
    }
    assert found == balanced(questions)
    assert all(set(own) <= set(whole) for own, whole in zip(found, questions, strict=True))


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=3), max_size=30))
def test_nothing_more_is_left_out_than_has_to_be(questions: list[list[Question]]) -> None:
    """A question is asked once of a picture."""
    questions = [list(dict(own).items()) for own in questions]
    before, after = (Counter(one for own in of for one in own) for of in (questions, balanced(questions)))
    for question in "ab":
        counts = sorted((before[question, answer] for answer in "xyz"), reverse=True)
        kept = sorted((after[question, answer] for answer in "xyz"), reverse=True)
        assert kept == sorted([min(counts[0], sum(counts[1:])), *counts[1:]], reverse=True)


@pytest.fixture(scope="module")
def captions() -> list[list[str]]:
    paths = sorted(FLICKR8K.glob("pairs_flickr8k-*.parquet"))
    if not paths:
        pytest.skip(f"no Flickr8k in {FLICKR8K}")
    table = pq.read_table(paths[0], columns=["captions"])
    return [list(map(str.strip, own)) for own in table.column("captions").to_pylist()[:1500]]


def test_the_question_alone_does_not_tell_the_answer(captions: list[list[str]]) -> None:
    """Of each that is asked often."""
    counts = Counter(one for own in captions for caption in own for one in questions_of(caption))
    for question in {q for q, a in counts if a in ("yes", "no")}:
        yes, no = counts[question, "yes"], counts[question, "no"]
        if yes + no >= 200:
            assert 0.4 < yes / (yes + no) < 0.6, question


def test_sure_questions_agree_with_each_caption(captions: list[list[str]]) -> None:
    """What one caption of a picture answers yes, all together never answer no."""
    for own in captions:
        sure = dict(sure_questions(own))
        for caption in own:
            for question, answer in questions_of(caption):
                assert not (answer == "yes" and sure.get(question) == "no"), (question, own)
