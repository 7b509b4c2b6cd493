"""Groups of samples whose perceptual hashes are near, over the whole pool.

    NearHashes(by="phash64", distance=4)                      # re-encoded, resized, slightly edited
    NearHashes(by="phash256", distance=31)                    # a longer hash: fewer false pairs at a larger distance
    NearHashes(by="phash256", distance=48, verify=(Agreement(column="colours", within=4, measure="l1"),))

Hashes of 64 bits are joined exactly, by block combinations (`stages.hamming`): all pairs within the distance, each
once. Hashes of 256 bits are joined by bands (`stages.hamming_bands`): a pair is found if at least one of `bands` equal
cuts of its hashes is equal, so all pairs of up to `bands` - 1 bits, and of those beyond it what photos give. Of pairs
within 31 bits, after 16 easy changes (encoding, size, brightness, small marks): 8 bands .963, 16 bands 1.000; of photos
that were hosted twice both find all (bench/dedup_bands.py). 16 bands shuffle twice as many bytes, and compare far more:
on photos one pair in 1,600 has one equal, on 8 bands less than one in a million [M]. Footers of the join say up to how
many bits nothing is missed (`exact_to`), and what chance a pair at `distance` has if any bit differs as easily.

A picture without structure has a hash that says little: hashes of lower `min_quality`, and those that lie within 14 of
64 (56 of 256) bits of the hash of a flat picture, are paired with nothing, not even with equal ones.

`verify` names further columns in which the two samples of a pair must agree (`stages.verified_pairs`); a sample that
lacks one of them is paired with nothing. Samples with equal hashes are then pairs at distance 0, which must agree too;
in a crowd, that is more than 16 different values of the signals for one hash, some go by the name of another one
(`stages.near_hash_signals`).

Thousands of hashes that are all near to one another, but not equal, would make millions of pairs: hashes equal on a
choice of blocks, or on a band, that have more than 2^21 = 2,097,152 pairs there, and more than 16 each, keep those with
their nearest (`stages.near_hash_crowds`). So of such a crowd a keep rule keeps some where one could do; what it drops
still has a near one. Signals are asked of the pairs that are left. Footers say how many pairs were left out.

When the pool grows, each pair is looked for once: parts of the join name the lists that they look at, and find the
pairs of which at least one hash is new in the last of them.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from stages.base import Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, Source, fact
from stages.hash_counts import LACKS, PAIRED, checked, checked_phase, counted, counted_phase, lacks
from stages.hash_words import words_of
from stages.near import NODES, Near, digest64, keys_phase, node_bucket, pairs_output
from stages.near_hash_crowds import PartPairs
from stages.near_hash_phases import HashJoin, hashes_once, near_pairs, spread
from stages.near_hash_signals import (
    CELLS,
    SignalJoin,
    agreeing,
    aliases,
    distinct,
    found_output,
    left,
    signal_rows,
    signals_phase,
)
from stages.shuffle import Layout, buckets_of, split
from stages.verified_pairs import Agreement, stored_signal

__all__ = ["Agreement", "NearHashes"]

MIN_QUALITY = 50
FLAT_SHARE = 14 / 64
"""Hashes of flat, gradient and regular pictures lie so near to 100...0."""

KNOWN = {"phash64": 64, "phash256": 256}
MOST = {64: 10, 256: 96}
"""Bits that may differ. Of 64: the join of a billion is computed to take 1.3 core-hours at 4 bits, 66 at 8 [C]."""


BANDS: Final = 16  # the default

QUALITIES = {"pdq": "pdq_quality"}
"""Hashes whose stage writes a quality of their own."""


class NearHashes(Near):
    """Near groups by Hamming distance; columns and phases as in `stages.near.Near`.

    Args:
        by: uint64, or binary of 32 bytes.
        distance: how many bits may differ: up to 10 of 64, 96 of 256. Hashes cut at their median differ in an even
            number of bits, but for ties: 3 is 2.
        min_quality: samples whose `quality` is lower are paired with nothing.
        quality: how much structure the picture has, 0 to 100; null is 0. Left out, the fact phash_quality; of hashes
            that a stage made, the quality that the same stage wrote (phash_quality_stored; of pdq, pdq_quality).
        verify: what samples of a pair must agree in besides.
        bands: into how many equal cuts 256 bits are parted: 4, 8, 16 or 32; above some 100 million pictures write 8,
            where 16 would compare too many.
        name: begins the names of the columns; without it, that of `by`.
        bits: 64 or 256, where `by` is a column of the input, of which that is not known.

    Footers: of `nodes`, how many samples take part; of `checked`, how many have no hash (`without_hash`), no quality,
    or too low a one (`low_quality`, flat pictures among them); of `pairs`, or of `found` where signals verify, how many
    pairs, how many `crowds` left some out, with `left_out`, `limits_halved` and `largest_crowds` (see
    `stages.near_hash_crowds.PartPairs.stats`), and for 256 bits `exact_to` and `share_at_distance`; of `distinct`, how
    many nodes of crowds go by another's name.

    Raises:
        ValueError: it is not known how long the hashes are, or the distance or bands do not go with that; while it
            runs: no sample has the fact that is compared, as in a pool with `ingest: {phash: false}`.
    """

    by: Source
    distance: int = Field(ge=0)
    min_quality: int = Field(default=MIN_QUALITY, ge=0, le=100)
    quality: Source | None = None
    verify: tuple[Agreement, ...] = ()
    bands: Literal[4, 8, 16, 32] = BANDS
    name: str | None = None
    bits: Literal[64, 256] | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> NearHashes:
        if self.distance > MOST[self.width]:
            raise ValueError(f"distance of {self.width} bits: at most {MOST[self.width]}, not {self.distance}")
        if self.bands != BANDS and self.width == 64:
            raise ValueError("bands go with hashes of 256 bits; those of 64 are joined exactly")
        return self

    @property
    def width(self) -> int:
        """Bits of a hash.

        Raises:
            ValueError: it is not known, or `bits` is wrong.
        """
        known = KNOWN.get(self.by.field) if self.by.owner is None else _bits_of(self.by)
        if known is None and self.bits is None:
            raise ValueError(f"by: of {self.by.field!r} it is not known how long the hashes are: add bits: 64 or 256")
        if self.bits not in (None, known or self.bits):
            raise ValueError(f"bits: the hashes of {self.by.field!r} have {known}, not {self.bits}")
        return known or self.bits or 64

    @property
    def label(self) -> str:
        return self.name or self.by.field

    def bound(self) -> tuple[float, str]:
        return float(self.distance), f"distance {self.distance}"

    def reads(self) -> tuple[Column, ...]:
        return tuple(dict.fromkeys((self.by, self.quality_read, *(a.column for a in self.verify))))

    @property
    def quality_read(self) -> Column:
        """The column with the quality."""
        if self.quality is not None:
            return self.quality
        written = self.by.owner.writes().names if self.by.owner is not None else []
        own = (q for q in (QUALITIES.get(self.by.field), "phash_quality_stored") if q in written)
        name = next(own, None)
        return fact("phash_quality") if name is None else Column(self.by.owner, name)

    # ---- phases

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape, stamped=True)
        keys, words = keys_phase(layout), layout.from_shards("words")
        counting = counted_phase(layout, keys.inputs), checked_phase(layout, lambda span: PhaseFile("counted", span))
        first = (self.nodes_phase(shape), *counting)
        if self.verify:
            return (*first, signals_phase(layout), *self._verified(layout))
        if self.width == 64:
            join = self._join(layout, "keys")
            return (*first, keys, *join.phases("pairs"), *self.closing(layout, join.pair_parts, keyed=True))
        join = self._join(layout, "words")
        return (*first, words, *join.phases("pairs"), *self.closing(layout, join.pair_parts))

    def _verified(self, layout: Layout) -> tuple[Phase, ...]:
        join = self._join(layout, "signals", CELLS)
        agree = SignalJoin(layout, join.pair_parts)
        return (*join.phases("found"), *agree.phases(), *self.closing(layout, agree.parts, renamed=agree.parts))

    def _join(self, layout: Layout, keys: str, cells: int = 1) -> HashJoin:
        return HashJoin(layout, self.width, self.distance, self.bands, keys, cells)

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        done = self.close(phase, part, inputs)
        if done is not None:
            return self._with_lacks(done, inputs) if phase == NODES else done
        match phase:
            case "counted":
                return counted(np.concatenate([t.column(LACKS).to_numpy() for t in inputs]))
            case "checked":
                return checked(inputs, self.by, self.quality_read)
            case "words":
                return self._words(part, inputs)
            case "signals":
                return self._signals(part, inputs)
            case "hashes":
                return hashes_once(inputs)
            case "spread":
                return spread(part, inputs, self.width, self.distance)
            case "found":
                return self._told(found_output(self._near(part, inputs), buckets_of(part)))
            case "distinct":
                return distinct(part, inputs, self.verify)
            case "aliases":
                return aliases(part, inputs)
            case "left":
                return left(part, inputs)
            case "pairs" if self.verify:
                return pairs_output(*agreeing(part, inputs, self.verify), buckets_of(part) // CELLS)
            case "pairs":
                found = self._near(part, inputs)
                output = pairs_output(*found.all(), buckets_of(part))
                return self._told(Output(output.tables, dict(output.stats or {}) | found.stats()))
        raise ValueError(f"NearHashes has no phase {phase!r}")

    def _near(self, part: str, inputs: Inputs) -> PartPairs:
        return near_pairs(part, inputs, self.width, self.distance)

    def _told(self, output: Output) -> Output:
        """Of bands also: up to how many bits nothing is missed, and how many of a pair at `distance` bits are found if
        each bit differs as easily as any other (of photos most differ in few bits, and in few bands)."""
        if self.width == 64:
            return output
        from stages.hamming_bands import band_chance

        known = {"exact_to": min(self.bands - 1, self.distance)}
        known["share_at_distance"] = round(band_chance(self.distance, self.bands), 4)  # type: ignore[assignment]
        return Output(output.tables, dict(output.stats or {}) | known)

    # ---- from shards

    def nodes_of(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        words, there = self._hashes(table)
        if not self.verify:
            return (words[:, 0] if self.width == 64 else digest64(words)), there
        found = [stored_signal(a, table.column(a.column.field)) for a in self.verify]
        for _, _, has in found:
            there = there & has
        return digest64(np.hstack([words, *(w for _, w, _ in found)])), there

    def _hashes(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """(uint64 (n, width / 64), most significant first; bool (n,): has a hash that says something)."""
        return words_of(table.column(self.by.field), self.by.field, self.width), self.lacking(table) == PAIRED

    def lacking(self, table: pa.Table) -> np.ndarray:
        """uint8 (n,): what of a hash that can be compared the samples lack (`stages.hash_counts`)."""
        flat = words_of(table.column(self.by.field), self.by.field, self.width)
        flat[:, 0] ^= np.uint64(1 << 63)
        bent = np.bitwise_count(flat).sum(axis=1, dtype=np.int64)
        there = table.column(self.by.field).is_valid().to_numpy()
        return lacks(there, bent <= FLAT_SHARE * self.width, table.column(self.quality_read.field), self.min_quality)

    def _with_lacks(self, nodes: Output, inputs: Inputs) -> Output:
        assert isinstance(nodes.tables, pa.Table)
        lacking = self.lacking(inputs.select(ShardColumns).only())
        return Output(nodes.tables.append_column(LACKS, pa.array(lacking)), nodes.stats)

    def _words(self, part: str, inputs: Inputs) -> Output:
        """(node, w0..w3) of the samples that take part, each hash once, a table a bucket."""
        found = [self._hashes(table) for table in inputs]
        words = np.concatenate([w[there] for w, there in found])
        node, first = np.unique(digest64(words), return_index=True)
        count = buckets_of(part)
        rows = {"node": node} | {f"w{i}": words[first, i] for i in range(words.shape[1])}
        return Output(split(rows, node_bucket(node, count), count), {"hashes": len(node)})

    def _signals(self, part: str, inputs: Inputs) -> Output:
        return signal_rows(part, [self._signals_of(k, t) for k, t in zip(inputs.keys, inputs, strict=True)])

    def _signals_of(self, key: object, table: pa.Table) -> pa.Table:
        assert isinstance(key, ShardColumns)
        _, there = self.nodes_of(table)
        table = table.filter(pa.array(there))  # before signals become columns: lists that are all null have no length
        node, _ = self.nodes_of(table)
        words, _ = self._hashes(table)
        rows = {"hash": words[:, 0] if self.width == 64 else digest64(words)}
        rows |= {f"w{i}": words[:, i] for i in range(words.shape[1])} if self.width > 64 else {}
        rows |= {"node": node, "born": np.full(len(node), key.generation, np.int32)}
        wide = {f"s{n}": stored_signal(a, table.column(a.column.field))[0] for n, a in enumerate(self.verify)}
        return pa.table({**rows, **wide})


def _bits_of(column: Column) -> int | None:
    """Bits of a column that a stage writes; None where its type does not say."""
    assert column.owner is not None
    kind = column.owner.writes().field(column.field).type
    if pa.types.is_uint64(kind):
        return 64
    return 8 * kind.byte_width if pa.types.is_fixed_size_binary(kind) else None
