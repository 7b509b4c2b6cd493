"""Questions with answers, made of captions by rules: what a model that talks is trained and examined by.

    questions_of("Two brown dogs run on the beach .")
    # [("how many dogs are there?", "two"), ("where is this?", "at the beach"), ..., ("is there a man?", "no")]

    sure_questions(all five captions of a picture)          # for held-out sets: what two of them say and none denies
    balanced(sure questions of each picture of a set)       # no answer of a question oftener than all its others

English captions of photographs, words of `training_smoke.question_words`. One caption leaves much out, so a "no" made
of one is a guess, if a good one: what its words leave open is not asked (of "two people": whether there is a woman).
All is a function of the text: the same captions, the same questions, on every machine.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import xxhash

from training_smoke.question_words import BEINGS, COLORED, COLORS, CONCEPTS, DOING, NUMBERS, PLACES, SEVERAL, Concept

Question = tuple[str, str]
"""(question, answer)."""

ASKED = 1  # of what a caption names: yes-questions, and as many with the answer no
AGREE = 2  # captions that have to say the same of a picture

_WORD = re.compile(r"[a-z]+")


def questions_of(caption: str) -> list[Question]:
    """What one caption answers, in an order drawn by its text: take as many from the front as there is room for.

    Yes or no stands behind all else. It is an answer to question and picture together, and learned last; a short
    training that spends itself on it learns neither.
    """
    said = _words(caption)
    yes = _by_chance({c.question: 1 / c.weight for c in CONCEPTS if _named(c, said)}, f"yes/{caption}")[:ASKED]
    no = _by_chance({c.question: c.weight for c in CONCEPTS if not _open(c, said)}, f"no/{caption}")[: len(yes)]
    answers = dict.fromkeys(yes[: len(no)], "yes") | dict.fromkeys(no, "no")
    parts = (dict(_told(said)), answers)
    drawn = [(part, _by_chance(dict.fromkeys(part, 1.0), f"order/{caption}")) for part in parts]
    return [(question, part[question]) for part, order in drawn for question in order]


def sure_questions(captions: Sequence[str]) -> list[Question]:
    """What all captions of a picture together answer surely, in the order of the tables, each question once.

    "no": not one of them names it, nor a word that leaves it open. All else: at least two say it and none says other.
    """
    every = [_words(caption) for caption in captions]
    found = []
    for concept in CONCEPTS:
        if sum(_named(concept, said) for said in every) >= AGREE:
            found.append((concept.question, "yes"))
        elif every and not any(_open(concept, said) for said in every):
            found.append((concept.question, "no"))
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for said in every:
        for question, answer in _told(said):
            votes[question][answer] += 1
    for question, answers in sorted(votes.items()):
        ((answer, count),) = answers.most_common(1)
        if len(answers) == 1 and count >= AGREE:
            found.append((question, answer))
    return found


def balanced(questions: Sequence[Sequence[Question]]) -> list[list[Question]]:
    """Of questions about many pictures, so many left out that none has one answer oftener than all others together.

    Who always says a question's commonest answer is then right half of the time at most, in yes and no exactly half,
    as VQA v2.0 is balanced (Goyal et al. 2017). Which are left out is drawn by the question and the picture's place.

    >>> balanced([[("is there a dog?", "yes")], [("is there a dog?", "no"), ("where is this?", "at the beach")], []])
    [[('is there a dog?', 'yes')], [('is there a dog?', 'no')], []]
    """
    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, own in enumerate(questions):
        for question, answer in own:
            places[question][answer].append(number)
    left_out: set[tuple[Question, int]] = set()
    for question, answers in places.items():
        commonest = max(sorted(answers), key=lambda answer: len(answers[answer]))
        others = sum(map(len, answers.values())) - len(answers[commonest])
        drawn = sorted(answers[commonest], key=lambda n: _hash(f"{question}/{n}"))
        left_out |= {((question, commonest), number) for number in drawn[others:]}
    return [[one for one in own if (one, n) not in left_out] for n, own in enumerate(questions)]


# ------------------------------------------------------------------------------------------ what a caption tells


def _words(caption: str) -> list[str]:
    return _WORD.findall(caption.lower())


def _named(concept: Concept, said: list[str]) -> bool:
    return not concept.named.isdisjoint(said)


def _open(concept: Concept, said: list[str]) -> bool:
    return _named(concept, said) or not concept.unsure.isdisjoint(said)


def _told(said: list[str]) -> Iterator[Question]:
    """Open questions that a caption answers; none that it answers in two ways."""
    found = [*_counts(said), *_colors(said), *_doings(said), *_place(said), *_shown(said)]
    answers: dict[str, set[str]] = defaultdict(set)
    for question, answer in found:
        answers[question].add(answer)
    yield from ((question, next(iter(own))) for question, own in answers.items() if len(own) == 1)


def _counts(said: list[str]) -> Iterator[Question]:
    """ "two small dogs": two; "a dog", and nothing of further dogs: one."""
    beings = [(i, *BEINGS[word]) for i, word in enumerate(said) if word in BEINGS]
    mentioned = Counter(one for _, one, _, _ in beings)
    for i, one, many, single in beings:
        before = next((w for w in reversed(said[max(0, i - 4) : i]) if w in NUMBERS or w in BEINGS), None)
        number = NUMBERS.get(before or "")
        if number is None or mentioned[one] > 1 or (number == "one") is not single:
            continue
        if number != "one" or not {"another", "other", "others"} & {*said}:
            yield f"how many {many} are there?", number


def _colors(said: list[str]) -> Iterator[Question]:
    """ "a black and white dog": black and white; a thing that is named twice may be two things."""
    for i, thing in enumerate(said):
        if thing not in COLORED or said.count(thing) > 1 or f"{thing}s" in said:
            continue
        start = i
        while start and (said[start - 1] in COLORS or (said[start - 1] == "and" and said[start] in COLORS)):
            start -= 1
        colors = sorted({COLORS[w] for w in said[start:i] if w in COLORS})
        if colors:
            be = "are" if thing in SEVERAL else "is"
            yield f"what color {be} the {thing}?", " and ".join(colors)


def _doings(said: list[str]) -> Iterator[Question]:
    """The first action after a being, and before the next one."""
    for i, word in enumerate(said):
        if word not in BEINGS or said.count(word) > 1:
            continue
        one, many, single = BEINGS[word]
        for later in said[i + 1 :]:
            if later in BEINGS or later == "and":
                break
            if later in DOING:
                yield f"what {'is' if single else 'are'} the {one if single else many} doing?", DOING[later]
                break


def _place(said: list[str]) -> Iterator[Question]:
    there = [place for place, words in PLACES.items() if not words.isdisjoint(said)]
    if len(there) == 1:
        yield "where is this?", there[0]


def _shown(said: list[str]) -> Iterator[Question]:
    """The first that a caption names is what it is about."""
    first = next((BEINGS[word] for word in said if word in BEINGS), None)
    if first is not None:
        one, many, single = first
        yield "what is in the picture?", f"a {one}" if single else many


# ------------------------------------------------------------------------------------------ draws


def _hash(text: str) -> int:
    return int(xxhash.xxh3_64_intdigest(text.encode()))


def _by_chance(weights: Mapping[str, float], salt: str) -> list[str]:
    """In a keyed order; who has twice the weight is twice as likely to be first.

    The order of independent waiting times with these rates: Efraimidis and Spirakis 2006, Information Processing
    Letters 97(5), algorithm A-ES.
    """
    waits = {item: -math.log((_hash(f"{salt}/{item}") + 1) / 2**64) / weight for item, weight in weights.items()}
    return sorted(waits, key=lambda item: waits[item])
