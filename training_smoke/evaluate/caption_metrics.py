"""How near captions come to those that people gave: BLEU, ROUGE-L and CIDEr-D, over words by one fixed rule.

    truth = References([["a dog runs", "the brown dog is running"], ["two cats"]])
    truth.cider_d(["a dog runs", "a cat"])                  # float64 [2]; its mean is the score of the set
    truth.rouge_l([...]), truth.bleu([...])
    distinct([...])

The numbers are those of the classes that COCO's captions are measured with (pycocoevalcap), given equal words. Words
here are a rule of one line; COCO's are Stanford's PTB tokeniser, a Java program. METEOR and SPICE need Java too, and
are left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training_smoke.errors import TrainingError

Gram = tuple[str, ...]
ORDERS = (1, 2, 3, 4)
SIGMA = 6.0  # of CIDEr-D, in words
BETA = 1.2  # of ROUGE-L: recall counts so many times precision
WORD = re.compile(r"'s\b|\w+(?:[-'](?!s\b)\w+)*")


def words(text: str) -> list[str]:
    """Lower case; runs of letters and digits, with hyphens and apostrophes inside; 's stands alone; no punctuation.

    >>> words("The dog's ball, a T-shirt & 2 men don't move.")
    ['the', 'dog', "'s", 'ball', 'a', 't-shirt', '2', 'men', "don't", 'move']
    """
    return WORD.findall(text.lower().replace("\u2019", "'"))


@dataclass(frozen=True)
class _Weighted:
    """A text as CIDEr sees it: by order, tf-idf of its n-grams and their norm; and how long it is."""

    grams: tuple[dict[Gram, float], ...]
    norms: tuple[float, ...]
    length: int


class References:
    """The captions that people gave of each picture, counted once for all that is measured against them."""

    def __init__(self, captions: Sequence[Sequence[str]]) -> None:
        """
        Args:
            captions: of each picture, at least one.

        Raises:
            TrainingError: no pictures, or one without a caption.
        """
        if not captions or not all(captions):
            raise TrainingError("captions are measured against those that people gave: each picture needs one")
        self.words = [[words(text) for text in texts] for texts in captions]
        self._counts = [[_grams(text) for text in texts] for texts in self.words]
        pictures = Counter(gram for texts in self._counts for gram in set().union(*texts))
        self._idf = {gram: math.log(len(captions) / count) for gram, count in pictures.items()}
        self._rarest = math.log(len(captions))  # of n-grams that no reference has
        self._weighted = [
            [self._weigh(counts, len(text)) for counts, text in zip(some, texts, strict=True)]
            for some, texts in zip(self._counts, self.words, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.words)

    # ------------------------------------------------------------------------------------------ CIDEr-D

    def cider_d(self, said: Sequence[str]) -> np.ndarray:
        """CIDEr-D of each caption; the set's is the mean. 0 to 10; papers print a hundred times the mean.

        10 x mean over n = 1..4 and over references r of exp(-(|c| - |r|)^2 / 2 sigma^2) x
        min(g(c), g(r)) . g(r) / (|g(c)| |g(r)|), g: counts of n-grams times ln(pictures / pictures with the n-gram in a
        reference), sigma = 6 words. Vedantam et al. 2015, "CIDEr", arXiv:1411.5726, section 6.

        >>> References([["a red ball"], ["a dog"]]).cider_d(["a red ball", "a red ball"]).round(4).tolist()
        [7.5, 0.0]

        ("a" is in both references and weighs nothing; there are no 4-grams.)

        Args:
            said: one caption a picture.

        Returns:
            float64 [pictures].
        """
        found = np.zeros(len(self))
        for i, (text, references) in enumerate(zip(self._split(said), self._weighted, strict=True)):
            own = self._weigh(_grams(text), len(text))
            found[i] = 10 * math.fsum(_alike(own, r) for r in references) / len(references)
        return found

    def _weigh(self, counts: Counter[Gram], length: int) -> _Weighted:
        grams: tuple[dict[Gram, float], ...] = tuple({} for _ in ORDERS)
        for gram, count in counts.items():
            grams[len(gram) - 1][gram] = count * self._idf.get(gram, self._rarest)
        norms = tuple(math.sqrt(math.fsum(w * w for w in some.values())) for some in grams)
        return _Weighted(grams, norms, max(length - 1, 0))  # COCO's counts bigrams: no word is as long as one

    # ------------------------------------------------------------------------------------------ ROUGE-L

    def rouge_l(self, said: Sequence[str]) -> np.ndarray:
        """(1 + b^2) p r / (r + b^2 p) of the longest common subsequence, b = 1.2; p and r each of the reference that it
        is highest for, as COCO's. Lin 2004, "ROUGE", section 3.

        >>> References([["the cat sat down", "a cat"]]).rouge_l(["the cat down"]).round(4).tolist()
        [0.8356]

        (All three words in order: p = 1, r = 3/4.)

        Returns:
            float64 [pictures].
        """
        return np.array(
            [_rouge(text, references) for text, references in zip(self._split(said), self.words, strict=True)]
        )

    # ------------------------------------------------------------------------------------------ BLEU

    def bleu(self, said: Sequence[str]) -> tuple[float, float, float, float]:
        """BLEU-1 to BLEU-4 of the whole set: geometric mean of the shares of n-grams that a reference has, each counted
        no more often than there, times exp(1 - r/c) where the set is shorter (c words) than its references (r words:
        of each picture's the nearest in length, the shorter of two). Papineni et al. 2002, section 2.3; not smoothed.

        >>> tuple(round(b, 4) for b in References([["the cat sat on the mat"]]).bleu(["the the cat sat"]))
        (0.6065, 0.4952, 0.4205, 0.0)

        (Precisions 1, 2/3, 1/2, 0; brevity exp(1 - 6/4).)
        """
        right, there = [0 for _ in ORDERS], [0 for _ in ORDERS]
        length = nearest = 0
        for text, texts, references in zip(self._split(said), self.words, self._counts, strict=True):
            length += len(text)
            nearest += min((abs(len(r) - len(text)), len(r)) for r in texts)[1]
            for gram, count in _grams(text).items():
                there[len(gram) - 1] += count
                right[len(gram) - 1] += min(count, max(r[gram] for r in references))
        if not length:
            return (0.0, 0.0, 0.0, 0.0)
        brevity = min(1.0, math.exp(1 - nearest / length))
        shares = [r / t if t else 0.0 for r, t in zip(right, there, strict=True)]
        one, two, three, four = (brevity * math.prod(shares[:n]) ** (1 / n) for n in ORDERS)
        return (one, two, three, four)

    def _split(self, said: Sequence[str]) -> list[list[str]]:
        if len(said) != len(self):
            raise ValueError(f"{len(said)} captions for {len(self)} pictures")
        return [words(text) for text in said]


def distinct(said: Sequence[str]) -> float:
    """How many different captions there are, by their words, as a share of all. A model that says one sentence of all
    pictures: 1 / n.

    >>> distinct(["A dog.", "a dog", "a cat", "two cats"])
    0.75
    """
    return len({tuple(words(text)) for text in said}) / len(said)


def _grams(text: Sequence[str]) -> Counter[Gram]:
    """n-grams of all orders."""
    return Counter(tuple(text[i : i + n]) for n in ORDERS for i in range(len(text) - n + 1))


def _alike(own: _Weighted, other: _Weighted) -> float:
    """Mean over orders of clipped cosines, with the penalty of length."""
    total = 0.0
    for mine, theirs, a, b in zip(own.grams, other.grams, own.norms, other.norms, strict=True):
        if a and b:
            total += math.fsum(min(w, theirs[g]) * theirs[g] for g, w in mine.items() if g in theirs) / (a * b)
    return total / len(ORDERS) * math.exp(-((own.length - other.length) ** 2) / (2 * SIGMA**2))


def _rouge(text: list[str], references: Sequence[list[str]]) -> float:
    common = [(_common(text, r), len(r)) for r in references if r]
    if not text or not any(c for c, _ in common):
        return 0.0
    precision = max(c for c, _ in common) / len(text)
    recall = max(c / n for c, n in common)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = row
        row = [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if word == other else max(row[j], before[j + 1]))
    return row[-1]
