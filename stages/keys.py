"""What of a sample is counted: a column, or what is made of one, as 128-bit hashes; and the phases of counting it.

    Key.of("text_clean").hashes(table)       # which rows have a key, and the keys of those

| name | key | used by |
| --- | --- | --- |
| text_clean | the text with runs of white space made one space, ends stripped | COYO-700M |
| text_lower | the text in lower case | |
| text_normalised | the text: NFKC, case folded, white space as of text_clean | |
| url_normalised | the url: host in lower case, no fragment, parameters sorted, ...; `stages.normal_forms` | |
| url_stripped | the same without its query | |
| domain | host of the url: NFKC, lower case, without "www." | LAION-5B's statistics (domain_safety.py) |
| any column | its value: a string, bytes, an integer, a truth value or a number | ALIGN |

Nothing has no key: a null, an empty string, NaN; a url that cannot be parsed has no domain.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from stages.base import Column, Inputs, Output, Phase, PhaseFile, ShardColumns
from stages.counting import Totals, all_once, arrays, back, by_shard, joined, once, ones, to_buckets, totals
from stages.normal_forms import text_normalised, url_normalised, url_stripped
from stages.shuffle import Arrays, Layout, bucket, buckets_of, split, starts_of
from stages.text_facts import clean

COUNT = pa.schema([("count", pa.int64())])


def domain(url: str) -> str | None:
    """Host of a url as LAION-5B's statistics name it (laion-prepro, laion5B/domain_safety); None where it has none.

    Example:
        domain("https://WWW.Example.com/a.jpg")      # "example.com"
    """
    try:
        host = urlsplit(unicodedata.normalize("NFKC", url)).netloc
    except ValueError:  # brackets that are no IPv6 address: the sample has no domain, which is what None says
        return None
    return host.lower().removeprefix("www.") or None


VIEWS: dict[str, tuple[str, Callable[[str], str | None]]] = {
    "text_clean": ("text", clean),
    "text_lower": ("text", str.lower),
    "text_normalised": ("text", text_normalised),
    "url_normalised": ("url", url_normalised),
    "url_stripped": ("url", url_stripped),
    "domain": ("url", domain),
}
"""Name -> the fact that it is made of, and how."""


@dataclass(frozen=True)
class Key:
    """A key by its name: where it is read and what is made of it."""

    name: str
    column: Column
    view: Callable[[str], str | None] | None = None

    @classmethod
    def of(cls, source: Column | str) -> Key:
        """Of a column, or of a plain name; the names above stand for what they say."""
        column = Column(None, source) if isinstance(source, str) else source
        if column.owner is None and column.field in VIEWS:
            fact, view = VIEWS[column.field]
            return cls(column.field, Column(None, fact), view)
        return cls(column.field, column)

    def hashes(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(has, key, check): which rows have a key, bool (rows,), and the keys of those, two uint64 arrays.

        Raises:
            ValueError: the column holds neither strings nor bytes nor numbers.
        """
        values = table.column(self.column.field)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        kind = values.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            texts: list[str | None] = values.to_pylist()
            view = self.view
            made = texts if view is None else [t and view(t) for t in texts]
            return _hashed([m.encode() if m else None for m in made])
        if any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)):
            return _hashed(values.to_pylist())
        if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind):
            return _numbers(values)
        raise ValueError(f"{self.name} is {kind}: a key to count is a string, bytes, a truth value or a number")


