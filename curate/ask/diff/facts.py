"""In what the samples differ that only one side keeps: languages, sizes, shapes, hosts, lists.

tallies(shard, (a, b), (both, only_a, only_b))      # of one shard
totals.add(...); totals.tables()                    # of all
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.ask.diff.shard import Shard
from curate.ask.diff.sides import Side
from curate.ask.report.tables import SHAPES, SIDES

MOST = 12  # values of a table; the rest is one row
SETS = ("both", "only_a", "only_b")
NONE = "none"
HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>\[[^\]/?#]*\]|[^/:?#]*)"
LANGUAGE, SIDE, SHAPE, FROM_HOST, FROM_LIST = (
    "language",
    "shorter side as received, pixels",
    "longer to shorter side",
    "host",
    "list",
)
Tallies = dict[str, pa.Table]
"""Title -> value (string, each once), both, only_a, only_b (int64)."""
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
COMPACT_ROWS = 200_000  # values that pile up before equal ones are added up


@dataclass(frozen=True)
class FactTable:
    """How often each value stands in each of the three sets: those with the largest difference in share first.

    rows: (value, of both, of only A, of only B); the last one may stand for the rest ("37 others"). sizes: of the sets.
    """

    title: str
    sizes: tuple[int, int, int]
    rows: tuple[tuple[str, int, int, int], ...]

    @property
    def spread(self) -> float:
        """The largest difference in share between two of the sets, of those that have samples."""
        filled = [i for i, size in enumerate(self.sizes) if size]
        shares = [[counts[i] / self.sizes[i] for i in filled] for _, *counts in self.rows]
        return max((max(s) - min(s) for s in shares if s), default=0.0)


def tallies(shard: Shard, sides: tuple[Side, Side], rows: Rows) -> Tallies:
    """Of one shard; `rows` are the row numbers of the three sets."""
    facts = shard.facts
    values = {FROM_HOST: _hosts(facts.column("url")), FROM_LIST: facts.column("list").fill_null(NONE)}
    values |= _sizes(facts.column("original_width"), facts.column("original_height"))
    language = _language(shard, sides)
    if language is not None:
        values = {LANGUAGE: language, **values}
    return {title: _tally(v, rows) for title, v in values.items()}


def _tally(values: pa.Array | pa.ChunkedArray, rows: Rows) -> pa.Table:
    chosen = values.take(pa.array(np.concatenate(rows)))
    marks = np.repeat(np.arange(3), [len(r) for r in rows])
    return _summed(pa.table([chosen, *((marks == i).astype(np.int64) for i in range(3))], ["value", *SETS]))


def _summed(table: pa.Table) -> pa.Table:
    grouped = table.group_by("value").aggregate([(s, "sum") for s in SETS])
    return grouped.select(["value", *(f"{s}_sum" for s in SETS)]).rename_columns(["value", *SETS])


def _hosts(url: pa.ChunkedArray) -> pa.Array:
    found = pc.struct_field(pc.extract_regex(url, HOST), "host")
    return pc.utf8_lower(found.fill_null(NONE))


def _sizes(width: pa.ChunkedArray, height: pa.ChunkedArray) -> dict[str, pa.Array]:
    sides = np.stack([c.cast(pa.float64()).to_numpy() for c in (width, height)])
    low, high = np.minimum(*sides), np.maximum(*sides)
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = high / low
    return {SIDE: _binned(low, SIDES, "1,024 and more"), SHAPE: _binned(shape, SHAPES, "3 and more")}


def _binned(values: np.ndarray, bounds: Sequence[tuple[float, str]], last: str) -> pa.Array:
    """The name of the bin of each value, which is under its bound; of NaN: none."""
    number = np.searchsorted([b for b, _ in bounds], values, side="right")
    number[np.isnan(values)] = len(bounds) + 1
    return pa.array([*(name for _, name in bounds), last, NONE], pa.string()).take(pa.array(number))


def _language(shard: Shard, sides: tuple[Side, Side]) -> pa.ChunkedArray | None:
    """The column `lang` as A knows it, else as B does; None where neither recipe looks at languages."""
    places = [side.about.get("columns", {}).get("lang") for side in sides]
    place = places[0] or places[1]
    if place is None:
        return None
    folder, name = place["folder"], place["field"]
    column = shard.aligned(folder, [name]).column(name) if folder else shard.fact(name)
    return column.fill_null(NONE) if pa.types.is_string(column.type) else None


class Totals:
    """Tallies of shards added up; equal values are summed as they pile up, so that memory follows distinct values."""

    def __init__(self) -> None:
        self._tables: dict[str, pa.Table] = {}
        self._summed: dict[str, int] = {}  # rows after the last summing

    def add(self, found: Tallies) -> None:
        for title, table in found.items():
            before = self._tables.get(title)
            whole = table if before is None else pa.concat_tables([before, table])
            if whole.num_rows > 2 * self._summed.get(title, 0) + COMPACT_ROWS:
                whole = _summed(whole)
                self._summed[title] = whole.num_rows
            self._tables[title] = whole

    def tables(self) -> list[FactTable]:
        found = [_ranked(title, _summed(table)) for title, table in self._tables.items()]
        return [t for t in found if t.title != FROM_LIST or len(t.rows) > 1]


def _ranked(title: str, table: pa.Table) -> FactTable:
    counts = np.stack([table.column(s).to_numpy() for s in SETS], axis=1).reshape(-1, 3)
    sizes = counts.sum(axis=0)
    filled = sizes > 0
    shares = counts[:, filled] / sizes[filled]
    spread = shares.max(axis=1) - shares.min(axis=1) if filled.any() else np.zeros(len(counts))
    by_value = np.empty(len(counts), np.int64)
    by_value[pc.sort_indices(table.column("value")).to_numpy()] = np.arange(len(counts))
    order = np.lexsort((by_value, -counts.sum(axis=1), -spread.round(12)))
    first, rest = order[:MOST], order[MOST:]
    names = table.column("value").take(pa.array(first)).to_pylist()
    rows = [(name, *map(int, counts[i])) for name, i in zip(names, first, strict=True)]
    if len(rest):
        rows.append((f"{len(rest):,} others", *map(int, counts[rest].sum(axis=0))))
    return FactTable(title, tuple(map(int, sizes)), tuple(rows))  # type: ignore[arg-type]
