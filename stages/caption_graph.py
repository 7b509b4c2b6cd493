"""What a caption says happens among which things: how much is said of one thing, and how many actions there are.

    stage = CaptionGraph(model="en_core_web_sm")
    stage.run(Batch.of(pa.table({"text": ["A black cat is chasing a small brown bird."]})))   # complexity 3, actions 1

    columns:                                                           # in a recipe
      - caption_graph: {model: en_core_web_sm}
    filters:
      - {id: cat, where: "complexity >= 1 AND actions >= 1", on_missing: drop}

CAT of DiHT (Radenovic et al. 2023, "Filtering, Distillation, and Hard Negatives for Vision-Language Pre-Training"): a
caption is parsed to a graph of objects and relations; complexity is the most relations that one object has, and texts
need one at least, and one action. LAION-2B-en came down to some 20 %. [M]: no text of the paper and no code of its
parser was at hand. Its example, the bird above, has three relations (small, brown, being chased), and so here. The
rules below are this project's, in the manner of SceneGraphParser (Mao 2018), over spaCy's dependencies. The third part
of CAT, the drop of pictures whose text is spelt in the caption, needs OCR and is not here. Weights: a pipeline of
spaCy's for English with a parser (`python -m spacy download en_core_web_sm`), extra `text`.

Objects are nouns; of a compound ("tennis ball") the last word. Relations:
- an attribute of its object: an adjective or a number beside it, or said of it ("the cat is black");
- an action of all objects that take part: a verb with its subject, objects and agent ("a dog runs" has one). What
  "is" joins ("she is a pianist") is a relation of both and no action;
- a preposition, of what stands before and behind it: the noun, or the subject of the verb ("a man sitting on a bench":
  man and bench). "In front of", "on top of" and their like are one preposition.
Things joined by "and" take part alike.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator

from stages import spacy_model
from stages.base import TEXT, Batch, Column, Need, Stage
from stages.caption_relations import LABELS, relations


class CaptionGraph(Stage):
    """Columns `complexity` (most relations of one object) and `actions` (verbs with an object), int32; null: no text.

    model: a pipeline of spaCy's for English with a parser, by the name of its package or by its folder. max_chars: what
    comes after them is not looked at.
    """

    model: str
    max_chars: int = Field(default=4000, ge=1, le=1_000_000)
    _nlp: Any = PrivateAttr(default=None)

    @field_validator("model")
    @classmethod
    def _settled(cls, value: str) -> str:
        return spacy_model.settled(value)

    def files(self) -> tuple[str, ...]:
        """The pipeline's files.

        Raises:
            ValueError: it is not here; says what to do.
        """
        try:
            return spacy_model.files(self.model)
        except ValueError as e:
            raise ValueError(f"caption_graph: {e}") from e

    def identity(self) -> dict[str, Any]:
        """With the names of the pipeline's files in place of its folder: equal ones at two places are one stage."""
        found = super().identity()
        self.files()
        found["parameters"]["model"] = spacy_model.names(self.model)
        return found

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([("complexity", pa.int32()), ("actions", pa.int32())])

    def need(self) -> Need:
        return Need(memory_gb=2)

    def open(self) -> None:
        """Load the pipeline.

        Raises:
            ValueError: it is not here, or does not parse as spaCy's English pipelines do.
        """
        self.files()
        try:
            nlp = spacy_model.load(self.model, without=("ner", "lemmatizer", "senter"))
        except ValueError as e:
            raise ValueError(f"caption_graph: {e}") from e
        labels = set(nlp.get_pipe("parser").labels) if nlp.has_pipe("parser") else set()
        if not labels >= LABELS or not nlp("A dog runs").has_annotation("POS"):
            raise ValueError(
                f"caption_graph: the pipeline {self.model!r} has no tagger, or no parser with the labels of spaCy's "
                f"English ones ({', '.join(sorted(LABELS))}); it has {', '.join(nlp.pipe_names)}"
            )
        self._nlp = nlp

    def run(self, batch: Batch) -> pa.Table:
        if self._nlp is None:
            self.open()
        docs = spacy_model.docs(self._nlp, batch[TEXT].to_pylist(), self.max_chars)
        graphs = [None if doc is None else relations(doc) for doc in docs]
        counts = [(None, None) if graph is None else (graph.complexity, graph.actions) for graph in graphs]
        return pa.table([[row[i] for row in counts] for i in (0, 1)], schema=self.writes())
