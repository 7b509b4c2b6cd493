"""Drop what models are evaluated on: samples that are, or look like, pictures of evaluation sets.

    filters:
      - decontaminate:
          sets: [{name: imagenet_val, path: evalsets/wds_imagenet1k/test}, {name: own, path: held_out/photos}]
          over: pool
      - decontaminate:                                         # as DINOv2: SSCD, above .45, whole components
          sets: [{name: imagenet, path: imagenet/train, vectors: imagenet_train_sscd.npy}]
          vectors: sscd_image
          above: 0.45
          distance: null
          components: sscd_group
          over: pool

`stages/eval_matches.py` says what matches. Every sample that does goes: none is kept of a group, and nothing follows
from one sample to another, unless `components` names a column of groups (of `near_vectors`, `near_hashes` or
`hash_groups`): then a group goes whole if any sample of the pool in it matches, whichever were dropped before. Write it
above filters that keep one of several: a keeper that looks a little less like the picture would hide a find.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import MISSING, VERDICT, GlobalFilter, OnMissing
from filters.keep_entries import by_shard, taken
from filters.missing import refuse_missing
from stages.base import Barrier, Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, Source, fact, per_shard
from stages.eval_hits import BY
from stages.eval_matches import FIELDS, EvalSearch
from stages.shuffle import (
    NEED,
    Arrays,
    Layout,
    bucket,
    buckets_of,
    by_span,
    halves,
    joined,
    places,
    rows_of,
    split,
    stacked,
    starts_of,
    uid_array,
)
from stages.unhashed import refuse_unhashed

QUALITY = fact("phash_quality")


class Decontaminate(EvalSearch, GlobalFilter):
    """Drop samples that match evaluation sets; reasons "in_<set>", and "component_in_<set>" by `components`.

    Args:
        components: a column of groups, binary(16); null: no sample goes for another's sake.
        on_missing: what becomes of samples that match nothing, but lack something to compare by (a hash, a vector):
            drop (reason "missing"), keep, or error. A pool without hashes is refused whatever it says, unless they are
            not asked for (distance: null).

    Further ones are those of `stages.eval_matches.EvalSearch`. Verdicts also say, of what is dropped: eval_set,
    eval_item, eval_by, eval_distance (bits; 1 - cosine), and eval_of: the uid of the sample that matched, itself or
    another of its component.

    Raises:
        ValueError: as `EvalSearch`; a sample that lacks something, and on_missing: error; a pool without hashes.
    """

    components: Source | None = None
    on_missing: OnMissing = "error"

    def reads(self) -> tuple[str | Column, ...]:
        found = self.matches()
        own = (*map(found.column, (*FIELDS, "missing")), *(QUALITY for _ in found.bits()[:1]))
        return (*own, *([self.components] if self.components is not None else []))

    def barriers(self) -> tuple[Barrier, ...]:
        return (self.matches(),)

    def extra_verdicts(self) -> pa.Schema:
        strings = [(f"eval_{n}", pa.string()) for n in ("set", "item", "by")]
        return pa.schema([*strings, ("eval_distance", pa.float32()), ("eval_of", pa.binary(16))])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        if self.components is None:
            return (per_shard("verdict", shape),)
        layout = Layout(shape)
        answers = layout.gathered("gather", "decide")
        return (
            layout.from_shards("touched"),
            layout.by_bucket("decide", ("touched", layout.spans)),
            Phase(
                "gather",
                layout.spans,
                lambda span: (PhaseFile("touched", span, layout.buckets), *answers.inputs(span)),
                need=NEED,
            ),
            layout.to_shards("verdict", "gather"),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "touched":
                return self._touched(part, inputs)
            case "decide":
                return _decide(inputs)
            case "gather":
                return _gather(part, inputs)
            case "verdict":
                return self._verdict(inputs)
        raise ValueError(f"Decontaminate has no phase {phase!r}")

    # ---- whole components

    def _touched(self, part: str, inputs: Inputs) -> Output:
        """(group_high, group_low, set, by, far, high, low, place) of the strongest match of each group in the span, by
        group, or where none matches, of any sample of the group: so a group of millions is a row a span. Behind the
        last bucket, samples that are asked and match nothing. set -1: none; far: the distance in millionths of its
        unit."""
        found: list[Arrays] = []
        for shard, table in zip(inputs.keys, inputs, strict=True):
            assert isinstance(shard, ShardColumns)
            assert self.components is not None
            self._refuse_unhashed(table)
            there = table.column(self.components.field).is_valid()
            place = places(shard.shard, table.num_rows)[there.to_numpy()]
            found.append(self._members(table.filter(there), place))
        rows = joined(found)
        asked = rows.pop("asked")
        others = taken(rows, asked & (rows["set"] < 0))
        rows, first = _by_strength(rows)
        strongest = taken(rows, np.unique(first))
        into = bucket(strongest["group_high"], strongest["group_low"], buckets_of(part))
        tables = [*split(strongest, into, buckets_of(part)), pa.table(others)]
        return Output(tables, {"touched": len(asked), "groups": len(into)})

    def _members(self, table: pa.Table, place: np.ndarray) -> Arrays:
        assert self.components is not None
        field = {n: table.column(f"eval_{n}") for n in FIELDS}
        rows: Arrays = {}
        rows["group_high"], rows["group_low"] = halves(table.column(self.components.field))
        rows["high"], rows["low"] = halves(table.column("uid"))
        for name, known in (("set", [s.name for s in self.sets]), ("by", BY)):
            rows[name] = pc.index_in(field[name], value_set=pa.array(known)).fill_null(-1).to_numpy()
        rows["far"] = np.rint(field["distance"].fill_null(0).to_numpy().astype(np.float64) * 1e6).astype(np.int64)
        return rows | {"place": place, "asked": table.column("asked").to_numpy()}

    def _refuse_unhashed(self, table: pa.Table) -> None:
        if self.matches().bits():
            refuse_unhashed(table.column(QUALITY.field), "decontaminate", "compare by bytes alone (`distance: null`)")

    # ---- the answer

    def _verdict(self, inputs: Inputs) -> Output:
        table = inputs.select(ShardColumns).only()
        self._refuse_unhashed(table)
        asked = table.column("asked").to_numpy()
        names, reason, high, low = self._matched(table, inputs.select(PhaseFile))
        matched = np.array([r is not None for r in reason], bool)
        lacks = asked & ~matched & table.column("eval_missing").to_numpy()
        if self.on_missing == "error":
            refuse_missing("decontaminate", table, lacks, "hash or vector to compare by")
        elif self.on_missing == "drop":
            reason[lacks] = MISSING
        keep = ~matched & ~(lacks & (self.on_missing == "drop"))
        told = asked & matched
        shown = [pc.if_else(pa.array(told), table.column(f"eval_{n}").combine_chunks(), None) for n in FIELDS[1:]]
        answer = [
            pa.array(keep, mask=~asked),
            pa.array(reason, pa.string(), mask=~asked),
            pa.array(names, pa.string(), mask=~told),
            *shown,
            uid_array(high, low, told),
        ]
        stats = {"dropped": int((asked & ~keep).sum()), "matched": int(told.sum())}
        return Output(pa.table(answer, schema=pa.schema([*VERDICT, *self.extra_verdicts()])), stats)

    def _matched(self, table: pa.Table, found: Inputs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(set, reason, and high and low of the uid that matched) of each row; set and reason are None where none."""
        names = np.array(table.column("eval_set").to_pylist(), object)
        reason = np.array([name and f"in_{name}" for name in names], object)
        high, low = halves(table.column("uid"))
        if self.components is not None:
            others = stacked(found)
            at = rows_of(others["place"])
            names[at] = np.array([s.name for s in self.sets], object)[others["set"]]
            reason[at] = [f"component_in_{name}" for name in names[at]]
            high, low = high.copy(), low.copy()
            high[at], low[at] = others["high"], others["low"]
        return names, reason, high, low


