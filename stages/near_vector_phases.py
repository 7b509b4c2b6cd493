"""The phases of `stages.near_vectors` up to `pairs`, and the names of their parts: what is reused when a pool grows.

A name has a digest of every shard that its part depends on: of its own, of the first lists (the centroids), and in
`compared` of each list up to its own. The number of buckets hangs on the first lists alone: on as many of them as make
up 1/GROWN of the pool, so that all is made anew where a pool has become many times what it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from stages.base import Input, Need, Phase, PhaseFile, Shape, ShardColumns, shard_name
from stages.kmeans import CENTROIDS
from stages.kmeans_size import COPIES, DAY, DIM, machine
from stages.kmeans_training import Training
from stages.near import NODES
from stages.shuffle import Layout
from stages.vectors import ROWS

FEW, SOME, MANY = 1 << 15, 64, 1 << 18
"""Vectors of the first lists in a bucket: FEW, up to SOME buckets; MANY, where that makes more of them."""

GROWN = 64
"""How many times what the centroids were trained on a pool may hold: one bucket holds no more than so many times as
much as it was made for."""


def power_of_two(rows: int, each: int) -> int:
    """The smallest that makes buckets of no more than `each` rows."""
    return 1 << max(0, (rows - 1) // each).bit_length()


@dataclass(frozen=True)
class Plan:
    """How vectors travel from shards to pairs; a function of the shape and of the k-means."""

    shape: Shape
    clusters: Training

    @cached_property
    def lists(self) -> tuple[Shape, ...]:
        """The pool's lists, oldest first."""
        return self.shape.split()

    @cached_property
    def first(self) -> Shape:
        """What is trained on: the first list, or as many of the first lists as make up 1/GROWN of the pool."""
        held: list[int] = []
        rows = 0
        for shape in self.lists:
            held += shape.shards
            rows += shape.total
            if rows * GROWN >= self.shape.total:
                break
        return self.shape.among(held)

    @cached_property
    def buckets(self) -> int:
        rows = self.first.total
        return max(min(power_of_two(rows, FEW), SOME), power_of_two(rows, MANY))

    @cached_property
    def _stamp(self) -> str:
        return self.first.digest()

    # ---- k-means

    def training(self) -> tuple[Phase, ...]:
        return tuple(self._stamped(phase) for phase in self.clusters.training(Layout(self.first, ROWS)))

    def _stamped(self, phase: Phase) -> Phase:
        """The phase with the digest of the first list at the end of its parts' names."""
        assert not callable(phase.parts)
        end = f"-{self._stamp}"

        def files(part: str) -> tuple[Input, ...]:
            read = phase.inputs(part.removesuffix(end))
            if phase.name == "count":  # which vectors are there is known
                return tuple(PhaseFile(NODES, shard_name(k.shard)) for k in read if isinstance(k, ShardColumns))
            return tuple(replace(k, part=k.part + end) if isinstance(k, PhaseFile) else k for k in read)

        parts = tuple(part + end for part in phase.parts)
        return Phase(phase.name, parts, files, local=True, need=self._roomy(phase.need))

    def _roomy(self, need: Need) -> Need:
        """With memory for a span of vectors, and for the centroids several times over."""
        return replace(need, memory_gb=round(2 + self.clusters.most(self.first.total) * DIM * COPIES * 1e-9, 1))

    # ---- vectors to their clusters

    @cached_property
    def _spans(self) -> Mapping[str, tuple[ShardColumns, ...]]:
        return {name: shards for spans in self._spans_of for name, shards in spans.items()}

    @cached_property
    def _spans_of(self) -> tuple[Mapping[str, tuple[ShardColumns, ...]], ...]:
        """Of each list its spans by name."""
        return tuple(self._named(shape) for shape in self.lists)

    def _named(self, shape: Shape) -> dict[str, tuple[ShardColumns, ...]]:
        layout = Layout(shape, ROWS, stamped=True)
        read = layout.from_shards("assign").inputs
        return {
            f"{span.rpartition('-of-')[0]}-{self._stamp}-of-{self.buckets:05d}": tuple(
                key for key in read(span) if isinstance(key, ShardColumns)
            )
            for span in layout.spans
        }

    def assign(self) -> Phase:
        """A part a span, reading the centroids, the number of vectors of the first list, and the span's shards."""
        total = [p.name for p in self.training() if p.name.startswith("total-")][-1]
        known = PhaseFile(CENTROIDS, f"all-{self._stamp}"), PhaseFile(total, f"all-{self._stamp}")
        k = self.clusters.most(self.first.total)
        longest = max((sum(self._rows[s.shard] for s in shards) for shards in self._spans.values()), default=0)
        need = self._roomy(machine(k, self.clusters.device, k * longest))
        return Phase("assign", tuple(self._spans), lambda p: (*known, *self._spans[p]), local=True, need=need)

    @cached_property
    def _rows(self) -> Mapping[int, int]:
        return dict(zip(self.shape.shards, self.shape.rows, strict=True))

    # ---- pairs

    @cached_property
    def _compared(self) -> Mapping[str, tuple[str, ...]]:
        """The spans that each part of `compared` reads; it is named after its bucket and its list's first shard."""
        found: dict[str, tuple[str, ...]] = {}
        spans: list[str] = []
        for number, shape in enumerate(self.lists):
            spans += self._spans_of[number]
            said = json.dumps([s.digest() for s in self.lists[: number + 1]])
            stamp = hashlib.sha256(said.encode()).hexdigest()[:8]
            for b in range(self.buckets):
                found[f"{b:05d}-{shard_name(shape.shards[0])}-{stamp}"] = tuple(spans)
        return found

    def compared(self) -> Phase:
        """A part a list and bucket, reading that bucket of the spans of this list and of those before it."""

        def files(part: str) -> tuple[Input, ...]:
            return tuple(PhaseFile("assign", span, int(part.split("-")[0])) for span in self._compared[part])

        gpus = 1 if self.clusters.device == "cuda" else 0
        return Phase("compared", tuple(self._compared), files, local=True, need=Need(1, gpus, 2, DAY))

    def pairs(self, count: int) -> Phase:
        """The same pairs by bucket of nodes, of which there are `count`."""
        end = f"-of-{count:05d}"
        parts = tuple(part + end for part in self._compared)
        need = Need(memory_gb=2)
        return Phase("pairs", parts, lambda p: (PhaseFile("compared", p.removesuffix(end)),), local=True, need=need)


def first_shard_of_list(part: str) -> int:
    """That of the list that a part of `compared` looks for pairs of."""
    return int(part.split("-")[1])
