"""Groups of samples that are equal, over the whole pool: by their bytes, url, text, hash, or any column.

    HashGroups(by="sha256")                    # the same bytes
    HashGroups(by="url_normalised")            # the same address, written otherwise
    HashGroups(by="phash_text")                # the same picture, by its hash, with the same text: COYO's

Columns, named after `by`: `sha256_group`, the smallest uid of the group, null for a sample that is alone, and
`sha256_group_size`, 1 for a sample that is alone. What is near, not equal, is for `stages.near_hashes` and
`stages.near_vectors`.

Phases. Keys go to buckets of equal key, those of a span once each, however many samples have them (`keys`); there
groups are found (`answers`), and travel back (`gather`, `groups`). So thirty million copies of one picture are as many
rows of a bucket as there are spans. When the pool grows, the keys of earlier lists are there already.
"""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from stages.base import Barrier, Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, Source
from stages.draws import hash64_halves
from stages.hash_counts import PAIRED, WITHOUT_HASH, checked, checked_phase, counted, counted_phase
from stages.keys import Key, whole
from stages.near_hashes import MIN_QUALITY, NearHashes
from stages.shuffle import (
    NEED,
    Arrays,
    Layout,
    bucket,
    buckets_of,
    by_span,
    find,
    gather,
    halves,
    joined,
    places,
    rows_of,
    split,
    stacked,
    starts_of,
    uid_array,
)

TOGETHER = {"image_text": ("sha256", "text"), "phash_text": ("phash64", "text")}
"""Keys of two columns."""

HASH = re.compile(r"[pd]hash(?P<bits>64|256)(_\w+)?|pdq")
"""Names of perceptual hashes, those of `stages.fingerprints` among them."""


