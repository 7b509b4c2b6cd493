"""CLIP's query balancing: a pair stays if its text contains a query, and of each query's pairs at most so many.

    filters:
      - query_cap: {metadata: queries.json, most: 20000, over: survivors}

Paper: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020),
section 2.2: 500,000 queries (words that occur at least 100 times in English Wikipedia, bigrams of high pointwise mutual
information, names of articles, WordNet synsets) and up to 20,000 pairs a query. There is no code.
Followed: that section. Unverified, for the paper does not say: how a text contains a query (here as MetaCLIP has it:
whole words, case counts), which pairs of a query are taken (here at random, one draw a pair and query), and what
becomes of a pair that one query takes and another has no room for (here it stays).
Weights: none; the list: `curate metadata build`, or MetaCLIP's metadata.json.

`filters.metaclip` does by chance what this does by count: as many pairs of each query on average, without an order.
Exact and in bounded memory: the taken are the `most` smallest draws of a query, uids breaking ties. Counting first
tells about where the last of them lies, so that little more than those are collected, in buckets of queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from filters.base import VERDICT, GlobalFilter
from stages.base import Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, per_shard, tree
from stages.draws import hash64, hash64_halves
from stages.entry_matcher import Mode
from stages.metaclip_balance import Matches
from stages.metaclip_lists import absolute
from stages.metaclip_match import MetaclipMatch
from stages.metaclip_phases import Counting, asked_of
from stages.shuffle import NEED, ROWS, Layout, bucket, buckets_of, find, halves, split, stacked, starts_of

NO_QUERY = "no_query"
FULL = "queries_full"
SALT = "query_cap"
LAST = np.iinfo(np.uint64).max
Draws = dict[str, np.ndarray]


class QueryCap(GlobalFilter):
    """Keep what one of its queries takes; others: "no_query" (its text has none), or "queries_full".

    Args:
        metadata: a JSON file of queries.
        most: pairs a query takes.
        mode: "faithful" or "fixed"; see `stages.entry_matcher`.
        seed: of the draws.

    Footers: of the phase `limits` how many queries are matched and how many have more than `most`.
    """

    metadata: str
    most: int = Field(default=20_000, ge=1)
    mode: Mode = "faithful"
    seed: int = 0

    @field_validator("metadata")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return absolute(value)

    def counting(self) -> Counting:
        return Counting(MetaclipMatch(metadata=self.metadata, mode=self.mode))

    def files(self) -> tuple[str, ...]:
        return self.counting().match.files()

    def identity(self) -> dict[str, Any]:
        found = super().identity()
        found["parameters"]["metadata"] = self.counting().match.lists()
        return found

    def reads(self) -> tuple[str | Column, ...]:
        return self.counting().reads

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape, ROWS // 8)  # a row has several matches
        counting = self.counting().phases(shape, local=False)
        limits, spans = PhaseFile("limits", "all"), layout.from_shards("collect")
        lasts = tree("lasts", "decide", layout.bucket_parts)
        return (
            *counting,
            Phase("limits", ("all",), lambda _: (PhaseFile(counting[-1].name, "all"),)),
            Phase("collect", layout.spans, lambda part: (limits, *spans.inputs(part)), need=NEED),
            layout.by_bucket("decide", ("collect", layout.spans)),
            *lasts,
            per_shard("verdict", shape, extra=(PhaseFile(lasts[-1].name, "all"),)),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase.startswith("lasts"):
            return Output(_by_key(stacked(inputs)))
        match phase:
            case "limits":
                return self._limits(inputs.only())
            case "collect":
                return self._collect(part, inputs)
            case "decide":
                return Output(self._decide(stacked(inputs)))
            case "verdict":
                return self._verdict(inputs)
        return self.counting().run(phase, inputs)

    def _limits(self, counts: pa.Table) -> Output:
        """(key, below): of each query with too many pairs, draws not below this are surely not among the smallest.

        The smallest `most` of c draws reach to about most / c; eight deviations more than that has room for any chance.
        """
        key, count = counts.column("key").to_numpy(), counts.column("count").to_numpy()
        full = count > self.most
        share = np.minimum((self.most + 8 * np.sqrt(self.most) + 64) / count[full], 1.0)
        below = np.array([min(int(s * 2.0**64), int(LAST)) for s in share.tolist()], np.uint64)
        stats = {"matched_queries": len(key), "full_queries": int(full.sum())}
        return Output(pa.table({"key": key[full], "below": below}), stats)

    def _collect(self, part: str, inputs: Inputs) -> Output:
        """(key, draw, high, low) of the pairs that may be among the smallest of a full query, bucketed by query."""
        limits = stacked(inputs.select(PhaseFile))
        found: list[Draws] = []
        for _, draws in self._draws(inputs.select(ShardColumns), limits["key"]):
            below = draws["draw"] <= limits["below"][draws.pop("at")]
            found.append({n: a[below] for n, a in draws.items() if n != "row"})
        rows = {n: np.concatenate([f[n] for f in found]) for n in ("key", "draw", "high", "low")}
        count = buckets_of(part)
        into = bucket(rows["key"], np.zeros(len(rows["key"]), np.uint64), count)
        return Output(split(rows, into, count), {"collected": len(into)})

    def _draws(self, shards: Inputs, full: np.ndarray) -> Iterator[tuple[tuple[pa.Table, Matches], Draws]]:
        """Of each shard table and matches, and of matches with full queries row, key, at (in `full`), draw, uid."""
        for table in shards:
            matches = self.counting().matches(table)
            hit, at = find(full, matches.key)
            row, key = matches.row[hit], matches.key[hit]
            draw = hash64_halves(self.seed, SALT, hash64(self.seed, SALT, table.column("uid"))[row], key)
            high, low = (half[row] for half in halves(table.column("uid")))
            yield (table, matches), {"row": row, "key": key, "at": at[hit], "draw": draw, "high": high, "low": low}

    def _decide(self, rows: Draws) -> pa.Table:
        """(key, draw, high, low): the last pair that each query takes."""
        order = np.lexsort((rows["low"], rows["high"], rows["draw"], rows["key"]))
        rows = {n: a[order] for n, a in rows.items()}
        starts = starts_of(rows["key"])
        there = np.diff(np.append(starts, len(order)))
        return pa.table({n: a[starts + np.minimum(there, self.most) - 1] for n, a in rows.items()})

    def _verdict(self, inputs: Inputs) -> Output:
        last = stacked(inputs.select(PhaseFile))
        (((table, matches), draws),) = self._draws(inputs.select(ShardColumns), last["key"])
        taken = np.ones(len(matches.key), bool)
        taken[find(last["key"], matches.key)[0]] = ~_after(draws, {n: a[draws["at"]] for n, a in last.items()})
        keep, has_query = np.zeros(matches.rows, bool), np.zeros(matches.rows, bool)
        keep[matches.row[taken]] = True
        has_query[matches.row] = True
        asked = asked_of(table)
        reason = pa.array(np.where(has_query, FULL, NO_QUERY), pa.string(), mask=keep | ~asked)
        return Output(pa.table([pa.array(keep, mask=~asked), reason], schema=VERDICT), {"kept": int(keep.sum())})


def _after(a: Draws, b: Draws) -> np.ndarray:
    """bool: (draw, high, low) of a > that of b."""
    later = a["low"] > b["low"]
    for name in ("high", "draw"):
        later = (a[name] > b[name]) | ((a[name] == b[name]) & later)
    return later


def _by_key(rows: Draws) -> pa.Table:
    order = np.argsort(rows["key"])
    return pa.table({n: a[order] for n, a in rows.items()})
