"""Near hashes with a second signal: how pairs of hashes become pairs of samples that agree, part by part.

A node is one hash with one value of each signal. The join gives near hashes (`found`); samples of both must agree in
their signals, and so must samples of equal hashes, which are pairs at distance 0. Rows are cut by their hash into
*cells*, `CELLS` to a bucket, since signals are wide:

    signals    a span: (hash, [w0..w3,] node, born, s0, ...), each node once, a table a cell
    found      what the join finds: (a, b, distance), hashes, a table a cell of a, then one a cell of b
    distinct   a cell and list: nodes that are new in it, and the node that each goes by (`canonical`)
    aliases    a cell and list: (node, canonical) of those that go by another's name, a table a bucket of the node
    left       a cell and list: the nodes of a, a table for each cell that a near b lies in
    pairs      a cell of b and list: pairs of nodes that agree, of which at least one is new

So rows with signals travel once for each cell that asks for them, not for each pair, and candidates are looked at some
million at a time, however many nodes a hash has.

A crowd: of the nodes of one hash the first `CROWD` are nodes of their own. Any further one that lies, in every signal,
within half of what is allowed of an earlier one goes by the name of the first such: two that do lie within what is
allowed of each other, so that they are as good as equal; what else they agree with is asked of that one alone. So a
picture that the web has in a hundred thousand encodings has some edges and not their square. Nodes come in the order
of their list, then of their number; an old one keeps its name when the pool grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa

from stages.base import Input, Inputs, Output, Phase, PhaseFile
from stages.near_forest import node_bucket
from stages.near_hash_crowds import Pairs, PartPairs
from stages.near_hash_phases import Generation, generations
from stages.shuffle import NEED, Arrays, Layout, bucket_of_part, buckets_of, split, stacked, starts_of
from stages.vectors import joined, split_table
from stages.verified_pairs import Agreement, Signals, blocks, each

CELLS = 4
CROWD = 16


@dataclass(frozen=True)
class SignalJoin:
    """The phases after `found`, whose parts are given; `layout` is stamped."""

    layout: Layout
    found: Sequence[str]

    @property
    def cells(self) -> int:
        return self.layout.buckets * CELLS

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """cell-list-until-own-of-cells"""
        return tuple(self._part(cell, one) for one in self._lists for cell in range(self.cells))

    @cached_property
    def _lists(self) -> tuple[Generation, ...]:
        return generations(self.layout)

    def _part(self, cell: int, one: Generation) -> str:
        return f"{cell:05d}-{one.number:04d}-{one.stamp}-of-{self.cells:05d}"

    def phases(self) -> tuple[Phase, ...]:
        def phase(name: str, of: object) -> Phase:
            return Phase(name, self.parts, of, local=True, need=NEED)  # type: ignore[arg-type]

        return (
            phase("distinct", self._signals),
            phase("aliases", lambda part: (PhaseFile("distinct", part),)),
            phase("left", lambda part: (*self._pairs_of(part, 0), *self._nodes_of(part))),
            phase("pairs", lambda part: (*self._pairs_of(part, self.cells), *self._nodes_of(part), *self._left(part))),
        )

    def _until(self, part: str) -> tuple[Generation, ...]:
        """The lists up to that of the part."""
        own = part.split("-")[3]
        return self._lists[: [one.own for one in self._lists].index(own) + 1]

    def _signals(self, part: str) -> tuple[Input, ...]:
        return tuple(PhaseFile("signals", s, bucket_of_part(part)) for one in self._until(part) for s in one.spans)

    def _pairs_of(self, part: str, after: int) -> tuple[Input, ...]:
        """What was found in the lists up to that of the part; `after`: by the cell of a (0) or of b."""
        stamps = tuple(f"-{one.stamp}-" for one in self._until(part))
        mine = (name for name in self.found if any(s in name for s in stamps))
        return tuple(PhaseFile("found", name, after + bucket_of_part(part)) for name in mine)

    def _nodes_of(self, part: str) -> tuple[Input, ...]:
        return tuple(PhaseFile("distinct", self._part(bucket_of_part(part), one)) for one in self._until(part))

    def _left(self, part: str) -> tuple[Input, ...]:
        last = self._until(part)[-1]
        return tuple(PhaseFile("left", self._part(c, last), bucket_of_part(part)) for c in range(self.cells))


# ---------------------------------------------------------------- rows with signals


def signals_phase(layout: Layout) -> Phase:
    """A part a span, reading its shards; its tables are as many as there are cells."""
    return Phase("signals", layout.spans, layout.from_shards("signals").inputs, local=True, need=NEED)


def signal_rows(part: str, found: Sequence[pa.Table]) -> Output:
    """Each node once, a table a cell of its hash; `found`: (hash, ..., node, born, s0, ...) of each shard."""
    table = below(found)
    _, first = np.unique(_column(table, "node"), return_index=True)
    table = table.take(pa.array(first))
    cells = buckets_of(part) * CELLS
    return Output(split_table(table, node_bucket(_column(table, "hash"), cells), cells), {"nodes": len(first)})


def below(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables below one another.

    Raises:
        ValueError: signals of several lengths.
    """
    found = list(tables)
    kinds = {str(t.schema.types) for t in found if t.num_rows}
    if len(kinds) > 1:
        raise ValueError(f"the values of a signal have several lengths or types: {' and '.join(sorted(kinds))}")
    return joined(found)


