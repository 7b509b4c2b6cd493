"""Groups of samples that are equal by a hash, or near by a perceptual one, over the whole pool.

    HashGroups(by="sha256")                       # the same bytes
    HashGroups(by="phash64", distance=4)          # re-encoded, resized, slightly edited

Columns, named after `by`: `sha256_group`, the smallest uid of the group, null for a sample that is alone, and
`sha256_group_size`, 1 for a sample that is alone. Near groups are connected components: two members may differ by more
than `distance`; which of them to keep is for `filters.keep_one` to say, on the edges among survivors.

Phases. Keys go to buckets of equal key; there equal ones are found (`answers`), and travel back (`gather`, `groups`).
With a distance, equal hashes are first collapsed (`unique`: thirty thousand copies of one picture are one hash),
hashes are joined (`pairs`; a large pool spreads them first, so that a part holds one partition of one choice of
blocks), forests of components are merged in a tree (`forest-0`, ..., `roots`), and each hash learns the smallest uid
of its component (`members`, `labels`). `edges` are kept for others: (group, a, b, distance) of hashes, bucketed by
group. Equal hashes have no edges: that two samples are equal is seen from their hash.
The join is `stages.hamming`, the components are `stages.components`, the moving of rows `stages.shuffle`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import Field, model_validator

from stages.base import Barrier, Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, fact, tree
from stages.components import merged
from stages.hamming import Scheme, subset_pairs, uniform_scheme, value_pairs
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

By = Literal["sha256", "url", "text", "image_text", "phash64"]

FLAT = np.uint64(1 << 63)  # pHash of flat, gradient and regular pictures; within 14 bits of it a hash says little
FLAT_BITS = 14
MIN_QUALITY = 50


class HashGroups(Barrier):
    """Groups of equal or near hashes.

    Args:
        by: sha256 (bytes as received), url, text (both as given; an empty one has no group), image_text (sha256 and
            text together), phash64 (of the pixels as received).
        distance: for phash64: how many bits may differ. Such hashes differ in an even number of bits, but for ties:
            3 is 2. Safe at a billion images: 4.
        min_quality: for phash64: hashes of pictures with a lower `phash_quality` (0 to 100), and those within 14 bits
            of the hash of a flat picture, are paired with nothing.
    """

    by: By
    distance: int = Field(default=0, ge=0, le=10)
    min_quality: int = Field(default=MIN_QUALITY, ge=0, le=100)

    @model_validator(mode="after")
    def _only_phash_has_distances(self) -> HashGroups:
        if self.by != "phash64" and (self.distance or self.min_quality != MIN_QUALITY):
            raise ValueError(f"distance and min_quality go with by: phash64; {self.by} is equal or it is not")
        return self

    @property
    def group(self) -> str:
        """Name of the column with the group."""
        return f"{self.by}_group"

    def reads(self) -> tuple[Column, ...]:
        names = {"image_text": ("sha256", "text"), "phash64": ("phash64", "phash_quality")}.get(self.by, (self.by,))
        return tuple(fact(n) for n in names)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.group, pa.binary(16)), (f"{self.group}_size", pa.int64())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape)
        sources = [("keys", layout.spans)]
        near: tuple[Phase, ...] = ()
        if self.distance:
            near = self._near(layout)
            sources.append(("labels", layout.bucket_parts))
        return (
            layout.from_shards("keys"),
            *near,
            layout.by_bucket("answers", *sources),
            layout.gathered("gather", "answers"),
            layout.to_shards("groups", "gather"),
        )

    def _near(self, layout: Layout) -> tuple[Phase, ...]:
        """The phases between keys and answers where hashes may differ."""
        buckets = layout.bucket_parts
        spread, pairs = self._join(layout)
        forests = tree("forest", "pairs", list(pairs.parts))  # type: ignore[arg-type]
        top = PhaseFile(forests[-1].name, "all")
        return (
            layout.by_bucket("unique", ("keys", layout.spans)),
            *spread,
            pairs,
            *forests,
            Phase("roots", (f"all-of-{layout.buckets:05d}",), lambda _: (top,)),
            Phase(
                "members",
                buckets,
                lambda b: (PhaseFile("unique", b), PhaseFile("roots", f"all-of-{b[-5:]}", int(b[:5]))),
            ),
            layout.by_bucket("labels", ("members", buckets)),
            layout.by_bucket("edges", ("pairs", list(pairs.parts)), ("labels", buckets)),  # type: ignore[arg-type]
        )

    def _join(self, layout: Layout) -> tuple[tuple[Phase, ...], Phase]:
        """Either one part that joins all hashes, or one a partition of each choice of blocks."""
        buckets = layout.bucket_parts
        partitions = layout.buckets // 4  # hashes are narrow: a partition takes those of four buckets
        if partitions <= 1:
            everything = tuple(PhaseFile("unique", b) for b in buckets)
            return (), Phase("pairs", (f"all-of-{layout.buckets:05d}",), lambda _: everything, need=NEED)
        scheme = uniform_scheme(layout.shape.total, self.distance)
        subsets = [f"{scheme.k}-{s:04d}" for s in range(len(scheme.subsets))]
        spread = Phase(
            "spread",
            tuple(f"{s}-{b[:5]}-of-{partitions:05d}" for s in subsets for b in buckets),
            lambda part: (PhaseFile("unique", f"{part.split('-')[2]}-of-{layout.buckets:05d}"),),
        )

        def partition(part: str) -> tuple[PhaseFile, ...]:
            k, s, p = part.split("-")[:3]
            return tuple(PhaseFile("spread", f"{k}-{s}-{b[:5]}-of-{partitions:05d}", int(p)) for b in buckets)

        parts = [f"{s}-{p:05d}-of-{layout.buckets:05d}" for s in subsets for p in range(partitions)]
        return (spread,), Phase("pairs", tuple(parts), partition, need=NEED)

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase.startswith("forest-"):
            return _forest(inputs)
        match phase:
            case "keys":
                return self._keys(part, inputs)
            case "unique":
                return _unique(stacked(inputs))
            case "spread":
                return self._spread(part, inputs)
            case "pairs":
                return self._pairs(part, inputs)
            case "roots":
                found = stacked(inputs)
                return Output(split(found, _bucket(found["node"], buckets_of(part)), buckets_of(part)))
            case "members":
                return _members(part, inputs)
            case "labels":
                return _labels(part, stacked(inputs))
            case "edges":
                return _edges(part, inputs)
            case "answers":
                return self._answers(inputs)
            case "gather":
                return gather(part, inputs)
            case "groups":
                return self._groups(inputs)
        raise ValueError(f"HashGroups has no phase {phase!r}")

    # ---- keys

    def _keys(self, part: str, inputs: Inputs) -> Output:
        """(key, check, high, low, place) of each sample that has a key; key and check are 128 bits together."""
        found: list[Arrays] = []
        for shard, table in zip(inputs.keys, inputs, strict=True):
            assert isinstance(shard, ShardColumns)
            high, low = halves(table.column("uid"))
            has, key, check = self.keys_of(table)
            place = places(shard.shard, table.num_rows)[has]
            found.append({"key": key, "check": check, "high": high[has], "low": low[has], "place": place})
        rows = joined(found)
        count = buckets_of(part)
        return Output(split(rows, bucket(rows["key"], rows["check"], count), count), {"keys": len(rows["key"])})

    def keys_of(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(has, key, check): which rows have a key, bool (rows,), and the keys of those, two uint64 arrays."""
        if self.by == "phash64":
            hashes = table.column("phash64").fill_null(0).to_numpy()
            quality = table.column("phash_quality").fill_null(0).to_numpy()
            has = pc.is_valid(table.column("phash64")).to_numpy() & (quality >= self.min_quality)
            has &= np.bitwise_count(hashes ^ FLAT) > FLAT_BITS
            return has, hashes[has], np.zeros(has.sum(), np.uint64)
        values = table.column("sha256" if self.by == "image_text" else self.by).to_pylist()
        has = np.array([bool(v) for v in values], bool)
        if self.by == "sha256":
            digests = bytes.fromhex("".join(v for v in values if v))
            words = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 4)
        else:
            if self.by == "image_text":
                texts = table.column("text").to_pylist()
                values = [v and f"{v} {t or ''}" for v, t in zip(values, texts, strict=True)]
            digests = b"".join(xxhash.xxh3_128_digest(v.encode()) for v in values if v)
            words = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
        return has, words[:, 0], words[:, 1]

    # ---- joining hashes that differ

    def _spread(self, part: str, inputs: Inputs) -> Output:
        """Hashes arranged for one choice of blocks; those that agree on it meet in one partition."""
        scheme, subset = self._choice(part)
        arranged = np.sort(scheme.arrange(inputs.only().column("hash").to_numpy(), subset))
        agree = arranged >> np.uint64(scheme.rest(subset))
        return Output(split({"arranged": arranged}, _bucket(agree, buckets_of(part)), buckets_of(part)))

    def _pairs(self, part: str, inputs: Inputs) -> Output:
        """(a, b) with a < b, bucketed by a."""
        columns = stacked(inputs)
        if part.startswith("all-"):
            found = list(value_pairs(np.sort(columns["hash"]), self.distance))
        else:
            found = list(subset_pairs(*self._choice(part), np.sort(columns["arranged"])))
        none = np.empty(0, np.uint64)
        a = np.concatenate([none, *(np.minimum(x, y) for x, y in found)])
        b = np.concatenate([none, *(np.maximum(x, y) for x, y in found)])
        order = np.lexsort((b, a))
        a, b = a[order], b[order]
        count = buckets_of(part)
        return Output(split({"a": a, "b": b}, _bucket(a, count), count), {"pairs": len(a)})

    def _choice(self, part: str) -> tuple[Scheme, tuple[int, ...]]:
        k, subset = (int(n) for n in part.split("-")[:2])
        scheme = Scheme(64, self.distance, k)
        return scheme, scheme.subsets[subset]

    # ---- answers

    def _answers(self, inputs: Inputs) -> Output:
        """(place, high, low, size) of every sample that is not alone; high and low are the group's uid."""
        rows = stacked(inputs.select(PhaseFile, "keys"))
        if self.distance:
            labels = stacked(inputs.select(PhaseFile, "labels"))
            order = np.argsort(labels["hash"])
            hit, at = find(labels["hash"][order], rows["key"])
            at = order[at[hit]]
            answer = {"place": rows["place"][hit]} | {n: labels[n][at] for n in ("high", "low", "size")}
            return Output(by_span(answer, inputs, "keys"))
        order = np.lexsort((rows["low"], rows["high"], rows["check"], rows["key"]))
        rows = {n: a[order] for n, a in rows.items()}
        starts = starts_of(rows["key"], rows["check"])
        size = np.diff(np.append(starts, len(order)))
        first = np.repeat(starts, size)
        answer = {"place": rows["place"], "high": rows["high"][first], "low": rows["low"][first]}
        answer["size"] = np.repeat(size, size)
        together = answer["size"] > 1
        stats = {"groups": int((size > 1).sum()), "largest": int(size.max(initial=0))}
        return Output(by_span({n: a[together] for n, a in answer.items()}, inputs, "keys"), stats)

    def _groups(self, inputs: Inputs) -> Output:
        rows = inputs.select(ShardColumns).only().num_rows
        found = stacked(inputs.select(PhaseFile))
        at = rows_of(found["place"])
        high, low, size = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64), np.ones(rows, np.int64)
        together = np.zeros(rows, bool)
        high[at], low[at], size[at], together[at] = found["high"], found["low"], found["size"], True
        return Output(
            pa.table([uid_array(high, low, together), pa.array(size)], schema=self.writes()),
            {"grouped": len(at)},
        )


