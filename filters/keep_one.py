"""Keep one sample of each group of duplicates: the best by stated columns, decided among survivors.

    KeepOne(over="survivors", by="sha256", prefer=("clip_score desc",))
    KeepOne(over="survivors", by="phash64", distance=4)
    KeepOne(over="survivors", near=NearVectors(vectors="clip_image", epsilon=0.05), rule="component")

Rules, for near duplicates (among equal ones they say the same):

- greedy: best first; a sample stays unless one that stays is near. Whatever goes has a near neighbour that stays, and
  no two that stay are near: chains of small steps do not vanish into one sample.
- component: one sample of each connected component of the near graph among survivors.
- local: a sample goes if any better one is near, whether that one stays or not: as NeMo Curator has it. Of a chain only
  the first stays, and samples may go that are near to nothing that stays.
- reference: local, on pairs of one cluster only: as SemDeDup's code has it. For `near` with `within_clusters: true`.

The graph is that of the samples asked: one that an earlier filter dropped neither keeps nor connects others. The order
is total: what came with an earlier list first, if `old_first`; the columns of `prefer`, one after another; the smallest
uid. Numbers with a fraction are compared after rounding to 1e-4, and a missing value or NaN is worst either way. So
shards, workers and their order change nothing; and when the pool grows, who stayed stays, as long as the same old
samples are asked about. Under `component` a new sample that joins two old components leaves both their keepers.

Memory goes with a bucket of groups. Equal samples of a span travel as one. A component of the pool with more than
2^22 = 4,194,304 hashes or vectors (of equal ones 64 at most are counted) is not decided by its edges: one sample of it
stays, also of what an earlier list kept; the others have the reason "large_component". At that size a chain of false
pairs is likelier than copies: lower the distance, or verify.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from filters.base import VERDICT, Bound, GlobalFilter, Margin
from filters.keep_decide import decided, of_large
from filters.keep_entries import GROUP, Bucket, Names, answered, by_shard, once
from filters.keep_rules import Rule
from filters.prefer import Prefer, columns, ranks
from stages.base import Barrier, Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, Source
from stages.hash_groups import HashGroups
from stages.hash_words import words_of
from stages.near import EDGES, Near
from stages.near_hashes import Agreement, NearHashes
from stages.near_vectors import NearVectors
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
    uid_array,
)

DUPLICATE = "duplicate"
LARGE = "large_component"


class KeepOne(GlobalFilter):
    """Drop all but one of what is equal or near; reason "duplicate" (or "large_component": see above).

    Args:
        by: what makes samples equal (`stages.hash_groups.HashGroups` has the names), or with a distance, the column of
            hashes that makes them near.
        distance, min_quality, quality, verify, bands, bits: as in `stages.near_hashes.NearHashes`; without a distance
            and a verification, equal hashes are duplicates.
        near: instead of `by`: the parameters of `stages.near_vectors.NearVectors`.
        rule: greedy, component, local or reference; see above.
        prefer: which sample is best, each "<column> asc" or "<column> desc"; "a * b" is a product of columns. Columns
            may also be those that the barrier of `by` or `near` writes.
        old_first: samples of the pool's earlier lists are better than all of later ones.

    Verdicts also say, of what is dropped: `dup_of`, the uid of the sample that it yields to (under greedy and component
    one that stays; under local and reference the best of its near neighbours, which may be dropped itself); `distance`
    to it, in bits by hashes and as 1 - cosine by vectors (0 for equal keys; null where the two are no near pair and
    have no hashes to compare); `rule`; and `component`, the smallest uid of its component among the samples asked.

    Raises:
        ValueError: neither or both of `by` and `near`; parameters that go with the other one.
    """

    version: ClassVar[int] = 2  # 1 had no rule and no component in its verdicts

    by: Source | None = None
    near: NearVectors | None = None
    distance: int = Field(default=0, ge=0)
    min_quality: int | None = Field(default=None, ge=0, le=100)
    quality: Source | None = None
    verify: tuple[Agreement, ...] = ()
    bands: Literal[4, 8, 16, 32] = 16
    bits: Literal[64, 256] | None = None
    rule: Rule = "greedy"
    prefer: Prefer = ("original_width * original_height desc",)
    old_first: bool = True

    @model_validator(mode="after")
    def _groups_exist(self) -> KeepOne:
        if (self.by is None) == (self.near is None):
            raise ValueError("give `by`, a key or a column of hashes, or `near`, the parameters of near_vectors")
        of_hashes = {n: getattr(self, n) for n in ("distance", "min_quality", "quality", "verify", "bands", "bits")}
        given = [n for n, value in of_hashes.items() if value != type(self).model_fields[n].default]
        if self.near is not None and given:
            raise ValueError(f"{', '.join(given)}: with `by` only; vectors have their epsilon")
        of_pairs = [n for n in ("bands", "bits") if n in given]
        if of_pairs and not self.distance and not self.verify:
            raise ValueError(f"{', '.join(of_pairs)}: with a distance or `verify` only; equal hashes need neither")
        if self.rule == "reference" and not (self.near and self.near.within_clusters):
            raise ValueError("rule: reference goes with `near: {..., within_clusters: true}`; elsewhere it is `local`")
        self.groups()
        return self

    def groups(self) -> HashGroups | Near:
        """The barrier whose groups this filter thins."""
        if self.near is not None:
            return self.near
        assert self.by is not None
        more: dict[str, Any] = {n: v for n in ("min_quality", "quality") if (v := getattr(self, n)) is not None}
        if not self.distance and not self.verify:
            return HashGroups(by=self.by, **more)
        more |= {"verify": self.verify, "bands": self.bands, "bits": self.bits}
        return NearHashes(by=self.by, distance=self.distance, **more)

    def _near(self) -> Near | None:
        groups = self.groups()
        return groups if isinstance(groups, Near) else None

    def reads(self) -> tuple[str | Column, ...]:
        groups, near = self.groups(), self._near()
        own = dict.fromkeys(groups.writes().names)
        found: dict[str, str | Column] = {groups.group: Column(groups, groups.group)}
        found |= {near.node().field: near.node()} if near else {}
        found |= {n: Column(groups, n) if n in own else n for n in columns(self.prefer)}
        if self._hashes is not None:
            found |= {self._hashes.field: self._hashes}
        return tuple(found.values())

    @property
    def _hashes(self) -> Column | None:
        """The hashes that tell how far apart two samples are that are no near pair."""
        return self.by if self.rule == "component" and self._near() else None

    def barriers(self) -> tuple[Barrier, ...]:
        near = self._near()
        return (near,) if near else ()

    def extra_verdicts(self) -> pa.Schema:
        distance = pa.float32() if self.near else pa.int16()
        fields = [
            ("dup_of", pa.binary(16)),
            ("distance", distance),
            ("rule", pa.string()),
            ("component", pa.binary(16)),
        ]
        return pa.schema(fields)

    def margins(self) -> tuple[Margin, ...]:
        """How far a sample is from the one that it yields to; who stays has no such number."""
        near = self._near()
        if near is None:
            return ()
        largest, words = near.bound()
        beyond: Bound = (largest + near.scale, "above", words)
        return (Margin("1 - cosine" if self.near else "bits apart", "distance", (beyond,)),)

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout, near = Layout(shape), self._near()
        spans, buckets = layout.spans, layout.bucket_parts
        files: list[tuple[str, tuple[str, ...], object]] = [("touched", spans, None)]
        if near is not None:
            files.append((EDGES, buckets, near))
        answers = layout.gathered("gather", "decide")
        return (
            layout.from_shards("touched"),
            layout.by_bucket("decide", *files),
            Phase("gather", spans, lambda span: (PhaseFile("touched", span), *answers.inputs(span)), need=NEED),
            layout.to_shards("verdict", "gather"),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "touched":
                return self._touched(part, inputs)
            case "decide":
                return self._decide(part, inputs)
            case "gather":
                touched, answers = (stacked(inputs.select(PhaseFile, n)) for n in ("touched", "decide"))
                return Output(by_shard(part, answered(touched, answers)))
            case "verdict":
                return self._verdict(inputs)
        raise ValueError(f"KeepOne has no phase {phase!r}")

    # ---- the samples that take part: asked, and not alone in the pool

    @property
    def _best(self) -> Names:
        """Columns of a total order, the smallest best."""
        return ("generation", *(f"rank{i}" for i in range(len(self.prefer))), "high", "low")

    @property
    def _same(self) -> Names:
        """Columns in which equal samples agree: their node, or where there are none, their group."""
        return ("node",) if self._near() else GROUP

    def _touched(self, part: str, inputs: Inputs) -> Output:
        """Entries, bucketed by group as the barrier's edges are; behind the last bucket, their copies."""
        rows = joined([self._of_shard(key, table) for key, table in zip(inputs.keys, inputs, strict=True)])
        entries, copies = once(rows, self._same, self._best)
        count = buckets_of(part)
        into = bucket(entries["group_high"], entries["group_low"], count)
        stats = {"touched": len(rows["place"]), "entries": len(into)}
        return Output([*split(entries, into, count), pa.table(copies)], stats)

    def _of_shard(self, shard: object, table: pa.Table) -> Arrays:
        assert isinstance(shard, ShardColumns)
        groups, near = self.groups(), self._near()
        mine = pc.and_(table.column("asked"), table.column(groups.group).is_valid()).to_numpy()
        place = places(shard.shard, table.num_rows)[mine]
        table = table.filter(pa.array(mine))
        rows: Arrays = dict(zip(GROUP, halves(table.column(groups.group)), strict=True))
        if near is not None:
            rows["node"] = table.column(near.node().field).to_numpy()
        rows["generation"] = np.full(len(place), shard.generation if self.old_first else 0, np.int32)
        rows |= ranks(self.prefer, table)
        rows["high"], rows["low"] = halves(table.column("uid"))
        rows["place"] = place
        if self._hashes is not None and isinstance(near, NearHashes):
            words = words_of(table.column(self._hashes.field), self._hashes.field, near.width)
            rows |= {f"word{i}": np.ascontiguousarray(w) for i, w in enumerate(words.T)}
        return rows

    # ---- the decision, some groups at a time

    def _decide(self, part: str, inputs: Inputs) -> Output:
        """What becomes of the bucket's entries (see `keep_entries.answered`), a table a span."""
        same, edges = self._same if self._near() else (), inputs.select(PhaseFile, EDGES)
        found = Bucket(inputs.select(PhaseFile, "touched"), buckets_of(part), same, self._best)
        answers, stats = [of_large(found.large)] if found.large_groups else [], Counter(large=len(found.large_groups))
        for rows in found:
            answer, numbers = decided(rows, edges, self.rule, self._same, self._best)
            answers.append(answer)
            stats.update(numbers)
        return Output(by_span(joined(answers), inputs, "touched"), stats)

    # ---- the answer

    def _verdict(self, inputs: Inputs) -> Output:
        asked = inputs.select(ShardColumns).only().column("asked").to_numpy()
        found = stacked(inputs.select(PhaseFile))
        at, near = rows_of(found["place"]), self._near()
        dropped = np.zeros(len(asked), bool)
        dropped[at] = True
        rows = {n: np.zeros(len(asked), a.dtype) for n, a in found.items()}
        for name, values in found.items():
            rows[name][at] = values
        large, far = rows["whole"], rows["distance"] * (near.scale if near else 1)
        answer = [
            pa.array(~dropped, mask=~asked),
            pa.array(np.where(large, LARGE, DUPLICATE), pa.string(), mask=~dropped),
            uid_array(rows["kept_high"], rows["kept_low"], dropped),
            pa.array(far, mask=~dropped | (rows["distance"] < 0)).cast(self.extra_verdicts().field("distance").type),
            pa.array(np.where(large, "component", self.rule), pa.string(), mask=~dropped),
            uid_array(rows["component_high"], rows["component_low"], dropped),
        ]
        stats = {"dropped": len(at), "of_large": int(large.sum())}
        return Output(pa.table(answer, schema=pa.schema([*VERDICT, *self.extra_verdicts()])), stats)