def _column(table: pa.Table, name: str) -> np.ndarray:
    return table.column(name).to_numpy()


def distinct(part: str, inputs: Inputs, verify: Sequence[Agreement]) -> Output:
    """(hash, node, canonical, born, s0, ...) of the nodes that are new in the part's list."""
    table = below(inputs)
    order = np.lexsort((_column(table, "born"), _column(table, "node")))
    table = table.take(pa.array(order[starts_of(_column(table, "node")[order])]))
    order = np.lexsort((_column(table, "node"), _column(table, "born"), _column(table, "hash")))
    table = table.take(pa.array(order))
    node = _column(table, "node")
    canonical = node[_names(_column(table, "hash"), Signals.of(table, verify))]
    new = pa.array(_column(table, "born") == int(part.split("-")[1]))
    wide = [n for n in table.column_names if n.startswith("s")]
    whole = table.select(["hash", "node", "born", *wide]).append_column("canonical", pa.array(canonical)).filter(new)
    stats = {"nodes": whole.num_rows, "in_crowds": int((canonical != node)[new.to_numpy(False)].sum())}
    return Output(whole, stats)


def _names(hashes: np.ndarray, signals: Signals) -> np.ndarray:
    """int64 (n,): the row by whose name each goes, of rows sorted by hash: itself, but in crowds."""
    name = np.arange(len(hashes))
    starts = np.append(starts_of(hashes), len(hashes))
    for start, end in pairwise(starts):
        if end - start > CROWD:
            _name_crowd(name, int(start), int(end), signals)
    return name


def _name_crowd(name: np.ndarray, start: int, end: int, signals: Signals) -> None:
    live = np.empty(end - start, np.int64)
    count = min(CROWD, end - start)
    live[:count] = np.arange(start, start + count)
    for row in range(start + count, end):
        near = signals.agree(np.full(count, row), live[:count], half=True)
        if near.any():
            name[row] = live[near.argmax()]
        else:
            live[count] = row
            count += 1


def aliases(part: str, inputs: Inputs) -> Output:
    """(node, canonical) of those that go by another's name, a table a bucket of the node."""
    table = inputs.only()
    rows = {n: _column(table, n) for n in ("node", "canonical")}
    other = rows["node"] != rows["canonical"]
    count = buckets_of(part) // CELLS
    rows = {n: a[other] for n, a in rows.items()}
    return Output(split(rows, node_bucket(rows["node"], count), count), {"aliases": int(other.sum())})


# ---------------------------------------------------------------- near hashes to near nodes


def found_output(found: PartPairs, buckets: int) -> Output:
    """(a, b, distance) of near hashes, each pair once: a table a cell of a, then a table a cell of b."""
    a, b, d = found.all()
    order = np.lexsort((np.maximum(a, b), np.minimum(a, b)))
    rows = {"a": np.minimum(a, b)[order], "b": np.maximum(a, b)[order], "distance": d[order]}
    cells = buckets * CELLS
    tables = [t for side in ("a", "b") for t in split(rows, node_bucket(rows[side], cells), cells)]
    return Output(tables, {"pairs": len(order)} | found.stats())


