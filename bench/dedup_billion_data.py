"""Input tables for one part of one phase, of the size that a pool of a billion samples gives it.

    world = World(shards, total, files, schemas, spans, shard_columns)
    tables = world.tables(Part("unique", "00003-of-00512", keys))

Columns are named alike in all phases (node, high, low, place, group_high, a, b, ...), so that a table is made from the
names and types which the phase before it writes in a small pool, and from its number of rows. Nodes of one part are
the same ones in all its inputs: what is looked up is found. Of the samples 5 % are equal to another, and 45 % lie in
groups of three that hang together by two pairs each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from stages.base import Input, PhaseFile, ShardColumns
from stages.hamming import Scheme
from stages.shuffle import buckets_of, uid_array
from stages.vectors import as_column

ROWS_OF_SHARD = 10_000
EQUAL, TOUCHED = 0.05, 0.45
PAIRS = TOUCHED * 2 / 3
SHARES = {  # rows of all files of a phase together, as a share of the samples of the pool
    **dict.fromkeys(("nodes", "keys", "words"), 1.0),
    **dict.fromkeys(("unique", "hashes", "spread"), 1 - EQUAL),
    **dict.fromkeys(("pairs", "compared", "edges", "decide", "links", "numbers", "joins"), PAIRS),
    **dict.fromkeys(("forest", "members", "labels", "answers", "gather", "touched"), TOUCHED),
    "assign": 1.5,  # every second vector visits another cluster
}
NUMBERED = "numbers, nodes"  # the last table of a file of `numbers`, which has nodes, not links
DIM, CLUSTERS = 512, 50_000


@dataclass(frozen=True)
class Part:
    """One part of one phase and what it reads: rows of each input, as even shares of `total[phase]`."""

    phase: str
    name: str
    keys: tuple[Input, ...]


@dataclass
class World:
    """Makes input tables. total: rows of all files of a phase; files: how many there are; schemas: what they hold."""

    shards: int
    total: Mapping[str, float]
    files: Mapping[str, int]
    schemas: Mapping[str, pa.Schema]
    spans: int
    shard_columns: Mapping[str, Callable[[int, np.random.Generator], pa.Array]]
    most: int = 25_000_000

    def rows(self, key: Input) -> int:
        """Rows of one input table."""
        if isinstance(key, ShardColumns):
            return ROWS_OF_SHARD
        phase, tables = ("forest", 1) if kind_of(key) == NUMBERED else (key.phase, self.cuts(key))
        return max(1, round(self.total[phase] / self.files[key.phase] / tables))

    def _tables(self, key: PhaseFile) -> int:
        """How many tables a file of this phase has."""
        if key.phase in ("answers", "decide"):
            return self.spans
        if key.phase == "gather":
            return -(-self.shards // self.spans)
        return buckets_of(key.part)

    def cuts(self, key: Input) -> int:
        """Tables in the file that one of them is read from; 1 where it is read whole."""
        return 1 if isinstance(key, ShardColumns) or key.bucket is None else self._tables(key)

    def scale(self, part: Part) -> float:
        """How much smaller than they would be the inputs are made, so that they fit here: 1 where they fit."""
        return max(1.0, sum(map(self.rows, part.keys)) / self.most)

    def tables(self, part: Part) -> Mapping[Input, pa.Table]:
        """The input tables of a part, made kind by kind, so that those of one kind share nodes in order."""
        kinds: dict[str, list[Input]] = {}
        for key in part.keys:
            kinds.setdefault(kind_of(key), []).append(key)
        found: dict[Input, pa.Table] = {}
        scale = self.scale(part)
        for kind, keys in kinds.items():
            each = max(1, int(self.rows(keys[0]) / scale))
            whole = self._shards(keys) if kind == "shard" else self._made(kind, each * len(keys), part)
            each = ROWS_OF_SHARD if kind == "shard" else each
            found |= {key: whole.slice(i * each, each) for i, key in enumerate(keys)}
        return found

    def _shards(self, keys: list[Input]) -> pa.Table:
        rng, rows = np.random.default_rng(1), ROWS_OF_SHARD * len(keys)
        uid = uid_array(*random_words(rng, rows, 2))
        return pa.table({"uid": uid} | {name: make(rows, rng) for name, make in self.shard_columns.items()})

    def _made(self, kind: str, rows: int, part: Part) -> pa.Table:
        schema, rng = self.schemas[_like(kind)], np.random.default_rng(len(kind))
        special = SPECIAL.get((part.phase, _like(kind)))
        columns = special(rows, part, rng) if special else {}
        made = Columns(rows, kind, part, rng, self)
        return pa.table({f.name: pa.array(columns[f.name] if f.name in columns else made.of(f)) for f in schema})


@dataclass
class Columns:
    """The columns of one kind of input, by their names."""

    rows: int
    kind: str
    part: Part
    rng: np.random.Generator
    world: World

    def of(self, wanted: pa.Field) -> np.ndarray | pa.Array:
        pairs = _like(self.kind) in ("pairs", "edges", "compared", "links")
        at = np.arange(self.rows)
        group = at // 2 if pairs else at // 3
        match wanted.name:
            case "node" if wanted.type == pa.uint64():
                found = node(self._often(at) if SHARES.get(self.kind) == 1 else at)
                if self.kind == NUMBERED or self.part.phase == "members":
                    found.sort()
                return pa.array(found, mask=at % 50 == 0) if self.kind == "nodes" else found
            case "root" | "label":
                return node(3 * group).astype(wanted.type.to_pandas_dtype())
            case "number":
                return self.rng.integers(0, 1 << 20, self.rows, np.uint64)
            case "a":
                return node(3 * group + at % 2)
            case "b":
                return node(3 * group + at % 2 + 1)
            case "group_high" | "group_low":
                return mix(group.astype(np.uint64), wanted.name)
            case "high" | "low" if self.kind in ("labels", "edges", "answers", "gather"):
                return mix(group.astype(np.uint64), f"group_{wanted.name}")
            case "place":
                return self._places(at)
            case "count":
                return np.ones(self.rows, np.int64)
            case "lacks":
                return np.zeros(self.rows, np.uint8)
            case "size":
                return np.full(self.rows, 3)
            case "distance":
                return (2 + 2 * (at % 2)).astype(wanted.type.to_pandas_dtype())
        if pa.types.is_unsigned_integer(wanted.type):
            return self.rng.integers(0, 2**63, self.rows, np.uint64).astype(wanted.type.to_pandas_dtype())
        if pa.types.is_integer(wanted.type):
            return self.rng.integers(0, 1000, self.rows).astype(wanted.type.to_pandas_dtype())
        if pa.types.is_boolean(wanted.type):
            return np.zeros(self.rows, bool)  # marks what is rare, as groups of millions
        raise ValueError(f"phase {self.part.phase} reads {wanted} of {self.kind}: dedup_billion_data cannot make it")

    def _often(self, at: np.ndarray) -> np.ndarray:
        """Numbers of nodes: 5 % of the samples have one that another has."""
        return np.where(at % 20 == 19, at - 1, at)

    def _places(self, at: np.ndarray) -> np.ndarray:
        """Ascending, over the shards that such a table is about."""
        first, last = 0, self.world.shards - 1
        if self.part.phase == "gather":
            first, last = (int(n) for n in self.part.name.split("-")[:2])
        elif self.kind == "gather":
            first = last = int(self.part.name)
        count = (last - first + 1) * ROWS_OF_SHARD
        row = at * count // max(len(at), 1)
        shard = (first + row // ROWS_OF_SHARD).astype(np.uint64)
        return (shard << np.uint64(32)) + (row % ROWS_OF_SHARD).astype(np.uint64)


def kind_of(key: Input) -> str:
    """Inputs of one kind have as many rows each, of the same columns."""
    if isinstance(key, ShardColumns):
        return "shard"
    if key.phase == "links" and key.bucket is None:
        return "links, all of a file"
    return NUMBERED if key.phase == "numbers" and key.bucket == buckets_of(key.part) else key.phase


def _like(kind: str) -> str:
    """The phase whose columns a kind has; a small pool has but one level of trees."""
    return "total-0" if kind.startswith("total-") else kind.split(",")[0]


def mix(numbers: np.ndarray, salt: str) -> np.ndarray:
    """uint64: different for different numbers, and spread evenly."""
    from stages.draws import hash64_halves

    return hash64_halves(0, salt, numbers, np.zeros_like(numbers))


def node(numbers: np.ndarray) -> np.ndarray:
    return mix(numbers.astype(np.uint64), "a node")


def random_words(rng: np.random.Generator, rows: int, words: int) -> list[np.ndarray]:
    return [rng.integers(0, 2**63, rows, np.uint64) * np.uint64(2) for _ in range(words)]


# ---------------------------------------------------------------- what must lie as it does in a pool


def arranged(rows: int, part: Part, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Hashes of one partition of one choice of blocks: as many for each value of the blocks as a billion have, and of
    every ten one that is a copy of another, two bits beside the blocks away."""
    k, subset = (int(n) for n in part.name.split("-")[:2])
    scheme = Scheme(64, 4, k)
    rest = scheme.rest(scheme.subsets[subset])
    values = max(1, int(2.0 ** (64 - rest) * rows / 0.95e9))  # as many different ones as a partition has
    step = np.uint64(2 ** (64 - rest) // values)
    own = (rng.integers(0, values, rows, np.uint64) * step) << np.uint64(rest)
    own |= rng.integers(0, 2**rest, rows, np.uint64)
    copies = rng.choice(rows, rows // 10, replace=False)
    flips = (np.uint64(1) << rng.integers(0, rest, (2, len(copies)), np.uint64)).sum(axis=0, dtype=np.uint64)
    own[copies] = own[rng.integers(0, rows, len(copies))] ^ flips
    return {"node": own}


def words_of_band(rows: int, part: Part, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """256-bit hashes of one partition of one band: every third is a copy that agrees in it."""
    k, band = (int(n) for n in part.name.split("-")[:2])
    words = np.stack(random_words(rng, rows, 4), axis=1)
    copies = np.arange(2, rows, 3)
    words[copies] = words[copies - 1]
    outside = (band * (256 // k) // 64 + 1) % 4
    words[copies, outside] ^= np.uint64(1) << rng.integers(0, 64, len(copies), np.uint64)
    return {f"w{i}": words[:, i] for i in range(4)}


def vectors_of_bucket(rows: int, part: Part, rng: np.random.Generator) -> dict[str, np.ndarray | pa.Array]:
    """Vectors of a bucket's clusters, two thirds at home; every fourth is a near copy of one at home."""
    from stages.near_vector_rows import packed

    count = max(1, round(rows / (1.5e9 / CLUSTERS)))
    at = np.arange(rows)
    cluster = (at % count).astype(np.int32)
    x = np.empty((rows, DIM), np.float16)
    centres = rng.standard_normal((count, DIM)).astype(np.float32)
    for start in range(0, rows, 1 << 16):
        here = slice(start, min(start + (1 << 16), rows))
        x[here] = (centres[cluster[here]] + rng.standard_normal((here.stop - start, DIM), np.float32)) / 32
    copies = np.arange(count, rows, 4)
    x[copies] = x[copies - count] + (rng.standard_normal((len(copies), DIM), np.float32) / 2000).astype(np.float16)
    visitor = at // count % 3 == 2
    visits = np.full((rows, 7), -1, np.int32)
    visits[visitor, 0] = cluster[visitor]
    zero = np.zeros(rows, np.int32)
    known = {"cluster": cluster, "home": np.where(visitor, cluster + count, cluster).astype(np.int32), "tile": zero}
    return known | {"group": zero, "node": node(at), "visits": as_column(visits), **packed(x)}


@cache
def centroids(count: int) -> np.ndarray:
    """float32 (count, DIM), of length one, far apart."""
    x = np.random.default_rng(7).standard_normal((count, DIM), np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def vectors_of_shards(rows: int, rng: np.random.Generator) -> pa.Array:
    """fp16, near a centroid, or every second half-way between two, so that it visits the other one."""
    found = centroids(CLUSTERS)
    first, second = rng.integers(0, len(found), (2, rows))
    second[::2] = first[::2]
    noise = rng.standard_normal((rows, DIM), np.float32) * np.float32(0.02)
    return as_column(((found[first] + found[second]) / 2 + noise).astype(np.float16))


def centroids_table(rows: int, part: Part, rng: np.random.Generator) -> dict[str, np.ndarray | pa.Array]:
    return {"centroid": as_column(centroids(CLUSTERS)[:rows]), "count": np.full(rows, 256)}


def spread_hashes(rows: int, part: Part, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Those of 256 bits are joined by eight bands, those of 64 by fewer blocks."""
    return (words_of_band if part.name.startswith("8-") else arranged)(rows, part, rng)


def numbers_of_pairs(rows: int, part: Part, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Two pairs for each three nodes, whose numbers have nothing to do with one another."""
    at, buckets = np.arange(rows), buckets_of(part.name)
    number = rng.permutation(3 * (rows // 2 + 1)).astype(np.uint64)
    number = ((number % np.uint64(buckets)) << np.uint64(32)) + number // np.uint64(buckets)
    first = 3 * (at // 2) + at % 2
    return {"i": number[first], "j": number[first + 1]}


SPECIAL = {
    ("forest", "joins"): numbers_of_pairs,
    ("pairs", "spread"): spread_hashes,
    ("compared", "assign"): vectors_of_bucket,
    ("assign", "centroids"): centroids_table,
    ("assign", "total-0"): lambda rows, part, rng: {"n": np.full(1, 20_000 * CLUSTERS)},
}
