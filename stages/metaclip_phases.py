"""The phases of MetaCLIP's balancing that look at all rows: what `metaclip_counts` and the filters `metaclip*` share.

counts           a shard: (key, count) of the entries in its texts, of rows asked
add-0, ...       a tree that sums them
probabilities    all: (key, p) of the head entries; thresholds and shares of each list in the footer

No part holds more than a shard, a counter an entry of the lists, and the head. The owner says what becomes of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.base import Column, Inputs, Need, Output, Phase, PhaseFile, Shape, per_shard, shard_name, tree
from stages.entry_matcher import count_entries
from stages.metaclip_balance import Matches, Rule, added, by_list, head, told
from stages.metaclip_lists import numbers
from stages.metaclip_match import MetaclipMatch

HEAD = PhaseFile("probabilities", "all")


@dataclass(frozen=True)
class Counting:
    """Counts of the entries that `match` finds; with `among`, in the rows that have this value in that column."""

    match: MetaclipMatch
    among: tuple[Column, str] | None = None

    @property
    def reads(self) -> tuple[Column, ...]:
        columns = [Column(self.match, "match_ids"), self.match.language, self.among and self.among[0]]
        return tuple(dict.fromkeys(c for c in columns if c is not None))

    def phases(self, shape: Shape, *, local: bool) -> tuple[Phase, ...]:
        """From `counts` to the last sum, whose part is "all"."""
        return (
            per_shard("counts", shape, local=local),
            *tree("add", "counts", [shard_name(s) for s in shape.shards]),
        )

    def run(self, phase: str, inputs: Inputs) -> Output:
        """The phases of `phases`."""
        if phase == "counts":
            table = inputs.only()
            matches = self.matches(table)
            stats = {"asked": int(asked_of(table).sum()), "matched": matches.texts(), "matches": len(matches.key)}
            return Output(matches.counted(), stats)
        return Output(added(inputs))

    def matches(self, table: pa.Table) -> Matches:
        """Of a shard's rows that are asked and counted."""
        return Matches.of(table.column("match_ids"), self.home(table), asked_of(table) & self.counted(table))

    def counted(self, table: pa.Table) -> np.ndarray:
        """bool (rows,): which rows are among those that are counted."""
        if self.among is None:
            return np.ones(table.num_rows, bool)
        column, value = self.among
        return np.asarray(pc.fill_null(pc.equal(table.column(column.field), value), False).to_numpy())

    def home(self, table: pa.Table) -> np.ndarray:
        """int64 (rows,): the number of each row's list among the labels."""
        language = self.match.language
        spoken = None if language is None else table.column(language.field)
        return numbers(self.labels, spoken, table.num_rows)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.match.lists())

    def dense(self, counts: pa.Table) -> list[np.ndarray]:
        """int64 (entries,) of each list, those that no text contains too."""
        return by_list(counts, list(self._sizes()))

    def _sizes(self) -> Iterator[int]:
        for path in self.match.lists().values():
            yield count_entries(path)


@dataclass(frozen=True)
class Balancing(Counting):
    """With t, and the probability of each entry."""

    rule: Rule = field(kw_only=True)

    def phases(self, shape: Shape, *, local: bool) -> tuple[Phase, ...]:
        counting = super().phases(shape, local=local)
        total = PhaseFile(counting[-1].name, "all")
        return (*counting, Phase("probabilities", ("all",), lambda _: (total,), need=Need(memory_gb=2)))

    def run(self, phase: str, inputs: Inputs) -> Output:
        if phase != "probabilities":
            return super().run(phase, inputs)
        counts = self.dense(inputs.only())
        t = self.rule.thresholds(self.labels, counts)
        found = told(self.labels, counts, t)
        return Output(head(counts, [t[label] for label in self.labels]), found.get("", found))


def asked_of(table: pa.Table) -> np.ndarray:
    """bool (rows,): all, where it is a barrier that looks."""
    if "asked" not in table.column_names:
        return np.ones(table.num_rows, bool)
    return np.asarray(table.column("asked").to_numpy())
