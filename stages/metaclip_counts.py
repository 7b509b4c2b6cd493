"""MetaCLIP's balancing over the whole pool as columns: with which probability a text is kept.

    columns:                                                        # in a recipe
      - metaclip_counts: {metadata: metadata.json, t: 170000, among: lang}        # English texts

For MetaCLIP 1.2, which draws anew in each epoch: `match_p` is what its sampler compares a random number with (an image
is skipped where match_p < U). A recipe computes this column and leaves the filter `metaclip` out; the loader takes
`SELECT uid, match_p` beside the pack; texts are mixed under `captions:` (0.15 of re-aligned captions in the paper). The
sum of match_p is the size that the filter `metaclip` would keep on average: a dry run.

Papers: Xu et al. 2023 (arXiv 2309.16671); per language Chuang et al. 2025 (arXiv 2507.22062). Followed: `balancing.py`
and `metaclip/curation` of facebookresearch/MetaCLIP; formulas in `stages.metaclip_balance`. t was 20,000 for 1.6
billion matched texts and 170,000 for 10.7 billion, which leaves 6 % of the matches in the tail both times.
Counts are kept, phase `add-*`; thresholds and shares are in the footer of the phase `probabilities`. Weights: none.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from stages.base import Barrier, Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, Source, per_shard
from stages.entry_matcher import Mode
from stages.metaclip_balance import Rule, chance, probability_of
from stages.metaclip_lists import absolute
from stages.metaclip_match import MetaclipMatch
from stages.metaclip_phases import HEAD, Balancing


class MetaclipCounts(Barrier):
    """Columns of each text, null where there is none, or it is not counted:

    match_p, float32: 1 - product of (1 - t / max(count, t)) over its entries; 0 where it has no entry.
    match_head, match_tail, int32: its entries with more than t texts in the pool, and the others.

    Args:
        metadata, mode, language: as in `stages.metaclip_match.MetaclipMatch`.
        t: texts an entry admits, on average; with `language`: of English.
        tail: instead, or for the other languages: the share of the matches that stays tail, which t follows from. With
            neither, other languages have English's share, as in the paper.
        english: label of the list that t is for, with `language`.
        among, value: only texts with this value in that column are counted, others get nulls: `among: lang`.
    """

    metadata: str
    mode: Mode = "faithful"
    language: Source | None = None
    t: int | None = Field(default=None, ge=1)
    tail: float | None = Field(default=None, ge=0, le=1)
    english: str = "en"
    among: Source | None = None
    value: str = "en"

    @field_validator("metadata")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return absolute(value)

    @model_validator(mode="after")
    def _has_t(self) -> MetaclipCounts:
        need_t(self.t, self.tail, single=self.language is None)
        return self

    def match(self) -> MetaclipMatch:
        """The stage that finds the entries."""
        return MetaclipMatch(metadata=self.metadata, mode=self.mode, language=self.language)

    def balancing(self) -> Balancing:
        among = None if self.among is None else (self.among, self.value)
        return Balancing(self.match(), among, rule=Rule(self.t, self.tail, self.english))

    def files(self) -> tuple[str, ...]:
        return self.match().files()

    def identity(self) -> dict[str, Any]:
        found = super().identity()
        found["parameters"]["metadata"] = self.match().lists()
        return found

    def reads(self) -> tuple[Column, ...]:
        return self.balancing().reads

    def writes(self) -> pa.Schema:
        return pa.schema([("match_p", pa.float32()), ("match_head", pa.int32()), ("match_tail", pa.int32())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        return (*self.balancing().phases(shape, local=True), per_shard("balance", shape, extra=(HEAD,)))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase != "balance":
            return self.balancing().run(phase, inputs)
        table = inputs.select(ShardColumns).only()
        balancing = self.balancing()
        matches = balancing.matches(table)
        p = probability_of(matches, inputs.select(PhaseFile).only())
        found = chance(matches, p)
        heads = np.bincount(matches.row[p < 1], minlength=matches.rows)
        silent = table.column("match_ids").is_null().to_numpy() | ~balancing.counted(table)
        columns = [found, heads, np.bincount(matches.row, minlength=matches.rows) - heads]
        arrays = [
            pa.array(c.astype(f.type.to_pandas_dtype()), mask=silent)
            for c, f in zip(columns, self.writes(), strict=True)
        ]
        return Output(pa.table(arrays, schema=self.writes()), {"expected": math.fsum(found.tolist())})


def need_t(t: int | None, tail: float | None, *, single: bool) -> None:
    """
    Raises:
        ValueError: nothing, or too much, says what t is.
    """
    if t is None and tail is None:
        raise ValueError(
            "expected t (20000 for 1.6 billion texts in the paper), or tail (0.06: t follows from the counts)"
        )
    if single and t is not None and tail is not None:
        raise ValueError("expected t or tail, not both: with a single list one follows from the other")
