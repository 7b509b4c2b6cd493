"""At most so many samples of each key: of a domain, of a text, of an image, of anything.

    Cap(over="survivors", by="domain", most=1000)
    Cap(over="survivors", by="text_clean", most=10, prefer=("clip_score desc",))

ALIGN (Jia et al. 2021) and COYO-700M (Byeon et al. 2022) drop *all* samples of a text or an image that occurs too
often; that is `key_counts` with `where`, or `count_limit`. A cap leaves so many of them, as CLIP's "up to 20,000
pairs a query" does (Radford et al. 2021) and as curators cap domains; no paper is followed to the letter. Which stay:
the best by `prefer`, among equal ones those with the smallest draw of (seed, "cap", uid); without `prefer` a random
choice. So a smaller cap's samples lie within a larger one's, and shards, workers and their order change nothing.

Memory: a span of shards passes on the best `most` samples of each key only, so a bucket of keys holds at most that
many for each key and span, however often a key occurs. No weights are needed.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field

from filters.base import MISSING, VERDICT, GlobalFilter, OnMissing
from filters.missing import refuse_missing
from filters.prefer import Prefer, columns, ranks
from stages.base import Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, Source
from stages.draws import hash64
from stages.keys import Key
from stages.shuffle import (
    Arrays,
    Layout,
    bucket,
    buckets_of,
    by_span,
    gather,
    halves,
    joined,
    places,
    rows_of,
    split,
    stacked,
    starts_of,
)

REASON = "over_cap"


class Cap(GlobalFilter):
    """Keep at most `most` samples of each key; the others get "over_cap".

    Args:
        by: what counts as the same: text, text_clean, text_lower, url, domain, sha256, phash64, or any column of
            strings, numbers or truth values.
        most: how many of them stay.
        prefer: which, each "<column> asc" or "<column> desc", "a * b" a product of columns; left out: drawn.
        seed: of the draw that decides among equal ones.
        on_missing: what becomes of samples without a key (null, an empty string): drop (reason "missing"), keep all
            of them, or error.

    Raises:
        ValueError: while it runs: `by` is a column of lists or vectors, or a column of `prefer` has no numbers.
    """

    by: Source
    most: int = Field(ge=1)
    prefer: Prefer = ()
    seed: int = 0
    on_missing: OnMissing = "error"

    @property
    def _key(self) -> Key:
        return Key.of(self.by)

    def reads(self) -> tuple[str | Column, ...]:
        key = self._key.column
        return (key, *(name for name in columns(self.prefer) if name != key.field))

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape)
        return (
            layout.from_shards("best"),
            layout.by_bucket("choose", ("best", layout.spans)),
            layout.gathered("gather", "choose"),
            layout.to_shards("verdict", "gather"),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "best":
                return self._best(part, inputs)
            case "choose":
                return self._choose(inputs)
            case "gather":
                return gather(part, inputs)
            case "verdict":
                return self._verdict(inputs)
        raise ValueError(f"{self.method()} has no phase {phase!r}")

    def _best(self, part: str, inputs: Inputs) -> Output:
        """(key, check, rank0.., draw, high, low, place) of the span's best of each key, bucketed by key."""
        found: list[Arrays] = []
        for shard, table in zip(inputs.keys, inputs, strict=True):
            assert isinstance(shard, ShardColumns)
            found.append(self._first(self._candidates(shard.shard, table)))
        rows = self._first(joined(found))
        count = buckets_of(part)
        return Output(split(rows, bucket(rows["key"], rows["check"], count), count), {"candidates": len(rows["key"])})

    def _candidates(self, shard: int, table: pa.Table) -> Arrays:
        """The rows of a shard that are asked and have a key."""
        has, key, check = self._key.hashes(table)
        asked = table.column("asked").to_numpy()
        if self.on_missing == "error":
            refuse_missing("cap", table, asked & ~has, repr(self._key.name))
        mine = pa.array(asked & has)
        chosen = table.filter(mine)
        rows = {"key": key[asked[has]], "check": check[asked[has]]} | ranks(self.prefer, chosen)
        rows["draw"] = hash64(self.seed, "cap", chosen.column("uid")) if chosen.num_rows else np.empty(0, np.uint64)
        rows["high"], rows["low"] = halves(chosen.column("uid"))
        return rows | {"place": places(shard, table.num_rows)[mine.to_numpy(zero_copy_only=False)]}

    def _first(self, rows: Arrays) -> Arrays:
        """The best `most` rows of each key."""
        by = [rows[n] for n in ("key", "check", *(f"rank{i}" for i in range(len(self.prefer))), "draw", "high", "low")]
        order = np.lexsort(by[::-1])
        starts = starts_of(rows["key"][order], rows["check"][order])
        lengths = np.diff(np.append(starts, len(order)))
        within = np.arange(len(order)) - np.repeat(starts, lengths)
        chosen = order[within < self.most]
        return {name: a[chosen] for name, a in rows.items()}

    def _choose(self, inputs: Inputs) -> Output:
        """The places of those that stay."""
        stay = self._first(stacked(inputs))
        return Output(by_span({"place": stay["place"]}, inputs, "best"), {"kept": len(stay["place"])})

    def _verdict(self, inputs: Inputs) -> Output:
        table = inputs.select(ShardColumns).only()
        asked = table.column("asked").to_numpy()
        has, _, _ = self._key.hashes(table)
        keep = np.full(len(asked), self.on_missing == "keep") & ~has
        keep[rows_of(stacked(inputs.select(PhaseFile))["place"])] = True
        reason = np.where(has, REASON, MISSING)
        answer = [pa.array(keep, mask=~asked), pa.array(reason, pa.string(), mask=keep | ~asked)]
        return Output(pa.table(answer, schema=VERDICT), {"kept": int(np.count_nonzero(keep & asked))})
