"""The first so many samples of a total order, exactly, over the whole pool or over what is left: what
`top_fraction` and `random_subset` have in common.

Exact in two passes and bounded memory, whatever the type and however many scores are equal: (score, uid) is a total
order, as unsigned numbers that sort like it. Each span of shards sorts its own and notes every so many-th with its
place (`sketch`); together these bracket the place asked for (`bounds`) to within a 500th of the samples; a
second pass takes those between the brackets and counts those before (`collect`); sorted, they hold it (`threshold`).
A histogram by 16 bits a pass would need twelve for 64-bit scores with ties.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import MISSING, VERDICT, GlobalFilter, OnMissing
from filters.missing import refuse_missing
from stages.base import Inputs, Output, Phase, PhaseFile, Shape, ShardColumns
from stages.shuffle import Layout, halves

NOTES = 2048  # places that a span notes in the first pass
LAST = np.iinfo(np.uint64).max

Keys = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(order, high, low), uint64 each: rank of the score, best first, then the uid."""


class Ranked(GlobalFilter):
    """Keeps the first samples of (order, uid); subclasses say which order, and how many."""

    version: ClassVar[int] = 2  # 1 noted keys of rows only: its sketches must not meet later phases of this one

    @abstractmethod
    def order(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, str]:
        """(order, present, kind) of a shard's rows: uint64 (rows,), smallest goes first; which rows have a place in
        it; and the kind of number behind it, the same for all shards."""

    @abstractmethod
    def value(self, order: int, kind: str) -> float | int:
        """The number behind an order."""

    @abstractmethod
    def last(self, asked: int) -> int:
        """Place, from 0, of the last sample that is kept of so many; -1: none is."""

    def ties(self) -> bool:
        """Does what ties with the last sample stay with it? Else the smaller uid goes first."""
        return False

    def missing(self) -> OnMissing:
        """What becomes of samples without a place."""
        return "error"

    def beyond(self) -> str:
        """The reason of those that come after the last."""
        return f"not_in_{self.method()}"

    def _read(self) -> str:
        return ", ".join(repr(column) for column in self.reads())

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape)
        sketch, collect = layout.from_shards("sketch"), layout.from_shards("collect")
        bounds, threshold = PhaseFile("bounds", "all"), PhaseFile("threshold", "all")

        def both(phase: str) -> tuple[PhaseFile, ...]:
            return tuple(PhaseFile(phase, span, table) for span in layout.spans for table in (0, 1))

        return (
            sketch,
            Phase("bounds", ("all",), lambda _: both("sketch")),
            Phase("collect", layout.spans, lambda part: (bounds, *collect.inputs(part))),
            Phase("threshold", ("all",), lambda _: (bounds, *both("collect"))),
            Phase("verdict", [f"{s:08d}" for s in shape.shards], lambda part: (ShardColumns(int(part)), threshold)),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "sketch":
                return self._sketch(inputs)
            case "bounds":
                return self._bounds(inputs)
            case "collect":
                return self._collect(inputs)
            case "threshold":
                return self._threshold(inputs)
            case "verdict":
                return self._verdict(inputs)
        raise ValueError(f"{self.method()} has no phase {phase!r}")

    def _places(self, inputs: Inputs) -> Iterator[tuple[pa.Table, np.ndarray, np.ndarray, str]]:
        """Of each shard: its table, the rows that are asked and have a place, their order, and the kind of score."""
        for table in inputs:
            order, present, kind = self.order(table)
            asked = table.column("asked").to_numpy()
            if self.missing() == "error":
                refuse_missing(self.method(), table, asked & ~present, self._read())
            mine = np.flatnonzero(asked & present)
            yield table, mine, order[mine], kind

    # ---- phases

    def _sketch(self, inputs: Inputs) -> Output:
        """Every so many-th key, with how many rows come before it; and counts.

        A key need not be a row's: (order, 0, 0) stands before all rows of that order, and costs no look at a uid. Only
        runs of one order that are longer than the step are sorted by uid.
        """
        found, asked, kinds = [], 0, set()
        for table, mine, order, kind in self._places(inputs):
            found.append((table.column("uid"), mine, order))
            asked += int(np.count_nonzero(table.column("asked").to_numpy()))
            kinds.add(kind)
        orders = np.sort(np.concatenate([order for _, _, order in found]))
        n = len(orders)
        step = max(1, -(-n // NOTES))
        values = np.unique(orders[::step])
        before = np.searchsorted(orders, values)
        runs = np.searchsorted(orders, values, side="right") - before
        none = np.zeros(len(values), np.uint64)
        keys, counts = [(values, none, none)], [before]
        if (runs > step).any():
            within, rank = _within(found, values[runs > step], step)
            keys.append(within)
            counts.append(np.searchsorted(orders, within[0]) + rank)
        order, high, low, c = (np.concatenate(x) for x in (*zip(*keys, strict=True), counts))
        by = np.lexsort((low, high, order))
        notes = {"order": order[by], "high": high[by], "low": low[by]}
        notes["at_least"] = np.diff(c[by], prepend=0)  # rows from the note before up to this one
        notes["at_most"] = np.diff(c[by], append=n)  # rows from this one up to the next
        totals = {"asked": [asked], "present": [n], "kind": ["+".join(sorted(kinds))]}
        return Output(beside(notes, totals), {"asked": asked, "missing": asked - n})

    def _bounds(self, inputs: Inputs) -> Output:
        """One row: brackets of the place asked for (place -1: nobody; not below `present`: everybody)."""
        tables = list(inputs)
        notes, counts = pa.concat_tables(tables[0::2]), pa.concat_tables(tables[1::2])
        kinds = set(counts.column("kind").to_pylist())
        if len(kinds) > 1 or "+" in "".join(kinds):
            raise ValueError(f"{self.method()}: {self._read()} has another type in some shards: {', '.join(kinds)}")
        asked, present = (sum(counts.column(n).to_pylist()) for n in ("asked", "present"))
        place = self.last(asked)
        row = {"place": place, "asked": asked, "present": present, "kind": kinds.pop()}
        first, beyond = (0, 0, 0), (0, 0, 0)
        if 0 <= place < present:
            columns = [notes.column(n).to_numpy() for n in ("order", "high", "low", "at_least", "at_most")]
            rows = np.lexsort((columns[2], columns[1], columns[0]))
            order, high, low, at_least, at_most = (c[rows] for c in columns)
            fewest, most = np.cumsum(at_least), np.cumsum(at_most) - at_most  # rows before each note
            i = int(np.searchsorted(most, place, side="right")) - 1
            j = int(np.searchsorted(fewest, place, side="right"))
            first = (order[i], high[i], low[i])
            beyond = (order[j], high[j], low[j]) if j < len(order) else (LAST, LAST, LAST)
        row |= dict(zip(("order", "high", "low", "to_order", "to_high", "to_low"), (*first, *beyond), strict=True))
        return Output(one_row(row))

    def _collect(self, inputs: Inputs) -> Output:
        """The keys from the lower bracket up to the upper one, and how many come before."""
        bounds = inputs.select(PhaseFile).only().to_pylist()[0]
        first = (bounds["order"], bounds["high"], bounds["low"])
        beyond = (bounds["to_order"], bounds["to_high"], bounds["to_low"])
        found, before = [], 0
        for table, mine, order, _ in self._places(inputs.select(ShardColumns)):
            near = (order >= np.uint64(first[0])) & (order <= np.uint64(beyond[0]))  # only these need their uids
            keys = (order[near], *halves(table.column("uid").take(pa.array(mine[near]))))
            early = precedes(keys, first)
            here = ~early & (precedes(keys, beyond) | (beyond == (LAST,) * 3))
            before += int(np.count_nonzero(order < np.uint64(first[0]))) + int(np.count_nonzero(early))
            found.append(tuple(k[here] for k in keys))
        columns = {n: np.concatenate([f[i] for f in found]) for i, n in enumerate(("order", "high", "low"))}
        return Output(beside(columns, {"before": [before]}), {"between": len(columns["low"])})

    def _threshold(self, inputs: Inputs) -> Output:
        """The last key that is kept; no row: nobody is."""
        bounds = inputs.select(PhaseFile, "bounds").only().to_pylist()[0]
        stats = {n: bounds[n] for n in ("asked", "present")} | {"missing": bounds["asked"] - bounds["present"]}
        last: dict[str, int] = {"order": LAST, "high": LAST, "low": LAST}
        if 0 <= bounds["place"] < bounds["present"]:
            tables = list(inputs.select(PhaseFile, "collect"))
            keys, before = pa.concat_tables(tables[0::2]), pa.concat_tables(tables[1::2])
            order, high, low = sort_keys(*(keys.column(n).to_numpy() for n in ("order", "high", "low")))
            at = bounds["place"] - sum(before.column("before").to_pylist())
            last["order"] = int(order[at])
            if not self.ties():
                last |= {"high": int(high[at]), "low": int(low[at])}
            stats["threshold"] = self.value(last["order"], bounds["kind"])
        table = one_row(last)
        return Output(table if bounds["place"] >= 0 else table.slice(0, 0), stats)

    def _verdict(self, inputs: Inputs) -> Output:
        table = inputs.select(ShardColumns).only()
        order, present, _ = self.order(table)
        asked = table.column("asked").to_numpy()
        keep = np.zeros(len(order), bool)
        for last in inputs.select(PhaseFile).only().to_pylist():
            keep = order < np.uint64(last["order"])
            tied = np.flatnonzero(order == np.uint64(last["order"]))
            high, low = halves(table.column("uid").take(pa.array(tied)))
            keep[tied] = ~precedes_all((last["order"], last["high"], last["low"]), (order[tied], high, low))
        keep = np.where(present, keep, self.missing() == "keep")
        none = pa.array(keep | ~asked)
        reason = pc.if_else(pa.array(present), pa.scalar(self.beyond()), pa.scalar(MISSING))
        reason = pc.if_else(none, pa.scalar(None, pa.string()), reason)
        columns = [pa.array(keep, mask=~asked), reason]
        return Output(pa.table(columns, schema=VERDICT), {"kept": int(np.count_nonzero(keep & asked))})


def _within(
    found: Sequence[tuple[pa.ChunkedArray, np.ndarray, np.ndarray]], values: np.ndarray, step: int
) -> tuple[Keys, np.ndarray]:
    """Every `step`-th key of each long run, and its rank in the run.

    Args:
        found: of each shard its uids, rows, and the rows' orders. values: the orders of long runs, ascending.
    """
    parts = []
    for uid, mine, order in found:
        at = np.minimum(np.searchsorted(values, order), len(values) - 1)
        member = values[at] == order
        parts.append((order[member], *halves(uid.take(pa.array(mine[member])))))
    order, high, low = sort_keys(*(np.concatenate(x) for x in zip(*parts, strict=True)))
    rank = np.arange(len(order)) - np.searchsorted(order, order)
    chosen = (rank > 0) & (rank % step == 0)
    return (order[chosen], high[chosen], low[chosen]), rank[chosen]


def one_row(values: Mapping[str, Any]) -> pa.Table:
    """uint64 for keys, which may not fit int64; int64 for counts; strings."""
    unsigned = ("order", "high", "low", "to_order", "to_high", "to_low")
    types = {n: pa.uint64() if n in unsigned else None for n in values}
    return pa.table({n: pa.array([v if isinstance(v, str) else int(v)], types[n]) for n, v in values.items()})


def beside(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[pa.Table]:
    """Two tables as the buckets of one file, which have one schema: what the other has is null."""
    tables = [pa.table(dict(first)), pa.table(dict(second))]
    schema = pa.schema([*tables[0].schema, *tables[1].schema])
    nulls = [{n: pa.nulls(t.num_rows, schema.field(n).type) for n in schema.names} for t in tables]
    return [
        pa.table({n: t.column(n) if n in t.column_names else empty[n] for n in schema.names})
        for t, empty in zip(tables, nulls, strict=True)
    ]


def sort_keys(order: np.ndarray, high: np.ndarray, low: np.ndarray) -> Keys:
    rows = np.lexsort((low, high, order))
    return order[rows], high[rows], low[rows]


def precedes(keys: Keys, key: tuple[int, int, int]) -> np.ndarray:
    """bool (n,): keys < key."""
    order, high, low = (np.uint64(k) for k in key)
    below = (keys[1] < high) | ((keys[1] == high) & (keys[2] < low))
    return (keys[0] < order) | ((keys[0] == order) & below)


def precedes_all(key: tuple[int, int, int], keys: Keys) -> np.ndarray:
    """bool (n,): key < keys."""
    order, high, low = (np.uint64(k) for k in key)
    above = (high < keys[1]) | ((high == keys[1]) & (low < keys[2]))
    return (order < keys[0]) | ((order == keys[0]) & above)