def _unique(rows: Arrays) -> Output:
    """(hash, high, low, count): each hash once, with its smallest uid and the number of its samples."""
    order = np.lexsort((rows["low"], rows["high"], rows["key"]))
    starts = starts_of(rows["key"][order])
    first = order[starts]
    count = np.diff(np.append(starts, len(order)))
    table = {"hash": rows["key"][first], "high": rows["high"][first], "low": rows["low"][first], "count": count}
    return Output(pa.table(table), {"hashes": len(first), "most_equal": int(count.max(initial=0))})


def _forest(inputs: Inputs) -> Output:
    """(node, label): the components of the edges in all inputs; pairs and forests alike have two columns."""
    node, label = merged((t.column(0).to_numpy(), t.column(1).to_numpy()) for t in inputs)
    return Output(pa.table({"node": node, "label": label}), {"nodes": len(node)})


def _members(part: str, inputs: Inputs) -> Output:
    """`unique` rows that are not alone, with the root hash of their component, bucketed by root."""
    unique, roots = (stacked(inputs.select(PhaseFile, name)) for name in ("unique", "roots"))
    hit, at = find(roots["node"], unique["hash"])
    root = unique["hash"].copy()
    root[hit] = roots["label"][at[hit]]
    touched = hit | (unique["count"] > 1)
    rows = {"root": root[touched]} | {n: a[touched] for n, a in unique.items()}
    count = buckets_of(part)
    return Output(split(rows, _bucket(rows["root"], count), count))