def _by_strength(rows: Arrays) -> tuple[Arrays, np.ndarray]:
    """(the rows by group, of each group the strongest match first; int64 (n,): where each row's group begins)."""
    keys = ("low", "high", "set", "far", "by")
    order = np.lexsort((*(rows[k] for k in keys), rows["set"] < 0, rows["group_low"], rows["group_high"]))
    rows = taken(rows, order)
    starts = starts_of(rows["group_high"], rows["group_low"])
    return rows, np.repeat(starts, np.diff(np.append(starts, len(order))))


def _decide(inputs: Inputs) -> Output:
    """(place, group_high, group_low, set, high, low) of groups in which a sample matches, a row a span that has samples
    of the group: the set, and the uid of the sample, of the strongest match; the place is one of that span."""
    rows, first = _by_strength(stacked(inputs))
    hit = rows["set"][first] >= 0
    answer = {n: rows[n][hit] for n in ("place", "group_high", "group_low")}
    answer |= {n: rows[n][first[hit]] for n in ("set", "high", "low")}
    return Output(by_span(answer, inputs, "touched"), {"groups": len(np.unique(first[hit]))})


def _gather(part: str, inputs: Inputs) -> Output:
    """(place, set, high, low), a table a shard, of samples that match nothing, in groups where another does."""
    answers, others = (stacked(inputs.select(PhaseFile, phase)) for phase in ("decide", "touched"))
    rows = joined([answers, others])
    asks = np.arange(len(rows["place"])) >= len(answers["place"])
    order = np.lexsort((asks, rows["group_low"], rows["group_high"]))
    rows, asks = taken(rows, order), asks[order]
    starts = starts_of(rows["group_high"], rows["group_low"])
    first = np.repeat(starts, np.diff(np.append(starts, len(asks))))  # the answer, where there is one
    gone = asks & ~asks[first]
    found = {"place": rows["place"][gone]} | {n: rows[n][first[gone]] for n in ("set", "high", "low")}
    return Output(by_shard(part, found), {"with_others": int(gone.sum())})
