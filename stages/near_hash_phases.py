"""How distinct hashes become near pairs, part by part, for `stages.near_hashes`: who reads what.

    join = HashJoin(Layout(shape, stamped=True), bits=64, distance=4, bands=8, keys="keys")
    join.phases("pairs")                     # hashes, [spread,] pairs

Generations are the lists of a pool, oldest first. `hashes` are those of one, each once. A part of the join is
one *choice* (a choice of blocks, or a band; a few of them where the pool is small) of one generation: it finds pairs
of which at least one hash is new in it, and reads the hashes of that generation and of all before it. Its name has the
digest of all those shards, so that it is done once, however often the pool grows.

Small pools: a part reads all hashes (`TOGETHER` buckets of them fit into a part). Larger ones: hashes are spread for
each choice by the bits that must agree, and a part joins one partition of one choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from stages.base import Inputs, Output, Phase, PhaseFile
from stages.hamming import Scheme, distinct, subset_numbers, uniform_scheme
from stages.near_hash_crowds import PartPairs
from stages.shuffle import (
    NEED,
    Arrays,
    Layout,
    bucket,
    bucket_of_part,
    buckets_of,
    find,
    joined,
    split,
    stacked,
)

TOGETHER = {64: 8, 256: 2}
"""Buckets whose hashes a part of the join can hold: some 130 and 170 MB, and a few times that at work."""

PARTS = 4  # of the join for each bucket, where each reads all hashes: enough for many workers, and little read again


@dataclass(frozen=True)
class Generation:
    """One list of the pool. number: as shards say it; own: digest of its shards; until: of its and all earlier ones."""

    number: int
    own: str
    until: str
    spans: tuple[str, ...]

    @property
    def stamp(self) -> str:
        """In the name of a part that depends on all shards up to this list, and treats those of it as new."""
        return f"{self.until}-{self.own}"


def generations(layout: Layout) -> tuple[Generation, ...]:
    """The lists of the pool, oldest first; `layout` is stamped."""
    found: list[Generation] = []
    shards: list[int] = []
    for shape in layout.shape.split():
        shards += shape.shards
        number = shape.generations[0] if shape.generations else 0
        until = layout.shape.among(shards).digest()
        found.append(Generation(number, shape.digest(), until, layout.spans_of(number)))
    return tuple(found)


@dataclass(frozen=True)
class HashJoin:
    """The join of the hashes of a pool: its phases, and their work.

    Args:
        layout: stamped.
        bits: 64, joined by choices of blocks, exactly; or 256, by bands: exactly up to `bands` - 1 bits.
        distance: bits that may differ, at least 1.
        bands: of 256 bits.
        keys: the phase that has the hashes, a part a span, `cells` tables a bucket.
    """

    layout: Layout
    bits: int
    distance: int
    bands: int
    keys: str = "keys"
    cells: int = 1

    @cached_property
    def scheme(self) -> Scheme:
        """Of 64 bits: a function of the number of buckets, as the parts' names are."""
        return uniform_scheme(self.layout.buckets * self.layout.rows, self.distance)

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """k-first-last, or bands-first-last: which choices of blocks, or bands, a part takes."""
        k, count = (self.scheme.k, len(self.scheme.subsets)) if self.bits == 64 else (self.bands, self.bands)
        parts = count if self.partitions > 1 else min(count, PARTS * self.layout.buckets)
        cuts = [i * count // parts for i in range(parts + 1)]
        return tuple(f"{k}-{cuts[i]:04d}-{cuts[i + 1] - 1:04d}" for i in range(parts))

    @property
    def partitions(self) -> int:
        return max(1, self.layout.buckets // TOGETHER[self.bits])

    def phases(self, pairs: str) -> tuple[Phase, ...]:
        """hashes, [spread,] and the join itself, under this name."""
        hashes = Phase("hashes", self._named(self._lists, self.layout.bucket_parts), self._keys, True, NEED)
        if self.partitions == 1:
            return hashes, Phase(pairs, self.pair_parts, self._hashes, local=True, need=NEED)
        return hashes, self._spread(), Phase(pairs, self.pair_parts, self._partition, local=True, need=NEED)

    @cached_property
    def pair_parts(self) -> tuple[str, ...]:
        """choice-partition-until-own-of-buckets"""
        return tuple(
            f"{choice}-{p:05d}-{one.stamp}-of-{self.layout.buckets:05d}"
            for one in self._lists
            for choice in self.choices
            for p in range(self.partitions)
        )

    @cached_property
    def _lists(self) -> tuple[Generation, ...]:
        return generations(self.layout)

    @staticmethod
    def _named(lists: tuple[Generation, ...], buckets: tuple[str, ...]) -> tuple[str, ...]:
        """bucket-own-of-buckets, of each list"""
        return tuple(f"{b[:5]}-{one.own}-{b[6:]}" for one in lists for b in buckets)

    def _keys(self, part: str) -> tuple[PhaseFile, ...]:
        own, first = part.split("-")[1], bucket_of_part(part) * self.cells
        (spans,) = (one.spans for one in self._lists if one.own == own)
        return tuple(PhaseFile(self.keys, s, cell) for s in spans for cell in range(first, first + self.cells))

    def _spread(self) -> Phase:
        """A part a choice, a list, and as many buckets as go together."""
        together, count = TOGETHER[self.bits], self.layout.buckets
        parts = tuple(
            f"{choice}-{p:05d}-{one.own}-of-{self.partitions:05d}"
            for one in self._lists
            for choice in self.choices
            for p in range(self.partitions)
        )

        def files(part: str) -> tuple[PhaseFile, ...]:
            _, _, _, p, own = part.split("-")[:5]
            mine = range(int(p) * together, (int(p) + 1) * together)
            return tuple(PhaseFile("hashes", f"{b:05d}-{own}-of-{count:05d}") for b in mine)

        return Phase("spread", parts, files, local=True, need=NEED)

    def _hashes(self, part: str) -> tuple[PhaseFile, ...]:
        """All hashes up to the list of the part."""
        return tuple(PhaseFile("hashes", n) for n in self._named(self._until(part), self.layout.bucket_parts))

    def _partition(self, part: str) -> tuple[PhaseFile, ...]:
        """Those of one partition, for the part's choice."""
        k, first, last, p = part.split("-")[:4]
        lists, partitions = self._until(part), range(self.partitions)
        names = (f"{k}-{first}-{last}-{b:05d}-{o.own}-of-{self.partitions:05d}" for o in lists for b in partitions)
        return tuple(PhaseFile("spread", n, int(p)) for n in names)

    def _until(self, part: str) -> tuple[Generation, ...]:
        own = part.split("-")[5]
        return self._lists[: [one.own for one in self._lists].index(own) + 1]


# ---------------------------------------------------------------- the work


def hashes_once(inputs: Inputs) -> Output:
    """(node[, w0..w3]): each hash once, from tables with `hash` or, where it is the node itself, `node`."""
    key = "hash" if "hash" in _names(inputs) else "node"
    wide = [n for n in _names(inputs) if n[0] == "w"]
    rows = stacked(Inputs(inputs.keys, lambda k: inputs.load(k).select([key, *wide])))
    if not wide:
        hashes = distinct(rows[key])
        return Output(pa.table({"node": hashes}), {"hashes": len(hashes)})
    _, first = np.unique(rows[key], return_index=True)
    return Output(pa.table({"node": rows[key][first]} | {n: rows[n][first] for n in wide}), {"hashes": len(first)})


def _names(inputs: Inputs) -> list[str]:
    names: list[str] = inputs.load(inputs.keys[0]).column_names
    return names


def spread(part: str, inputs: Inputs, bits: int, distance: int) -> Output:
    """The hashes by the bits that must agree for this choice, those of 64 bits arranged for it."""
    count = buckets_of(part)
    k, choice = (int(n) for n in part.split("-")[:2])
    found = [_of_choice({n: t.column(n).to_numpy() for n in t.column_names}, bits, distance, k, choice) for t in inputs]
    tables = [split(rows, bucket(agree, np.zeros_like(agree), count), count) for agree, rows in found]
    return Output([pa.concat_tables(t) for t in zip(*tables, strict=True)])


def _of_choice(rows: Arrays, bits: int, distance: int, k: int, choice: int) -> tuple[np.ndarray, Arrays]:
    """(what must agree, the rows to write)"""
    if bits == 256:
        return band_values(words_in(rows), choice, k), rows
    scheme = Scheme(64, distance, k)
    subset = scheme.subsets[choice]
    arranged = scheme.arrange(rows["node"], subset)
    return arranged >> np.uint64(scheme.rest(subset)), {"node": arranged}


def band_values(words: np.ndarray, band: int, bands: int) -> np.ndarray:
    """uint64 (n,): the bits of one band of uint64 (n, 4), most significant first."""
    width = 256 // bands
    word, place = divmod(band * width, 64)
    return (words[:, word] >> np.uint64(64 - width - place)) & np.uint64((1 << width) - 1)


def words_in(rows: Arrays) -> np.ndarray:
    """uint64 (n, 4) of the columns w0 to w3."""
    return np.stack([rows[f"w{i}"] for i in range(4)], axis=1)


def near_pairs(part: str, inputs: Inputs, bits: int, distance: int) -> PartPairs:
    """The pairs of a part of the join, of which at least one is new in its list."""
    k, first, last = (int(n) for n in part.split("-")[:3])
    own = part.split("-")[5]
    keys = [key for key in inputs.keys if isinstance(key, PhaseFile)]
    new, old = ([k for k in keys if (own in k.part.split("-")) is mine] for mine in (True, False))
    spread_before = keys[0].phase == "spread"
    rows, earlier = (stacked(Inputs(some, inputs.load)) if some else None for some in (new, old))
    assert rows is not None
    found = PartPairs(len(rows["node"]) + (0 if earlier is None else len(earlier["node"])))
    if bits == 256:
        _by_bands(found, rows, earlier, range(first, last + 1), k, distance)
        return found
    scheme = Scheme(64, distance, k)
    before = np.empty(0, np.uint64) if earlier is None else distinct(earlier["node"])
    _by_blocks(found, rows["node"], before, scheme, range(first, last + 1), spread_before)
    return found


def _by_blocks(
    found: PartPairs, new: np.ndarray, old: np.ndarray, scheme: Scheme, choices: range, arranged: bool
) -> None:
    new = new[~find(old, new)[0]]
    for choice in choices:
        subset = scheme.subsets[choice]
        ours, before = (new, old) if arranged else (scheme.arrange(v, subset) for v in (new, old))
        values = np.concatenate([ours, before])
        values.sort()
        fresh = None
        if len(old):
            fresh = np.zeros(len(values), bool)
            fresh[np.searchsorted(values, ours)] = True
        _of_blocks(found, f"{scheme.k}-{choice:04d}", scheme, subset, values, fresh)


def _of_blocks(
    found: PartPairs,
    name: str,
    scheme: Scheme,
    subset: tuple[int, ...],
    values: np.ndarray,
    fresh: np.ndarray | None,
) -> None:
    runs = found.choice(name, values, scheme.rest(subset), lambda rows: scheme.restore(values[rows], subset))
    for i, j in subset_numbers(scheme, subset, values, fresh):
        runs.add(i, j, np.bitwise_count(values[i] ^ values[j]))
    runs.end()


def _by_bands(found: PartPairs, new: Arrays, old: Arrays | None, choices: range, bands: int, distance: int) -> None:
    from stages.hamming_bands import bits_apart, chunks_of_band

    fresh = None
    rows = new
    if old is not None:
        _, once = np.unique(old["node"], return_index=True)
        before = {n: a[once] for n, a in old.items()}
        unknown = ~find(before["node"], new["node"])[0]
        rows = joined([{n: a[unknown] for n, a in new.items()}, before])
        fresh = np.arange(len(rows["node"])) < np.count_nonzero(unknown)
    words, node = words_in(rows), rows["node"]
    for band in choices:
        runs = found.choice(f"{bands}-{band:04d}", band_values(words, band, bands), 0, node.__getitem__)
        for i, j in chunks_of_band(words, band, bands, distance, fresh):
            runs.add(i, j, bits_apart(words, i, j))
        runs.end()