def _hashed(values: list[bytes | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    has = np.fromiter((bool(v) for v in values), bool, len(values))
    digests = b"".join(xxhash.xxh3_128_digest(v) for v in values if v)
    words = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
    return has, words[:, 0], words[:, 1]


def _numbers(values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers are their own keys; -0.0 is 0.0."""
    has = pc.is_valid(values).to_numpy()
    if pa.types.is_floating(values.type):
        numbers = values.cast(pa.float64()).fill_null(0).to_numpy() + 0.0
        has = has & ~np.isnan(numbers)
        key = numbers.view(np.uint64)[has]
    elif pa.types.is_uint64(values.type):
        key = values.fill_null(0).to_numpy()[has]
    else:
        key = values.cast(pa.int64()).fill_null(0).to_numpy().view(np.uint64)[has]
    return has, key, np.zeros(len(key), np.uint64)


@dataclass(frozen=True)
class KeyCounting:
    """How often each key occurs, or how many distinct `distinct` occur with it, among the rows that are asked.

    Phases keys, [pairs, others,] totals, rows; the last leaves `count` for each row of each shard, null where the row
    has no key or is not asked.
    """

    by: Key
    distinct: Key | None = None

    def phases(self, layout: Layout) -> tuple[Phase, ...]:
        keys, rows = layout.from_shards("keys"), back(layout, "rows", "totals")
        if self.distinct is None:
            return keys, layout.by_bucket("totals", ("keys", layout.spans)), rows
        return (
            keys,
            layout.from_shards("pairs"),
            layout.by_bucket("others", ("pairs", layout.spans)),
            layout.by_bucket("totals", ("keys", layout.spans), ("others", layout.bucket_parts)),
            rows,
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "keys":
                return to_buckets(all_once(self._keys(inputs)), buckets_of(part))
            case "pairs":
                return self._pairs(inputs, buckets_of(part))
            case "others":
                return _others(inputs, buckets_of(part))
            case "totals":
                return totals(inputs, "keys", None if self.distinct is None else "others")
            case "rows":
                return self._rows(part, inputs)
        raise ValueError(f"counting {self.by.name} has no phase {phase!r}")

    def _keys(self, inputs: Inputs) -> Iterator[Arrays]:
        for table in inputs:
            has, key, check = whole(self.by, table)
            yield ones(key[has], check[has])

    def _pairs(self, inputs: Inputs, count: int) -> Output:
        """(key, check, other, other_check), each pair once in a span, to the bucket of the pair."""
        assert self.distinct is not None
        found: list[Arrays] = []
        for table in inputs:
            by, other = (whole(key, table) for key in (self.by, self.distinct))
            both = by[0] & other[0]
            names = ("key", "check", "other", "other_check")
            found.append(_pairs_once({n: a[both] for n, a in zip(names, (*by[1:], *other[1:]), strict=True)}))
        pairs = _pairs_once({n: np.concatenate([f[n] for f in found]) for n in found[0]})
        into = bucket(pairs["key"] ^ pairs["other_check"], pairs["check"] ^ pairs["other"], count)
        return Output(split(pairs, into, count), {"pairs": len(into)})

    def _rows(self, part: str, inputs: Inputs) -> Output:
        found = Totals(once(joined([arrays(t) for t in inputs.select(PhaseFile, "totals")])))
        shards, tables = inputs.select(ShardColumns), {}
        for shard, table in zip(shards.keys, shards, strict=True):
            assert isinstance(shard, ShardColumns)
            has, key, check = whole(self.by, table)
            tables[shard.shard] = pa.table([pa.array(found.of(key, check), mask=~has)], schema=COUNT)
        return Output(by_shard(tables, part, COUNT))


def whole(key: Key, table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(has, key, check) of every row: as `Key.hashes`, with zeros where it has no key; what is not asked has none."""
    has, high, low = key.hashes(table)
    halves = np.zeros((2, len(has)), np.uint64)
    halves[0, has], halves[1, has] = high, low
    if "asked" in table.column_names:
        has = has & table.column("asked").to_numpy()
    return has, halves[0], halves[1]


def _pairs_once(pairs: Arrays) -> Arrays:
    order = np.lexsort(tuple(pairs[n] for n in ("other_check", "other", "check", "key")))
    pairs = {n: a[order] for n, a in pairs.items()}
    starts = starts_of(*pairs.values())
    return {n: a[starts] for n, a in pairs.items()}


def _others(inputs: Inputs, count: int) -> Output:
    """How many distinct pairs of this bucket a key has, to the bucket of the key."""
    tables = list(inputs)
    whole = {n: np.concatenate([t.column(n).to_numpy() for t in tables]) for n in tables[0].column_names}
    pairs = _pairs_once(whole)
    return to_buckets(once(ones(pairs["key"], pairs["check"])), count)
