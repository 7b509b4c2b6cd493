"""BLEU, ROUGE-L and CIDEr-D: equal to COCO's own classes, and to what follows from their definitions."""

from __future__ import annotations

import doctest
import math
import random
from collections import Counter

import numpy as np
import pytest

from training_smoke.errors import TrainingError
from training_smoke.evaluate import caption_metrics
from training_smoke.evaluate.caption_metrics import References, distinct, words

WORDS = ["a", "the", "dog", "cat", "man", "two", "runs", "sits", "on", "in", "red", "snow", "ball", "with"]
CAPTIONS = [
    ["a dog runs on snow", "the dog runs", "a red dog sits on the snow with a ball"],
    ["two cats sit", "a cat and a cat"],
    ["the man runs in the snow", "the man runs in the snow"],
    ["a man with a ball", "man", "a man throws a red ball in the snow"],
]
SAID = ["a dog runs on the snow", "a cat", "the man sits", "a man with a red ball and a dog on a sofa"]


def drawn(seed: int, pictures: int = 60) -> tuple[list[str], list[list[str]]]:
    """Captions of common words, of one to fourteen; some say what a reference does, but for a word."""
    rng = random.Random(seed)

    def text() -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 14)))

    captions = [[text() for _ in range(rng.randint(1, 5))] for _ in range(pictures)]
    near = [" ".join([*rng.choice(some).split()[:-1], rng.choice(WORDS)]) for some in captions]
    return [rng.choice((text(), one)) for one in near], captions


def test_examples() -> None:
    assert doctest.testmod(caption_metrics).failed == 0


def test_words() -> None:
    said = "A man, in a blue-and-white shirt (it\u2019s the man's); 3 dogs don't run."
    assert words(said) == ["a", "man", "in", "a", "blue-and-white", "shirt", "it", "'s", "the", "man", "'s", "3",
                           "dogs", "don't", "run"]  # fmt: skip
    assert words("...") == []


# ---- a second implementation, from the papers, with loops over lists


def grams(text: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def cider_by_loops(said: list[str], captions: list[list[str]]) -> list[float]:
    corpus = [[c.split() for c in some] for some in captions]
    found = []
    for text, references in zip([s.split() for s in said], corpus, strict=True):
        total = 0.0
        for reference in references:
            for n in (1, 2, 3, 4):
                vectors = []
                for one in (text, reference):
                    vector = {}
                    for gram in grams(one, n):
                        having = sum(any(gram in grams(r, n) for r in some) for some in corpus)
                        idf = math.log(len(corpus)) - math.log(max(1, having))
                        vector[gram] = vector.get(gram, 0.0) + idf
                    vectors.append(vector)
                a, b = vectors
                lengths = [math.sqrt(sum(v * v for v in x.values())) for x in (a, b)]
                if all(lengths):
                    dot = sum(min(a[g], b[g]) * b[g] for g in a if g in b)
                    penalty = math.exp(-((len(text) - len(reference)) ** 2) / (2 * 6.0**2))
                    total += penalty * dot / (lengths[0] * lengths[1])
        found.append(10 * total / 4 / len(references))
    return found


def bleu_by_loops(said: list[str], captions: list[list[str]], upto: int) -> float:
    logs = 0.0
    length = sum(len(s.split()) for s in said)
    nearest = 0
    for text, references in zip(said, captions, strict=True):
        sizes = sorted(len(r.split()) for r in references)
        nearest += min(sizes, key=lambda size: abs(size - len(text.split())))  # sorted: the shorter of two
    for n in range(1, upto + 1):
        right = there = 0
        for text, references in zip(said, captions, strict=True):
            for gram, count in Counter(grams(text.split(), n)).items():
                there += count
                right += min(count, max(grams(r.split(), n).count(gram) for r in references))
        if not right:
            return 0.0
        logs += math.log(right / there) / upto
    return math.exp(logs) * min(1.0, math.exp(1 - nearest / length))


@pytest.mark.parametrize(("said", "captions"), [(SAID, CAPTIONS), drawn(0, 12)])
def test_a_second_implementation_agrees(said: list[str], captions: list[list[str]]) -> None:
    truth = References(captions)
    np.testing.assert_allclose(truth.cider_d(said), cider_by_loops(said, captions), rtol=1e-12, atol=1e-15)
    expected = [bleu_by_loops(said, captions, n) for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(truth.bleu(said), expected, rtol=1e-12, atol=0)


# ---- COCO's own


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_the_classes_of_coco(seed: int) -> None:
    """The words of these captions are the same by both rules; COCO's BLEU adds 1e-9 to its denominators."""
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge")
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    said, captions = drawn(seed)
    gts, res = dict(enumerate(captions)), {i: [text] for i, text in enumerate(said)}
    truth = References(captions)
    score, each = cider.Cider().compute_score(gts, res)
    np.testing.assert_allclose(truth.cider_d(said), each, rtol=1e-12, atol=1e-14)
    assert truth.cider_d(said).mean() == pytest.approx(score, rel=1e-12)
    _, each = rouge.Rouge().compute_score(gts, res)
    np.testing.assert_allclose(truth.rouge_l(said), each, rtol=1e-12)
    score, _ = bleu.Bleu(4).compute_score(gts, res, verbose=0)
    np.testing.assert_allclose(truth.bleu(said), score, rtol=1e-8)


# ---- what must hold


def test_a_caption_that_people_gave_is_the_best_there_is() -> None:
    captions = [["a b c d e"], ["f g h i j"], ["k l m n o"]]
    truth = References(captions)
    said = [c[0] for c in captions]
    assert truth.cider_d(said) == pytest.approx(10)
    assert truth.rouge_l(said) == pytest.approx(1)
    assert truth.bleu(said) == pytest.approx((1, 1, 1, 1))


def test_nothing_said_or_nothing_in_common_is_zero() -> None:
    truth = References([["a b c d"], ["e f g h"]])
    for said in (["", ""], ["x y z w", "x"], ["e f g h", "a b c d"]):
        assert truth.cider_d(said).tolist() == [0, 0]
        assert truth.rouge_l(said).tolist() == [0, 0]
    assert truth.bleu(["", ""]) == (0, 0, 0, 0)


def test_words_of_all_references_weigh_nothing() -> None:
    truth = References([["the one"], ["the other"]])
    assert truth.cider_d(["the", "the"]).tolist() == [0, 0]
    assert truth.cider_d(["one", "other"])[0] > 0


def test_distinct_looks_at_words() -> None:
    assert distinct(["A dog .", "a dog", "a cat"]) == pytest.approx(2 / 3)
    assert distinct(["same"] * 5) == pytest.approx(0.2)


def test_what_cannot_be_measured() -> None:
    with pytest.raises(TrainingError, match="each picture needs one"):
        References([["a"], []])
    with pytest.raises(TrainingError, match="each picture needs one"):
        References([])
    with pytest.raises(ValueError, match="1 captions for 2 pictures"):
        References([["a"], ["b"]]).cider_d(["a"])
