"""What `ngram_rarity` and `word_counts` share: each n-gram of a text counted over the whole pool, exactly.

Phases: `ngrams` (a span's n-grams, each once, into buckets), `totals` (a bucket's sums for the spans that asked),
`sums` and `histogram-0`, ... (how many n-grams occur how often, as small tables, in a tree), `rows` (spans look their
n-grams up), and the columns. An n-gram is known by 128 bits of a hash; a count is of occurrences, so a text that says
a word twice counts it twice. See `stages/counting.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

import stages.shuffle as shuffle
from stages.base import TEXT, Barrier, Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, tree
from stages.counting import Totals, all_once, arrays, back, by_shard, joined, once, ones, to_buckets, totals
from stages.shuffle import Arrays, Layout, buckets_of
from stages.tokens import Ngrams

NGRAMS = 8  # different n-grams that a text of a span brings, about: spans and buckets have so many rows less


class TokenCounts(Barrier):
    """Base: columns made of the counts of a text's n-grams; a text without a token has nulls."""

    @abstractmethod
    def ngrams(self, texts: list[str | None]) -> Ngrams:
        """The n-grams that are counted."""

    @abstractmethod
    def columns(self, found: Ngrams, counts: np.ndarray, rows: int, histogram: pa.Table | None) -> list[np.ndarray]:
        """Arrays of `writes()`, (rows,) each, given int64 counts of the n-grams; `histogram` as in `histogram`."""

    def ranks(self) -> bool:
        """Do the columns need the histogram?"""
        return False

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape, max(1, shuffle.ROWS // NGRAMS))
        ranked: tuple[Phase, ...] = ()
        extra: tuple[PhaseFile, ...] = ()
        if self.ranks():
            ranked = (
                layout.by_bucket("sums", ("ngrams", layout.spans)),
                *tree("histogram", "sums", layout.bucket_parts),
            )
            extra = (PhaseFile(ranked[-1].name, "all"),)
        return (
            layout.from_shards("ngrams"),
            layout.by_bucket("totals", ("ngrams", layout.spans)),
            *ranked,
            back(layout, "rows", "totals", extra),
            layout.to_shards("counts", "rows"),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase.startswith("histogram-"):
            return self.histogram(pa.concat_tables(inputs), part)
        match phase:
            case "ngrams":
                return to_buckets(all_once(self._counted(inputs)), buckets_of(part))
            case "totals":
                return totals(inputs, "ngrams")
            case "sums":
                return _sums(inputs)
            case "rows":
                return self._rows(part, inputs)
            case "counts":
                return Output(inputs.select(PhaseFile).only())
        raise ValueError(f"{self.method()} has no phase {phase!r}")

    def _counted(self, inputs: Inputs) -> Iterator[Arrays]:
        for table in inputs:
            found = self.ngrams(table.column("text").to_pylist())
            yield once(ones(found.key, found.check))

    def histogram(self, table: pa.Table, part: str) -> Output:
        """(count, ngrams), by count: how many n-grams occur so often."""
        return Output(_histogram(table.column("count").to_numpy(), table.column("ngrams").to_numpy()))

    def _rows(self, part: str, inputs: Inputs) -> Output:
        found = Totals(once(joined([arrays(t) for t in inputs.select(PhaseFile, "totals")])))
        ranked = next((k.phase for k in inputs.keys if isinstance(k, PhaseFile) and k.phase != "totals"), None)
        histogram = None if ranked is None else inputs.select(PhaseFile, ranked).only()
        shards, tables = inputs.select(ShardColumns), {}
        for shard, table in zip(shards.keys, shards, strict=True):
            assert isinstance(shard, ShardColumns)
            tables[shard.shard] = self._answers(table, found, histogram)
        return Output(by_shard(tables, part, self.writes()))

    def _answers(self, table: pa.Table, totals: Totals, histogram: pa.Table | None) -> pa.Table:
        found = self.ngrams(table.column("text").to_pylist())
        columns = self.columns(found, totals.of(found.key, found.check), table.num_rows, histogram)
        none = np.ones(table.num_rows, bool)
        none[found.row] = False
        kinds = self.writes().types
        made = [pa.array(c, kind, mask=none) for c, kind in zip(columns, kinds, strict=True)]
        return pa.table(made, schema=self.writes())


def rarest(found: Ngrams, counts: np.ndarray, rows: int) -> np.ndarray:
    """int64 (rows,): the smallest count of a row's n-grams; means something where there is one."""
    least = np.full(rows, np.iinfo(np.int64).max)
    np.minimum.at(least, found.row, counts)
    return least


def _sums(inputs: Inputs) -> Output:
    """The histogram of one bucket."""
    counts = once(joined([arrays(t) for t in inputs]))["count"]
    return Output(_histogram(counts, np.ones(len(counts), np.int64)))


def _histogram(counts: np.ndarray, ngrams: np.ndarray) -> pa.Table:
    values, at = np.unique(counts, return_inverse=True)
    total = np.zeros(len(values), np.int64)
    np.add.at(total, at, ngrams)
    return pa.table({"count": pa.array(values, pa.int64()), "ngrams": total})