class HashGroups(Barrier):
    """Groups of equal keys.

    Args:
        by: sha256 (bytes as received); url, url_normalised, url_stripped (`stages.normal_forms`); text (as it is),
            text_normalised, text_clean, text_lower (`stages.keys`); image_text (sha256 and text), phash_text (phash64
            and text); phash64 or another perceptual hash; or any column of strings, bytes or numbers. A null, an empty
            string and NaN have no group; in image_text, no text is equal to no text.
        min_quality: for a perceptual hash: those of pictures with a lower `quality`, and those that lie near to the
            hash of a flat picture, have no group, as in `stages.near_hashes.NearHashes`.
        quality: for a perceptual hash, 0 to 100; null is 0. Left out, as in `stages.near_hashes.NearHashes`.

    Footers: of `keys`, how many samples have a key, and how many of these are distinct; of `answers`, how many groups,
    by size; for a perceptual hash, of `checked`, how many samples have none, no quality, or too low a one.

    Raises:
        ValueError: min_quality or quality with another key; while it runs: a column of lists or vectors; no sample has
            the perceptual hash, as in a pool with `ingest: {phash: false}`.
    """

    version: ClassVar[int] = 2  # 1 had phases of another format: its parts must not meet those of this one

    by: Source
    min_quality: int = Field(default=MIN_QUALITY, ge=0, le=100)
    quality: Source | None = None

    @model_validator(mode="after")
    def _quality_is_of_hashes(self) -> HashGroups:
        if self._hashes() is None and (self.min_quality, self.quality) != (MIN_QUALITY, None):
            raise ValueError(f"min_quality and quality go with perceptual hashes, not with by: {self.by.field}")
        return self

    @property
    def group(self) -> str:
        """Name of the column with the group."""
        return f"{self.by.field}_group"

    def _hashes(self) -> NearHashes | None:
        """Who knows which perceptual hashes say something; None where `by` is none."""
        found = HASH.fullmatch(self.by.field) if self.by.field not in TOGETHER else None
        if found is None:
            return None
        bits = 64 if found["bits"] == "64" else 256
        return NearHashes(by=self.by, distance=0, min_quality=self.min_quality, quality=self.quality, bits=bits)

    def _keys_read(self) -> tuple[Key, ...]:
        """One key, or the two whose values are equal together."""
        if self.by.owner is None and self.by.field in TOGETHER:
            return tuple(Key.of(name) for name in TOGETHER[self.by.field])
        return (Key.of(self.by),)

    def reads(self) -> tuple[Column, ...]:
        hashes = self._hashes()
        return hashes.reads() if hashes else tuple(k.column for k in self._keys_read())

    def writes(self) -> pa.Schema:
        return pa.schema([(self.group, pa.binary(16)), (f"{self.group}_size", pa.int64())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape, stamped=True)
        back = layout.gathered("gather", "answers")
        keys = layout.from_shards("keys")
        counting = (
            counted_phase(layout, keys.inputs),
            checked_phase(layout, lambda span: PhaseFile("counted", span)),
        )
        return (
            *(counting if self._of_hashes else ()),
            keys,
            layout.by_bucket("answers", ("keys", layout.spans)),
            Phase(
                back.name,
                layout.spans,
                lambda span: (PhaseFile("keys", span, layout.buckets), *back.inputs(span)),
                need=NEED,
            ),
            layout.to_shards("groups", "gather"),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "counted":
                return counted(np.concatenate([self._lacking(table) for table in inputs]))
            case "checked":
                hashes = self._hashes()
                return checked(inputs, self.reads()[0], None if hashes is None else hashes.quality_read)
            case "keys":
                return self._keys(part, inputs)
            case "answers":
                return _answers(inputs)
            case "gather":
                return _gather(part, inputs)
            case "groups":
                return self._groups(inputs)
        raise ValueError(f"HashGroups has no phase {phase!r}")

    # ---- who has a hash

    @property
    def _of_hashes(self) -> bool:
        return self._hashes() is not None or (self.by.owner is None and self.by.field == "phash_text")

    def _lacking(self, table: pa.Table) -> np.ndarray:
        """uint8 (n,), as `stages.hash_counts` has it; of phash_text no quality is asked."""
        hashes = self._hashes()
        if hashes is not None:
            return hashes.lacking(table)
        there = table.column(self.reads()[0].field).is_valid().to_numpy()
        return np.where(there, PAIRED, WITHOUT_HASH).astype(np.uint8)

    # ---- keys

    def _keys(self, part: str, inputs: Inputs) -> Output:
        """(key, check, high, low, place, count): each key of the span once, with the smallest uid that has it and the
        place of that; key and check are 128 bits together. Behind the last bucket the others: their place, and as
        their key the place of that first one."""
        found: list[Arrays] = []
        for shard, table in zip(inputs.keys, inputs, strict=True):
            assert isinstance(shard, ShardColumns)
            high, low = halves(table.column("uid"))
            has, key, check = self.keys_of(table)
            place = places(shard.shard, table.num_rows)[has]
            found.append({"key": key, "check": check, "high": high[has], "low": low[has], "place": place})
        rows = joined(found)
        order = np.lexsort([rows[n] for n in ("low", "high", "check", "key")])
        rows = {n: a[order] for n, a in rows.items()}
        starts = starts_of(rows["key"], rows["check"])
        size = np.diff(np.append(starts, len(order)))
        rows["count"], first = np.repeat(size, size), np.repeat(starts, size)
        again = first != np.arange(len(first))
        copies = {n: a[again] for n, a in rows.items()} | {"key": rows["place"][first[again]]}
        rows = {n: a[starts] for n, a in rows.items()}
        count = buckets_of(part)
        tables = split(rows, bucket(rows["key"], rows["check"], count), count)
        return Output([*tables, pa.table(copies)], {"keys": len(order), "distinct": len(starts)})

    def keys_of(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(has, key, check): which rows have a key, bool (rows,), and the keys of those, two uint64 arrays."""
        has, high, low = whole(self._keys_read()[0], table)
        for more in self._keys_read()[1:]:
            also, *other = whole(more, table)
            both = [hash64_halves(number, "one", high, low) for number in (0, 1)]
            high, low = (hash64_halves(n, "two", b, o) for n, (b, o) in enumerate(zip(both, other, strict=True)))
            has = has & also if self.by.field == "phash_text" else has
        hashes = self._hashes()
        if hashes is not None:
            has = has & hashes.nodes_of(table)[1]
        return has, high[has], low[has]

    # ---- answers

    def _groups(self, inputs: Inputs) -> Output:
        rows = inputs.select(ShardColumns).only().num_rows
        found = stacked(inputs.select(PhaseFile))
        at = rows_of(found["place"])
        high, low, size = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64), np.ones(rows, np.int64)
        together = np.zeros(rows, bool)
        high[at], low[at], size[at], together[at] = found["high"], found["low"], found["size"], True
        columns = [uid_array(high, low, together), pa.array(size)]
        return Output(pa.table(columns, schema=self.writes()), {"grouped": len(at)})


def _answers(inputs: Inputs) -> Output:
    """(place, high, low, size) of every first of a span whose key occurs again; high and low are the group's uid."""
    rows = stacked(inputs)
    order = np.lexsort([rows[n] for n in ("low", "high", "check", "key")])
    rows = {n: a[order] for n, a in rows.items()}
    starts = starts_of(rows["key"], rows["check"])
    size = np.add.reduceat(rows["count"], starts) if len(starts) else np.empty(0, np.int64)
    times = np.diff(np.append(starts, len(order)))
    first = np.repeat(starts, times)
    answer = {"place": rows["place"], "high": rows["high"][first], "low": rows["low"][first]}
    answer["size"] = np.repeat(size, times)
    sizes, many = np.unique(size[size > 1], return_counts=True)
    stats = {"groups": int(many.sum()), "largest": int(size.max(initial=0))}
    stats["sizes"] = dict(zip(map(str, sizes.tolist()), many.tolist(), strict=True))  # type: ignore[assignment]
    return Output(by_span({n: a[answer["size"] > 1] for n, a in answer.items()}, inputs, "keys"), stats)


def _gather(span: str, inputs: Inputs) -> Output:
    """The answers of a span's firsts, and the same for those with the same key, a table a shard."""
    copies, answers = (stacked(inputs.select(PhaseFile, name)) for name in ("keys", "answers"))
    order = np.argsort(answers["place"])
    answers = {n: a[order] for n, a in answers.items()}
    _, at = find(answers["place"], copies["key"])  # who has copies has an answer
    more = {n: a[at] for n, a in answers.items()} | {"place": copies["place"]}
    whole = pa.table(joined([answers, more]))
    return gather(span, Inputs((PhaseFile("answers", span),), lambda _: whole))
