"""How many nouns, determiners, prepositions, ... the text has: what rules of Conceptual Captions and COYO ask for.

    stage = PosTags()                                              # by HanTa, whose model comes with its package
    stage.run(Batch.of(pa.table({"text": ["a dog on the beach"]})))   # n_nouns 2, n_determiners 2, n_prepositions 1

    columns:                                                       # in a recipe
      - pos_tags: {}                                               # or {tagger: en_core_web_sm}
    filters:
      - {id: noun, where: "n_nouns >= 1", on_missing: drop}        # COYO; CC12M: and n_determiners >= 1

CC3M (Sharma et al. 2018) drops texts without a determiner, a noun or a preposition, and those with a high share of
nouns; CC12M (Changpinyo et al. 2021) wants a noun and a determiner; COYO-700M (Byeon et al. 2022) a noun. Followed:
the rules as the project's specification gives them; their taggers (Google's Natural Language API for CC3M) are not to
be had, and no threshold for the share of nouns is published, [M]. Counted as Google's tags do: proper names are nouns
too; "my" is no determiner; "to" before a verb and "because" are no prepositions. English only, with the default.

Taggers: `hanta` (Wartena 2019, "A Probabilistic Morphology Model for German Lemmatization"; its English model has the
tags of the British National Corpus and comes with the package), extra `text`; or any pipeline of spaCy's by name or
folder, in its language.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator

from stages import spacy_model, taggers
from stages.base import TEXT, Batch, Column, Need, Stage

COUNTS = {  # column -> kinds that it counts
    "n_nouns": ("NOUN", "PROPN"),
    "n_proper": ("PROPN",),
    "n_determiners": ("DET",),
    "n_prepositions": ("ADP",),
    "n_verbs": ("VERB",),
    "n_adjectives": ("ADJ",),
}
RATIOS = {"noun_ratio": "n_nouns", "determiner_ratio": "n_determiners", "proper_ratio": "n_proper"}


class PosTags(Stage):
    """Counts, int32: `n_tagged` words, of them `n_nouns` (`n_proper` among them), `n_determiners`, `n_prepositions`,
    `n_verbs` (auxiliaries among them), `n_adjectives`; shares of `n_tagged`, float32 rounded to 1e-4: `noun_ratio`,
    `determiner_ratio`, `proper_ratio`. A null text has nulls, and a text without a word null shares.

    tagger: hanta; or a pipeline of spaCy's, by the name of its package or by its folder. max_chars: what comes after
    them is not looked at.
    """

    tagger: str = taggers.HANTA
    max_chars: int = Field(default=4000, ge=1, le=1_000_000)
    _tag: taggers.Tagger | None = PrivateAttr(default=None)

    @field_validator("tagger")
    @classmethod
    def _settled(cls, value: str) -> str:
        return taggers.settled(value)

    def files(self) -> tuple[str, ...]:
        """The tagger's model.

        Raises:
            ValueError: it is not here; says what to do.
        """
        try:
            return taggers.files(self.tagger)
        except ValueError as e:
            raise ValueError(f"pos_tags: {e}") from e

    def identity(self) -> dict[str, Any]:
        """With the names of a pipeline's files in place of its folder: equal ones at two places are one stage."""
        found = super().identity()
        if self.tagger != taggers.HANTA:
            self.files()
            found["parameters"]["tagger"] = spacy_model.names(self.tagger)
        return found

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        counts = [(name, pa.int32()) for name in ("n_tagged", *COUNTS)]
        return pa.schema([*counts, *((name, pa.float32()) for name in RATIOS)])

    def need(self) -> Need:
        return Need(memory_gb=1)

    def open(self) -> None:
        """Load the tagger.

        Raises:
            ValueError: it is not here, or tags no parts of speech.
        """
        self.files()
        try:
            self._tag = taggers.load(self.tagger, self.max_chars)
        except ValueError as e:
            raise ValueError(f"pos_tags: {e}") from e

    def run(self, batch: Batch) -> pa.Table:
        if self._tag is None:
            self.open()
        assert self._tag is not None
        nothing: dict[str, float | None] = {}
        rows = [nothing if kinds is None else _counted(kinds) for kinds in self._tag(batch[TEXT].to_pylist())]
        return pa.table([[row.get(name) for row in rows] for name in self.writes().names], schema=self.writes())


def _counted(kinds: Sequence[str]) -> dict[str, float | None]:
    of = Counter(kinds)
    row: dict[str, float | None] = {"n_tagged": len(kinds)}
    row |= {name: sum(of[kind] for kind in wanted) for name, wanted in COUNTS.items()}
    shares = {name: round((row[count] or 0) / len(kinds), 4) if kinds else None for name, count in RATIOS.items()}
    return row | shares