def _labels(part: str, rows: Arrays) -> Output:
    """(hash, high, low, size): the group of each hash, bucketed by hash."""
    order = np.lexsort((rows["low"], rows["high"], rows["root"]))
    rows = {n: a[order] for n, a in rows.items()}
    starts = starts_of(rows["root"])
    length = np.diff(np.append(starts, len(order)))
    size = np.add.reduceat(rows["count"], starts) if len(starts) else np.empty(0, np.int64)
    first = np.repeat(starts, length)
    labels = {"hash": rows["hash"], "high": rows["high"][first], "low": rows["low"][first]}
    labels["size"] = np.repeat(size, length)
    count = buckets_of(part)
    stats = {"groups": len(starts), "largest": int(size.max(initial=0))}
    return Output(split(labels, _bucket(labels["hash"], count), count), stats)


def _edges(part: str, inputs: Inputs) -> Output:
    """(high, low, a, b, distance): near hashes a < b and the uid of their group, bucketed by group."""
    pairs, labels = (stacked(inputs.select(PhaseFile, name)) for name in ("pairs", "labels"))
    order = np.argsort(labels["hash"])
    at = order[np.searchsorted(labels["hash"][order], pairs["a"])]
    edges = {"high": labels["high"][at], "low": labels["low"][at], **pairs}
    edges["distance"] = np.bitwise_count(pairs["a"] ^ pairs["b"])
    order = np.lexsort((edges["b"], edges["a"]))
    edges = {n: a[order] for n, a in edges.items()}
    histogram = np.bincount(edges["distance"]).tolist()
    count = buckets_of(part)
    into = bucket(edges["high"], edges["low"], count)
    return Output(split(edges, into, count), {"edges": len(order), "distances": histogram})


def _bucket(hashes: np.ndarray, count: int) -> np.ndarray:
    return bucket(hashes, np.zeros_like(hashes), count)
