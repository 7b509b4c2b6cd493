"""Objects of a parsed caption and the relations among them; `stages.caption_graph` says what counts as which.

    graph = relations(nlp("A black cat is chasing a small brown bird."))
    graph.of          # {2: 2, 8: 3}: relations by the object's place in the text
    graph.complexity, graph.actions      # 3, 1

Written against the labels of spaCy's English parsers (ClearNLP's).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

LABELS = frozenset({"nsubj", "dobj", "pobj", "prep", "amod", "acl", "conj"})
"""Labels that a parser must have to be one of these."""

SUBJECTS = ("nsubj", "nsubjpass")
OBJECTS = ("dobj", "dative")
HOPS = 100
"""Words joined to one word, or heads above it, that are looked at: what has more is a list of key words."""
PLACES = frozenset(["back", "bottom", "center", "centre", "edge", "foot", "front", "middle", "midst", "side", "top"])
"""Nouns that make one preposition with those around them: in front of, on top of, at the foot of."""


@dataclass
class Graph:
    """of: place of an object -> number of its relations. actions: verbs that at least one object takes part in."""

    of: Counter[int] = field(default_factory=Counter)
    actions: int = 0

    @property
    def complexity(self) -> int:
        return max(self.of.values(), default=0)

    def add(self, taking_part: set[int]) -> None:
        self.of.update(taking_part)


def relations(doc: Any) -> Graph:
    """The graph of a spaCy Doc with parts of speech and dependencies."""
    graph = Graph()
    for token in doc:
        if token.pos_ in ("NOUN", "PROPN"):
            for _ in _attributes(token):
                graph.add({token.i})
        elif token.pos_ == "VERB":
            taking_part = _subjects(token) | _objects(token)
            graph.add(taking_part)
            graph.actions += bool(taking_part)
        elif token.pos_ == "AUX":
            _said_by_be(token, graph)
        if token.dep_ == "prep":
            _preposition(token, graph)
    return graph


def _said_by_be(be: Any, graph: Graph) -> None:
    """ "The cat is black" is an attribute, "she is a pianist" a relation of both."""
    for child in be.children:
        if child.dep_ == "acomp":
            for _ in _with_conjuncts(child):
                graph.add(_subjects(be))
        elif child.dep_ == "attr":
            graph.add(_subjects(be) | _all_of(child))


def _preposition(prep: Any, graph: Graph) -> None:
    behind: set[int] = set()
    for child in prep.children:
        if child.dep_ == "pobj" and not (_is_place(child) and _of(child) is not None):
            behind |= _all_of(child)
    before = _before(prep)
    if before and behind:
        graph.add(before | behind)


def _before(prep: Any) -> set[int]:
    """What a preposition hangs on: a noun, the subjects of a verb or of "is"; of "of" in "in front of", of "in"."""
    head = prep.head
    for _ in range(HOPS):
        if head.dep_ == "prep" and head.i != prep.i:  # "out of the house": two in a row
            prep = head
        elif head.dep_ == "pobj" and prep.lower_ == "of" and _is_place(head):
            prep = head.head
        else:
            break
        head = prep.head
    if head.pos_ in ("NOUN", "PROPN"):
        return _all_of(head)
    if head.pos_ in ("VERB", "AUX"):
        return _subjects(head)
    if head.dep_ in ("amod", "advmod", "acomp") and head.head.i != head.i:  # "a piano next to a woman"
        above = head.head
        return _all_of(above) if above.pos_ in ("NOUN", "PROPN") else _subjects(above)
    return set()


def _is_place(token: Any) -> bool:
    return token.lower_ in PLACES


def _of(token: Any) -> Any | None:
    return next((child for child in token.children if child.dep_ == "prep" and child.lower_ == "of"), None)


def _attributes(noun: Any) -> Iterator[Any]:
    for child in noun.children:
        if child.dep_ in ("amod", "nummod"):
            yield from _with_conjuncts(child)


def _with_conjuncts(token: Any) -> Iterator[Any]:
    """The token, and what is joined to it by "and", of its own kind: HOPS of them at most."""
    left = [token]
    for _ in range(HOPS):
        if not left:
            return
        found = left.pop()
        yield found
        joined = [child for child in found.children if child.dep_ == "conj" and child.pos_ == found.pos_]
        left += reversed(joined)


def _all_of(token: Any) -> set[int]:
    """Places of the noun and of nouns that are joined to it; a pronoun is no object."""
    if token.pos_ not in ("NOUN", "PROPN"):
        return set()
    return {found.i for found in _with_conjuncts(token) if found.pos_ in ("NOUN", "PROPN")}


def _subjects(verb: Any) -> set[int]:
    """Who does it, or has it done: subjects; the noun that the verb stands behind ("a man riding"); else those of the
    verb that it is joined to ("and holding"). "Which" and "that" stand for the noun before them."""
    found: set[int] = set()
    for _ in range(HOPS):
        for child in verb.children:
            if child.dep_ in SUBJECTS:
                found |= _all_of(child)
        if verb.dep_ in ("acl", "relcl"):
            found |= _all_of_up_to(verb.head)
        if found or verb.dep_ not in ("conj", "xcomp", "advcl", "ccomp") or verb.head.i == verb.i:
            break
        verb = verb.head
    return found


def _all_of_up_to(noun: Any) -> set[int]:
    """The noun and those that it is joined to: in "a man and a woman sitting" the verb hangs on the woman only."""
    above = noun
    for _ in range(HOPS):
        if above.dep_ != "conj" or above.head.pos_ not in ("NOUN", "PROPN"):
            break
        above = above.head
    return _all_of(above) | _all_of(noun)


def _objects(verb: Any) -> set[int]:
    found: set[int] = set()
    for child in verb.children:
        if child.dep_ in OBJECTS:
            found |= _all_of(child)
        elif child.dep_ == "agent":  # "played by a woman"
            found |= {at for behind in child.children if behind.dep_ == "pobj" for at in _all_of(behind)}
    return found
