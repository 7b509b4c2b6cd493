"""MetaCLIP: keep texts that contain entries of a list, and of the entries that are everywhere only so many texts.

    filters:
      - metaclip: {metadata: metadata.json, t: 20000, over: survivors}
      - metaclip: {metadata: metadata.json, tail: 0.06, over: survivors}      # t follows from the counts

Paper: Xu et al. 2023, "Demystifying CLIP Data" (arXiv 2309.16671), algorithm 1. Followed: facebookresearch/MetaCLIP,
`substr_matching.py` and `balancing.py`. t: 20,000 for the set of 400 million (of 1.6 billion matched texts), 170,000
for that of 2.5 billion (of 10.7 billion); it scales with the pool, and 0.06 of the matches in the tail is what both
have.
Weights: none; the list: `metadata.json` of the authors, or `curate metadata build`.

Put it last: after download, safety and duplicates, it balances what is left. A text that is admitted by any of its
entries stays, so more than t texts with a head entry are kept, as in the paper. With several texts an image the
published demonstration writes the image once a text; here a sample has one text and one copy.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import xxhash
from pydantic import Field, field_validator, model_validator

from filters.base import VERDICT, GlobalFilter, Margin
from stages.base import Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, per_shard, shard_name, tree
from stages.draws import hash64, hash64_halves, uniform
from stages.entry_matcher import Mode
from stages.metaclip_balance import Matches, Rule, chance, probability_of
from stages.metaclip_counts import need_t
from stages.metaclip_lists import absolute
from stages.metaclip_match import MetaclipMatch
from stages.metaclip_phases import HEAD, Balancing, asked_of

NO_MATCH = "no_match"
BALANCED_OUT = "balanced_out"
SALT = "metaclip"
UNIT = 1 << 40  # expected sizes are summed in integers of this share of a text: no order of adding shows


class Balanced(GlobalFilter):
    """What `metaclip` and `metaclip2` share; they say what the lists are."""

    metadata: str
    mode: Mode = "faithful"
    t: int | None = Field(default=None, ge=1)
    tail: float | None = Field(default=None, ge=0, le=1)
    draw: Literal["text", "entry"] = "text"
    seed: int = 0

    @field_validator("metadata")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return absolute(value)

    def match(self) -> MetaclipMatch:
        """The stage that finds the entries."""
        return MetaclipMatch(metadata=self.metadata, mode=self.mode)

    def balancing(self) -> Balancing:
        return Balancing(self.match(), rule=Rule(self.t, self.tail))

    def files(self) -> tuple[str, ...]:
        return self.match().files()

    def identity(self) -> dict[str, Any]:
        found = super().identity()
        found["parameters"]["metadata"] = self.match().lists()
        return found

    def reads(self) -> tuple[str | Column, ...]:
        return self.balancing().reads

    def extra_verdicts(self) -> pa.Schema:
        return pa.schema([("match_p", pa.float32())])

    def margins(self) -> tuple[Margin, ...]:
        return (Margin("probability of being kept", "match_p"),)

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        shards = [shard_name(s) for s in shape.shards]
        return (
            *self.balancing().phases(shape, local=False),
            per_shard("chances", shape, extra=(HEAD,)),
            *tree("expected", "chances", shards),
            Phase("verdict", shards, lambda part: (ShardColumns(int(part)), PhaseFile("chances", part))),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase == "chances":
            return self._chances(inputs)
        if phase.startswith("expected"):
            return _expected(inputs)
        if phase == "verdict":
            return self._verdict(inputs)
        return self.balancing().run(phase, inputs)

    def _chances(self, inputs: Inputs) -> Output:
        """(chance float64, kept bool) of each row, both of nothing where it is not asked."""
        table = inputs.select(ShardColumns).only()
        balancing = self.balancing()
        matches = balancing.matches(table)
        p = probability_of(matches, inputs.select(PhaseFile).only())
        found = chance(matches, p)
        if self.draw == "text":
            kept = uniform(self.seed, SALT, table.column("uid")) < found
        else:
            kept = np.zeros(matches.rows, bool)
            kept[matches.row[_draws(self.seed, matches, table.column("uid"), balancing.labels) < p]] = True
        stats = {"asked": int(asked_of(table).sum()), "matched": matches.texts()}
        return Output(pa.table({"chance": found, "kept": kept}), stats)

    def _verdict(self, inputs: Inputs) -> Output:
        asked = asked_of(inputs.select(ShardColumns).only())
        found = inputs.select(PhaseFile).only()
        chances, kept = found.column("chance").to_numpy(), found.column("kept").to_numpy()
        reason = np.where(chances > 0, BALANCED_OUT, NO_MATCH)
        columns = [
            pa.array(kept, mask=~asked),
            pa.array(reason, pa.string(), mask=kept | ~asked),
            pa.array(chances.astype(np.float32), mask=~asked),
        ]
        stats = {"kept": int(kept.sum()), "expected": _units(chances) / UNIT}
        return Output(pa.table(columns, schema=pa.schema([*VERDICT, *self.extra_verdicts()])), stats)


class Metaclip(Balanced):
    """Keep a text by `t / max(count, t)` of any of its entries; others: "no_match", or "balanced_out".

    A row without text has no match. `match_p` in the verdict is the probability with which it is kept.

    Args:
        metadata: a JSON file of entries.
        mode: "faithful" or "fixed"; see `stages.entry_matcher`.
        t: texts an entry admits, on average; instead of it `tail`.
        tail: the share of the matches that is to be on entries with fewer than t texts, which t follows from.
        draw: one number a text, against the probability of the whole; or "entry", one a text and entry, of which one
            must do, as the published code has it. The chances are the same; which texts it hits is not.
        seed: of the draw.

    Footers: of the phase `probabilities` t, entries, head_entries, matches and tail_share; of the last phase
    `expected-*` the size that is to be expected, before any draw; of the verdicts what was expected and kept, shard by
    shard.
    """

    @model_validator(mode="after")
    def _has_t(self) -> Metaclip:
        need_t(self.t, self.tail, single=True)
        return self


def _draws(seed: int, matches: Matches, uid: pa.ChunkedArray, labels: tuple[str, ...]) -> np.ndarray:
    """float64 in [0, 1), one a match: by seed, uid, entry and the label of its list."""
    home, entry = (matches.key >> np.uint64(32)).astype(np.int64), matches.key & np.uint64(0xFFFFFFFF)
    of_label = np.array([xxhash.xxh64_intdigest(label.encode()) for label in labels], np.uint64)
    own = hash64(seed, SALT, uid)[matches.row]
    return (hash64_halves(seed, SALT, own, of_label[home] ^ entry) >> np.uint64(11)) * 2.0**-53


def _units(chances: np.ndarray) -> int:
    return int(np.rint(chances * UNIT).astype(np.int64).sum())  # of a shard: of a million rows at most


def _expected(inputs: Inputs) -> Output:
    """One row: how many texts will be kept, on average, in units of 1 / UNIT."""
    total = 0
    for table in inputs:
        if "chance" in table.column_names:
            total += _units(table.column("chance").to_numpy())
        else:
            total += int(table.column("units")[0].as_py())
    units = pa.array([Decimal(total)], pa.decimal128(38, 0))
    return Output(pa.table({"units": units}), {"expected": total / UNIT})
