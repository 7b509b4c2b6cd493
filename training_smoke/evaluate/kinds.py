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

from dataclasses import dataclass, field
from functools import partial

from training_smoke.abilities import Answerer, Captioner, Encoders, Matcher
from training_smoke.errors import TrainingError
from training_smoke.evaluate.answers import answering, questions
from training_smoke.evaluate.captions import captions
from training_smoke.evaluate.continuous import Objective
from training_smoke.evaluate.effort import Effort
from training_smoke.evaluate.folders import Folder
from training_smoke.evaluate.likelihood import by_likelihood
from training_smoke.evaluate.matching import matching
from training_smoke.evaluate.measured import Measured
from training_smoke.evaluate.measures import Captioned, classification, encode_pairs, multilabel, retrieved
from training_smoke.evaluate.pictures import at, part
from training_smoke.evaluate.rerank import reranked

MAIN = ("cider", "exact_match", "acc1", "mean_average_precision", "mean_recall@1", "itm_accuracy")
"""Main metrics of sets that are not DataComp's: the first that was measured."""

BY_VECTORS = {"classification": classification, "multilabel": multilabel}


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


def measured(model: object, asked: Asked) -> Answer:
    """
    Raises:
        NotAble: the model can do nothing that the set asks for.
        TrainingError: the set, a sample or what the model says is not as it should be.
    """
    path = asked.source.path
    if asked.kind == "retrieval":
        return _of_captions(model, asked)
    if asked.kind == "vqa":
        return _of_questions(model, asked)
    if isinstance(model, Encoders):
        return by_vectors(model, asked)
    if asked.kind == "classification" and isinstance(model, Captioner):
        assert isinstance(asked.source, Folder)
        found = by_likelihood(model, asked.source, asked.split, asked.effort)
        return _answer("zeroshot_classification", found)
    raise NotAble(f"{path} is a set of the kind {asked.kind}, and the model has no vectors of pictures and texts")


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
    if not isinstance(model, Answerer):
        raise NotAble(f"{asked.source.path} asks questions, and the model answers none")
    some = questions(asked.source.samples(asked.split), model.image_size, asked.effort.questions)
    return _answer("vqa", answering(model, some))


def _of_captions(model: object, asked: Asked) -> Answer:
    """Retrieval, captions and matching, whichever the model is able to do."""
    found, source = Measured({}), asked.source
    pairs = encode_pairs(model, source, asked.split) if isinstance(model, Encoders) else None
    if pairs is not None:
        found += retrieved(pairs, asked.objective)
    if isinstance(model, Captioner | Matcher):
        size = model.image_size
        some = part(source.samples(asked.split), size, asked.effort.pictures)
        found += Measured({"n": len(some)} | ({} if pairs is None else {"n_retrieved": len(pairs.images)}))
        if isinstance(model, Captioner):
            found += captions(model, some, asked.effort, asked.second)
        if isinstance(model, Matcher):
            found += matching(model, some)
        if isinstance(model, Matcher) and pairs is not None:
            fetch = partial(at, source, asked.split, size)
            found += reranked(model, pairs, fetch, asked.effort)
    if not found.metrics:
        raise NotAble(f"{source.path} has captions, and the model has no vectors, writes nothing and matches nothing")
    return _answer("captioning" if isinstance(model, Captioner) else "zeroshot_retrieval", found)


def _answer(task: str, found: Measured) -> Answer:
    return Answer(task, next(name for name in MAIN if name in found.metrics), found)
