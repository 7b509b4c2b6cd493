"""MetaCLIP 2: MetaCLIP's balancing in each language by a list of its own.

    filters:
      - metaclip2: {metadata: metadata/, t: 170000, over: survivors}           # en.json, de.json, ..., other.json

Paper: Chuang et al. 2025, "Meta CLIP 2: A Worldwide Scaling Recipe" (arXiv 2507.22062). English has `t`; its share of
matches in the tail (6 % in the paper) gives every other language its own t: the count at which the share of the matches
below comes nearest to it. Followed: `metaclip/curation` of facebookresearch/MetaCLIP for matching and thresholds; as
released it does not run (undefined names; probabilities written to one folder and read from another; an empty table of
languages), so what is followed is what it says. Here a t is at least 1, and a language without a match has
probability 1.
Weights: none; the lists: `curate metadata build --language <code>`, files named by the labels of the language column.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from filters.metaclip import Balanced
from stages.base import Column, Source
from stages.language import Language
from stages.metaclip_balance import Rule
from stages.metaclip_counts import need_t
from stages.metaclip_match import MetaclipMatch
from stages.metaclip_phases import Balancing


class Metaclip2(Balanced):
    """`filters.metaclip.Metaclip` with a list and a t for each language; the same reasons and columns.

    Args:
        metadata: a folder of <label>.json; "other" is for texts whose label has no list. Without it they match nothing.
        language: column with the labels; default: those of the stage `language`.
        t: of English.
        tail: share of the tail in the other languages, instead of English's; without `t` in English too.
        english: label of the list that t is for.
        mode, draw, seed: as in `filters.metaclip.Metaclip`.
    """

    language: Source = Field(default_factory=lambda: Column(Language(), "lang"))
    english: str = "en"

    @model_validator(mode="after")
    def _has_t(self) -> Metaclip2:
        need_t(self.t, self.tail, single=False)
        return self

    def match(self) -> MetaclipMatch:
        return MetaclipMatch(metadata=self.metadata, mode=self.mode, language=self.language)

    def balancing(self) -> Balancing:
        return Balancing(self.match(), rule=Rule(self.t, self.tail, self.english))