def left(part: str, inputs: Inputs) -> Output:
    """The nodes of a that a near b asks for, a table a cell of b; each once a table."""
    cells = buckets_of(part)
    pairs = _pairs(inputs)
    nodes = _nodes(inputs.select(PhaseFile, "distinct"))
    cell = node_bucket(pairs["b"], cells)
    order = np.lexsort((cell, pairs["a"]))
    once = order[starts_of(pairs["a"][order], cell[order])]
    first, count = _runs(_column(nodes, "hash"), pairs["a"][once])
    rows = nodes.take(pa.array(each(first, count)))
    return Output(split_table(rows, np.repeat(cell[once], count), cells), {"nodes": len(rows)})


def _pairs(inputs: Inputs) -> Arrays:
    return stacked(inputs.select(PhaseFile, "found"))


def _nodes(inputs: Inputs) -> pa.Table:
    """Nodes that go by their own name, sorted by (hash, node)."""
    table = below(inputs)
    table = table.filter(pa.array(_column(table, "node") == _column(table, "canonical"))).drop_columns(["canonical"])
    return table.take(pa.array(np.lexsort((_column(table, "node"), _column(table, "hash")))))


def _runs(hashes: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first, count): where the rows of each wanted hash are, of sorted hashes."""
    first = np.searchsorted(hashes, wanted)
    return first, np.searchsorted(hashes, wanted, side="right") - first


def agreeing(part: str, inputs: Inputs, verify: Sequence[Agreement]) -> Pairs:
    """(a, b, distance): nodes of near or equal hashes that agree, at least one of them new in the part's list."""
    mine, theirs = _nodes(inputs.select(PhaseFile, "distinct")), below(inputs.select(PhaseFile, "left"))
    theirs = theirs.take(pa.array(np.lexsort((_column(theirs, "node"), _column(theirs, "hash")))))
    near = _pairs(inputs)
    a, b = _runs(_column(theirs, "hash"), near["a"]), _runs(_column(mine, "hash"), near["b"])
    table = below([mine, theirs.select(mine.column_names)])
    candidates = _joined((len(mine) + a[0], a[1], *b, near["distance"]), _of_one_hash(_column(mine, "hash")))
    new = _column(table, "born") == int(part.split("-")[1])
    return _agreed(table, candidates, new, Signals.of(table, verify))


Runs = tuple[np.ndarray, ...]
"""(first, count, other, others, distance): runs of rows that are candidates with each other, all with all."""


def _of_one_hash(hashes: np.ndarray) -> Runs:
    """Each row with those that follow it among equal hashes; of sorted hashes."""
    cuts = np.append(starts_of(hashes), len(hashes))
    ends = np.repeat(cuts[1:], np.diff(cuts))
    row = np.flatnonzero(ends > np.arange(len(hashes)) + 1)
    return row, np.ones_like(row), row + 1, ends[row] - row - 1, np.zeros_like(row)


def _joined(*runs: Runs) -> Runs:
    return tuple(np.concatenate(columns) for columns in zip(*runs, strict=True))


def _agreed(table: pa.Table, runs: Runs, new: np.ndarray, signals: Signals) -> Pairs:
    """The candidates that agree and of which at least one is new."""
    before = np.append(0, np.cumsum(new))
    first, count, other, others, distance = runs
    some_new = before[first + count] + before[other + others] > before[first] + before[other]
    first, count, other, others, distance = (r[some_new] for r in runs)
    node = _column(table, "node")
    found: list[Pairs] = [(node[:0], node[:0], np.empty(0, np.int64))]
    for i, j, n in blocks(first, count, other, others):
        asked = np.flatnonzero(new[i] | new[j])
        kept = asked[signals.agree(i[asked], j[asked])]
        found.append((node[i[kept]], node[j[kept]], distance[n[kept]]))
    a, b, d = (np.concatenate([f[side] for f in found]) for side in range(3))
    return a, b, d
