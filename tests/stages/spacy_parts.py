"""Parses of spaCy's English pipeline, as en_core_web_sm 3.8.0 made them, and a tiny pipeline that learns them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

# words as word/part of speech/dependency/place of the head
CHASING = (
    "A/DET/det/2 black/ADJ/amod/2 cat/NOUN/nsubj/4 is/AUX/aux/4 chasing/VERB/ROOT/4 a/DET/det/8 small/ADJ/amod/8 "
    "brown/ADJ/amod/8 bird/NOUN/dobj/4 ./PUNCT/punct/4"
)
BENCH = (
    "A/DET/det/1 man/NOUN/ROOT/1 and/CCONJ/cc/1 a/DET/det/4 woman/NOUN/conj/1 sitting/VERB/acl/4 on/ADP/prep/5 "
    "a/DET/det/8 bench/NOUN/pobj/6 in/ADP/prep/5 front/NOUN/pobj/9 of/ADP/prep/10 a/DET/det/13 house/NOUN/pobj/11"
)
PIANIST = "The/DET/det/1 woman/NOUN/nsubj/2 is/AUX/ROOT/2 a/DET/det/4 pianist/NOUN/attr/2"
CARS = "two/NUM/nummod/4 red/ADJ/amod/4 and/CCONJ/cc/1 blue/ADJ/conj/1 cars/NOUN/nsubj/5 parked/VERB/ROOT/5"
PLAYED = (
    "The/DET/det/1 piano/NOUN/nsubjpass/3 is/AUX/auxpass/3 played/VERB/ROOT/3 by/ADP/agent/3 a/DET/det/6 "
    "woman/NOUN/pobj/4"
)
SHOES = "Vintage/PROPN/compound/1 Nike/PROPN/compound/2 shoes/NOUN/ROOT/2"
BEACH = "dog/NOUN/ROOT/0 on/ADP/prep/0 the/DET/det/3 beach/NOUN/pobj/1"
BLACK = "The/DET/det/1 cat/NOUN/nsubj/2 is/AUX/ROOT/2 black/ADJ/acomp/2"
RIDING = (
    "a/DET/det/1 man/NOUN/ROOT/1 riding/VERB/acl/1 a/DET/det/4 horse/NOUN/dobj/2 and/CCONJ/cc/2 "
    "holding/VERB/conj/2 a/DET/det/8 rope/NOUN/dobj/6"
)
SNOW = "a/DET/det/1 dog/NOUN/ROOT/1 which/PRON/nsubj/4 is/AUX/aux/4 running/VERB/relcl/1 in/ADP/prep/4 snow/NOUN/pobj/5"
TABLE = (
    "a/DET/det/1 cup/NOUN/ROOT/1 of/ADP/prep/1 tea/NOUN/pobj/2 on/ADP/prep/1 top/NOUN/pobj/4 of/ADP/prep/5 "
    "a/DET/det/8 table/NOUN/pobj/6"
)
NEXT = "a/DET/det/1 piano/NOUN/ROOT/1 next/ADV/advmod/1 to/ADP/prep/2 a/DET/det/5 woman/NOUN/pobj/3"
HE = "he/PRON/nsubj/1 runs/VERB/ROOT/1"
PARSES = (CHASING, BENCH, PIANIST, CARS, PLAYED, SHOES, BEACH, BLACK, RIDING, SNOW, TABLE, NEXT, HE)


def spacy() -> Any:
    return pytest.importorskip("spacy", reason="spaCy is not installed: its pipelines are not tested")


def parsed(rows: str) -> Any:
    """The Doc of words as they stand above."""
    from spacy.tokens import Doc

    words, kinds, labels, heads = zip(*(row.split("/") for row in rows.split()), strict=True)
    vocabulary = spacy().blank("en").vocab
    return Doc(vocabulary, words=list(words), pos=list(kinds), deps=list(labels), heads=[int(head) for head in heads])


def save_pipeline(folder: Path, tags: bool = True, parses: bool = True, renamed: str = "", steps: int = 0) -> str:
    """A small tagger and parser in a folder, which have seen the captions above `steps` times and no others.

    renamed: what comes before each of the parser's labels, as if it were of another scheme.
    """
    from spacy.training import Example

    nlp = spacy().blank("en")
    if tags:
        nlp.add_pipe("morphologizer")
    if parses:
        nlp.add_pipe("parser", config={"min_action_freq": 1})
    docs = [parsed(rows) for rows in PARSES]
    for token in (token for doc in docs for token in doc):
        token.set_morph({"POS": token.pos_})
        token.dep_ = token.dep_ if token.dep_ == "ROOT" else renamed + token.dep_
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in docs]
    spacy().util.fix_random_seed(1)
    if nlp.pipe_names:
        optimizer = nlp.initialize(lambda: examples)
        optimizer.learn_rate = 0.01
        for _ in range(steps):
            nlp.update(examples, sgd=optimizer)
    nlp.to_disk(folder)
    return str(folder)
