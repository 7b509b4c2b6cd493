"""What is measured of a model on a set: by the kind of set, and by what the model is able to do.

    asked = Asked(source, "test", objective, Effort(), second=None)
    measured(model, asked).main, measured(model, asked).found.metrics

retrieval (captions): with vectors retrieval, where the model writes captions and their likelihood, where it matches
    that, and where it has vectors too re-ranking. Main metric: cider where it writes, else mean_recall@1.
classification: with vectors zero-shot, else where it writes by likelihood. acc1.
multilabel: with vectors. mean_average_precision.
vqa (questions): where it answers. exact_match.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from functools import partial

from training_smoke.abilities import Answerer, Captioner, Encoders, Matcher
from training_smoke.errors import TrainingError
from training_smoke.evaluate.answers import answering, questions
from training_smoke.evaluate.captions import captions
from training_smoke.evaluate.continuous import Objective
from training_smoke.evaluate.effort import Effort
from training_smoke.evaluate.folders import Folder
from training_smoke.evaluate.likelihood import by_likelihood, too_many
from training_smoke.evaluate.matching import matching
from training_smoke.evaluate.measured import Measured
from training_smoke.evaluate.measures import Captioned, classification, encode_pairs, multilabel, retrieved
from training_smoke.evaluate.pictures import at, part
from training_smoke.evaluate.rerank import reranked
from training_smoke.evaluate.tables import CaptionTable

MAIN = ("cider", "exact_match", "acc1", "mean_average_precision", "mean_recall@1", "itm_accuracy")
"""Main metrics of sets that are not DataComp's: the first that was measured."""

BY_VECTORS = {"classification": classification, "multilabel": multilabel}

METHODS = {
    "vectors": ("encode_images", "encode_texts"),
    "looks": ("image_vectors",),
    "writes": ("caption", "caption_loss"),
    "matches": ("match",),
    "answers": ("answer",),
}
"""Abilities by the methods that a model, or its class, has of `training_smoke.abilities`."""

GIVEN = {
    ("retrieval", "vectors"): ("mean_recall@1", "image_retrieval_", "text_retrieval_"),
    ("retrieval", "writes"): ("cider", "bleu", "rouge_l", "caption_"),
    ("retrieval", "matches"): ("itm_",),
    ("vqa", "answers"): ("exact_match", "vqa_accuracy", "distinct_answers"),
    ("classification", "vectors"): ("acc1", "acc5", "mean_per_class_recall", "F1-"),
    ("classification", "writes"): ("acc1", "acc5", "mean_per_class_recall", "F1-"),
    ("multilabel", "vectors"): ("mean_average_precision",),
}
"""What names of metrics begin with that come of a kind of set and an ability, as far as they come of no other."""


class NotAble(TrainingError):
    """A set asks for what the model cannot do."""


@dataclass(frozen=True)
class Asked:
    """objective: the model's own, where it has one besides itself. second: another model, for CLIPScore."""

    source: Captioned
    split: str = "test"
    objective: Objective | None = None
    effort: Effort = field(default_factory=Effort)
    second: Encoders | None = None

    @property
    def kind(self) -> str:
        return self.source.kind if isinstance(self.source, Folder) else "retrieval"


@dataclass(frozen=True)
class Answer:
    """task: CLIP_benchmark's name of it, where it has one. main: the metric that stands for all."""

    task: str
    main: str
    found: Measured


def abilities_of(model: object) -> frozenset[str]:
    """Of a model, or of its class, before there is one."""
    return frozenset(name for name, methods in METHODS.items() if all(hasattr(model, m) for m in methods))


def unable(able: Set[str], source: object, effort: Effort | None = None) -> str | None:
    """Why a model of such abilities cannot be measured on a set, where it cannot; known before there is a model.

    Args:
        source: an opened set.
    """
    if not isinstance(source, Folder):
        return None if "vectors" in able or _has_captions(source, able) else "the model has no vectors"
    if source.kind == "retrieval":
        return None if _has_captions(source, able) else f"{source.path} has captions, and the model {NOTHING}"
    if source.kind == "vqa":
        return None if "answers" in able else f"{source.path} asks questions, and the model answers none"
    if "vectors" in able:
        return None
    if source.kind == "classification" and "writes" in able:
        return too_many(source, effort or Effort())
    return f"{source.path} is a set of the kind {source.kind}, and the model has no vectors of pictures and texts"


