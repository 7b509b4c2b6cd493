"""Parts of speech by a tagger of one's choice, in six kinds that rules on captions speak of.

    tagger = load("hanta")                      # or a pipeline of spaCy's: "en_core_web_sm", "/path/to/pipeline"
    tagger(["A dog on the beach."])             # [["DET", "NOUN", "ADP", "DET", "NOUN"]]: punctuation is no word

Kinds are named as in Universal Dependencies: NOUN, PROPN, DET, ADP (prepositions), VERB (auxiliaries too), ADJ; X is
any other word. Two taggers do not agree on every word, nor on what a word is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stages import spacy_model

HANTA = "hanta"
HANTA_MODEL = "morphmodel_en.pgz"
LONGEST_WORD = 40  # HanTa's time grows with the square of a word's length; longer ones are cut for it

Tagger = Callable[[Sequence[str | None]], list[list[str] | None]]

WORD = re.compile(
    r"(?:https?://|www\.)\S+"  # an address is one word
    r"|\w+(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b"  # do n't, dog 's
    r"|\d+(?:[.,:]\d+)+|\w+(?:[-_.@&]\w+)*|[^\w\s]",
    re.IGNORECASE,
)


def settled(tagger: str) -> str:
    return tagger if tagger == HANTA else spacy_model.settled(tagger)


def files(tagger: str) -> tuple[str, ...]:
    """The tagger's model.

    Raises:
        ValueError: it is not here; says what to do.
    """
    return (str(_hanta_model()),) if tagger == HANTA else spacy_model.files(tagger)


def load(tagger: str, most: int = 4000) -> Tagger:
    """A function from texts to the kinds of their words; None to None. Of a text the first `most` characters count.

    Raises:
        ValueError: the tagger is not here, or tags no parts of speech.
    """
    return _hanta(most) if tagger == HANTA else _spacy(tagger, most)


# ---------------------------------------------------------------- HanTa: tags of the British National Corpus (C5)


def hanta_words(text: str) -> list[str]:
    """Words as HanTa's training text has them: clitics split off, numbers, addresses and hyphenated words whole."""
    return WORD.findall(text.replace("’", "'"))


def kind_of_c5(tag: str) -> str | None:
    """The kind of a tag of C5; None for punctuation."""
    if tag.startswith("PU"):
        return None
    if tag == "NP0":
        return "PROPN"
    for start, kind in (("NN", "NOUN"), ("V", "VERB"), ("AJ", "ADJ")):
        if tag.startswith(start):
            return kind
    return {"AT0": "DET", "DT0": "DET", "DTQ": "DET", "PRP": "ADP", "PRF": "ADP"}.get(tag, "X")


def _hanta_model() -> Path:
    package = find_spec("HanTa")
    if package is None or package.origin is None:
        raise ValueError(f"the tagger HanTa is not installed: {spacy_model.INSTALL}, or name a pipeline of spaCy's")
    return Path(package.origin).parent / HANTA_MODEL


def _hanta(most: int) -> Tagger:
    model = _hanta_model()
    from HanTa.HanoverTagger import HanoverTagger

    tagger = HanoverTagger(str(model))

    def tags(text: str) -> list[str]:
        words = [word[:LONGEST_WORD] for word in hanta_words(text[:most])]
        found = zip(words, tagger.tag_sent(words, taglevel=0), strict=True)
        kinds = [kind_of_c5(tag) if word[-1].isalnum() or word[0].isalnum() else None for word, tag in found]
        return [kind for kind in kinds if kind is not None]

    return lambda texts: [None if text is None else tags(text) for text in texts]


# ---------------------------------------------------------------- spaCy: Universal Dependencies

_NO_WORDS = ("PUNCT", "SPACE", "SYM")
_KINDS = {"AUX": "VERB", **{kind: kind for kind in ("NOUN", "PROPN", "DET", "ADP", "VERB", "ADJ")}}


def _spacy(model: str, most: int) -> Tagger:
    nlp = spacy_model.load(model, without=("ner", "lemmatizer", "parser", "senter"))
    if not nlp("A dog runs").has_annotation("POS"):
        raise ValueError(f"the pipeline {model!r} gives words no part of speech: it has {', '.join(nlp.pipe_names)}")

    def kinds(doc: Any) -> list[str]:
        return [_KINDS.get(token.pos_, "X") for token in doc if token.pos_ not in _NO_WORDS]

    return lambda texts: [None if doc is None else kinds(doc) for doc in spacy_model.docs(nlp, texts, most)]
