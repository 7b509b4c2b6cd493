"""Are a model's answers those that people gave, word for word once both are written alike?

found = answering(model, questions(folder.samples(), model.image_size, most=1000))
found.metrics["exact_match"], found.metrics["exact_match_blind"], found.metrics["exact_match_shuffled"]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from torch import Tensor

from training_smoke.abilities import Answerer
from training_smoke.errors import TrainingError
from training_smoke.evaluate.folders import Question, Sample
from training_smoke.evaluate.measured import Measured
from training_smoke.evaluate.pictures import BATCH, FEWEST, Pictures, chosen, decoded, grey, place, rolled
from training_smoke.sampling import Sampling

SHORT = Sampling("greedy", max_tokens=10)
ENOUGH = 3  # people who say an answer, for it to be wholly right
ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0"} | {word: str(n) for n, word in enumerate(NUMBERS)}
PUNCTUATION = re.compile(r"(?<!\d)[.,:]|[.,:](?!\d)|,|[^\w\s.,:]|_")  # but 3.5 and 10:30
JOINED = ("'", "\u2019")  # what goes without leaving a space; a comma does between digits


def normal(text: str) -> str:
    """As answers are compared: lower case, without articles and punctuation, numbers up to ten as digits.

    What VQA's evaluation does (Antol et al. 2015, arXiv:1505.00468; vqaEval.py), but that apostrophes are left out
    instead of put in, hyphens are spaces, and articles stay where there is nothing else.

    >>> normal("The Two-dogs."), normal("don't"), normal("3.5"), normal("1,000"), normal("none"), normal("A.")
    ('2 dogs', 'dont', '3.5', '1000', '0', 'a')
    """
    bare = PUNCTUATION.sub(_gone, text.lower()).split()
    named = [word for word in bare if word not in ARTICLES] or bare
    return " ".join(DIGITS.get(word, word) for word in named)


def _gone(mark: re.Match[str]) -> str:
    """What stands in place of a mark."""
    around = mark.string[max(mark.start() - 1, 0) : mark.end() + 1]
    return "" if mark[0] in JOINED or re.fullmatch(r"\d,\d", around) else " "


def exact(said: str, answers: Sequence[str]) -> bool:
    """Is it one of the answers? Silence is none, whatever they are.

    >>> exact("A dog!", ["dog"]), exact("dogs", ["dog"]), exact("", ["?"])
    (True, False, False)
    """
    return normal(said) in {normal(answer) for answer in answers} - {""}


def vqa_accuracy(said: str, answers: Sequence[str]) -> float:
    """min(people who say so / 3, 1). Antol et al. 2015, section 3. (Their program takes the mean of it over all sets of
    nine of ten people; of ten this is at most 0.1 above that.)

    >>> round(vqa_accuracy("two", ["2", "2", "3", "4"]), 4)
    0.6667
    """
    same = sum(exact(said, [answer]) for answer in answers)
    return min(same / ENOUGH, 1.0)


def kind_of(question: Question) -> str:
    """ "yes_no", "number" or "other", by its first answer."""
    first = normal(question.answers[0])
    if first in ("yes", "no"):
        return "yes_no"
    return "number" if first.replace(".", "", 1).isdecimal() else "other"


# ---------------------------------------------------------------------------------------------- a set


@dataclass(frozen=True)
class Asked:
    """Questions and the pictures that they are about. picture_of: int64 [questions], rows of `pictures`."""

    pictures: Pictures
    questions: list[Question]
    picture_of: np.ndarray


def questions(samples: Iterable[Sample], size: int, most: int, of: str = "the evaluation set") -> Asked:
    """All questions of pictures spread over the set, as many pictures as there may be for at most so many questions.

    Raises:
        TrainingError: fewer than FEWEST pictures.
    """
    some, count = chosen(samples, most, of)  # a question each, at least
    order = sorted(some, key=lambda numbered: place(numbered[0]))
    total = np.cumsum([len(cast(tuple[Question, ...], sample.answer)) for _, sample in order])
    enough = max(FEWEST, int((total <= most).sum()))
    kept = decoded(sorted(order[:enough], key=lambda numbered: numbered[0]), size, count)
    asked = [(question, i) for i, answers in enumerate(kept.answers) for question in answers]
    return Asked(kept, [question for question, _ in asked], np.array([i for _, i in asked]))


def answering(model: Answerer, asked: Asked) -> Measured:
    """Exact match, all of it and by kind of question; VQA accuracy where people gave several answers; and all of these
    when the pictures are grey or others'. A picture with its questions is one item.

    Raises:
        TrainingError: no question.
    """
    if not asked.questions:
        raise TrainingError("the evaluation set has no questions")
    images = asked.pictures.images
    said = {c: _answers(model, asked, of) for c, of in (("", images), ("_shuffled", rolled(images)))}
    said["_blind"] = _when_blind(model, asked)
    right = {f"exact_match{c}": _scores(asked, answers, exact) for c, answers in said.items()}
    if all(len(q.answers) > 1 for q in asked.questions):
        right |= {f"vqa_accuracy{c}": _scores(asked, answers, vqa_accuracy) for c, answers in said.items()}
    kinds = np.array([kind_of(q) for q in asked.questions])
    metrics = {
        f"exact_match_{kind}{c}": float(right[f"exact_match{c}"][kinds == kind].mean())
        for kind in np.unique(kinds)
        for c in said
    }
    metrics |= {name: float(values.mean()) for name, values in right.items()}
    metrics["distinct_answers"] = len({normal(answer) for answer in said[""]}) / len(said[""])
    counts = {"n": len(asked.questions), "n_pictures": len(asked.pictures), "n_set": asked.pictures.total}
    items = {name: _by_picture(asked, values) for name, values in right.items()}
    return Measured(metrics | counts, items).of(asked.pictures.numbers)


def _answers(model: Answerer, asked: Asked, images: Tensor) -> list[str]:
    """Answers to all questions when these are the pictures: uint8 [pictures, 3, size, size]."""
    said: list[str] = []
    for start in range(0, len(asked.questions), BATCH):
        some, rows = asked.questions[start : start + BATCH], asked.picture_of[start : start + BATCH]
        keys = [f"{asked.pictures.keys[row]}/{start + i}" for i, row in enumerate(rows)]
        said += model.answer(images[rows], [q.question for q in some], SHORT, keys)
    return said


def _when_blind(model: Answerer, asked: Asked) -> list[str]:
    """Of a grey picture; each different question is asked once."""
    every = list(dict.fromkeys(q.question for q in asked.questions))
    once = [Question(text, ("",)) for text in every]
    blind = Asked(asked.pictures, once, np.zeros(len(once), np.int64))
    found = dict(zip(every, _answers(model, blind, grey(asked.pictures.images)), strict=True))
    return [found[q.question] for q in asked.questions]


def _scores(asked: Asked, said: Sequence[str], score: Callable[[str, Sequence[str]], float]) -> np.ndarray:
    """float64 [questions]."""
    return np.array([score(s, q.answers) for s, q in zip(said, asked.questions, strict=True)], np.float64)


def _by_picture(asked: Asked, values: np.ndarray) -> np.ndarray:
    """Sums over each picture's questions, so scaled that their mean is that of all questions: float64 [pictures]."""
    n = len(asked.pictures)
    return np.bincount(asked.picture_of, weights=values, minlength=n) * n / len(values)