NOTHING = "has no vectors, writes nothing and matches nothing"


def _has_captions(source: object, able: Set[str]) -> bool:
    """Does it, and is anything measured of such a model on them?"""
    captions = isinstance(source, CaptionTable) or (isinstance(source, Folder) and source.kind == "retrieval")
    return captions and bool({"vectors", "writes", "matches"} & able)


def gives(able: Set[str], kind: str, metric: str) -> bool | None:
    """Does a set of this kind give such a model this metric? None: its name does not tell."""
    of = [key for key, names in GIVEN.items() if metric.startswith(names)]
    return any(kind == one and ability in able for one, ability in of) if of else None


def used(able: Set[str], kind: str) -> frozenset[str]:
    """The fields of `Effort` that count for such a model on a set of this kind, and "second"."""
    if kind == "retrieval":
        seen = {"pictures"} if {"writes", "matches"} & able else set()
        return frozenset(seen | ({"beams", "second"} if "writes" in able else set()))
    if kind == "vqa":
        return frozenset({"questions"} if "answers" in able else ())
    return frozenset(
        {"pictures", "pairs"} if kind == "classification" and able & {"vectors", "writes"} == {"writes"} else ()
    )


def measured(model: object, asked: Asked) -> Answer:
    """
    Raises:
        NotAble: the model can do nothing that the set asks for.
        TrainingError: the set, a sample or what the model says is not as it should be.
    """
    if reason := unable(abilities_of(model), asked.source, asked.effort):
        raise NotAble(reason)
    if asked.kind == "retrieval":
        return _of_captions(model, asked)
    if asked.kind == "vqa":
        return _of_questions(model, asked)
    if isinstance(model, Encoders):
        return by_vectors(model, asked)
    assert isinstance(asked.source, Folder)
    assert isinstance(model, Captioner)
    found = by_likelihood(model, asked.source, asked.split, asked.effort)
    return _answer("zeroshot_classification", found)


def by_vectors(model: object, asked: Asked) -> Answer:
    """As a model of two towers is measured, whatever else it is able to do: what DataComp's tasks are.

    Raises:
        NotAble: it has no vectors.
        TrainingError: as `measured`.
    """
    if not isinstance(model, Encoders):
        raise NotAble(f"{asked.source.path} is measured by vectors of pictures and texts, and the model has none")
    if asked.kind == "retrieval":
        pairs = encode_pairs(model, asked.source, asked.split)
        return _answer("zeroshot_retrieval", retrieved(pairs, asked.objective))
    if not isinstance(asked.source, Folder) or asked.kind not in BY_VECTORS:
        raise NotAble(f"{asked.source.path} is a set of the kind {asked.kind}: vectors are no answer to it")
    found = BY_VECTORS[asked.kind](model, asked.source, asked.split, asked.objective)
    return _answer("zeroshot_classification", found)


def _of_questions(model: object, asked: Asked) -> Answer:
    assert isinstance(model, Answerer)
    source = asked.source
    some = questions(source.samples(asked.split), model.image_size, asked.effort.questions, source.path)
    return _answer("vqa", answering(model, some))


def _of_captions(model: object, asked: Asked) -> Answer:
    """Retrieval, captions and matching, whichever the model is able to do."""
    found, source = Measured({}), asked.source
    pairs = encode_pairs(model, source, asked.split) if isinstance(model, Encoders) else None
    if pairs is not None:
        found += retrieved(pairs, asked.objective)
    if isinstance(model, Captioner | Matcher):
        size = model.image_size
        some = part(source.samples(asked.split), size, asked.effort.pictures, source.path)
        counts = {"n": len(some), "n_set": some.total}
        found += Measured(counts | ({} if pairs is None else {"n_retrieved": len(pairs.images)}))
        if isinstance(model, Captioner):
            found += captions(model, some, asked.effort, asked.second)
        if isinstance(model, Matcher):
            found += matching(model, some)
        if isinstance(model, Matcher) and pairs is not None:
            fetch = partial(at, source, asked.split, size)
            found += reranked(model, pairs, fetch, asked.effort)
    return _answer("captioning" if isinstance(model, Captioner) else "zeroshot_retrieval", found)


def _answer(task: str, found: Measured) -> Answer:
    return Answer(task, next(name for name in MAIN if name in found.metrics), found)
