"""How much likelier a text is among texts that one wants than in the pool: DSIR's importance weight.

    columns:
      - dsir: {target: captions.txt}                                  # dsir: log p_target(text) / p_pool(text)
    filters:
      - sample_by: {column: dsir, fraction: 0.1, over: pool}          # draws in proportion to the weight

Data Selection for Language Models via Importance Resampling (Xie et al. 2023). Followed: the authors' code,
p-lambda/dsir, data_selection/hashed_ngram_dsir.py: lower case, NLTK's WordPunctTokenizer, words and pairs of
neighbours hashed by sha256 into 10,000 buckets, a bag of buckets for each side, 1e-8 added to every probability, and
the sum over a text's n-grams of the difference of logarithms. Departs: the pool's bag is of all its texts, where the
code stops after a billion tokens; nothing is dropped for being short (the code asks for 100 words, which is not for
captions). Short templates like those of the target are over-selected, since a long text has more n-grams to lose by:
combine with bounds on length. No weights are needed; the texts wanted are the user's.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from stages.base import (
    TEXT,
    Barrier,
    Column,
    Inputs,
    Output,
    Phase,
    PhaseFile,
    Shape,
    ShardColumns,
    per_shard,
    shard_name,
    tree,
)
from stages.tokens import Orders, tokens
from stages.word_lists import absolute, existing

SOME = 10_000  # texts of the target at a time


class Dsir(Barrier):
    """Column `<name>`, float32 rounded to 1e-4: log weight of the text, higher where it is more like the target.

    Null where the text has no token. The bags are integer counts, so no order or cut of the pool changes them.

    Args:
        target: texts that one wants: .parquet, .jsonl with one object a line, or any other file as text, one a line.
        target_column: of a .parquet (strings or lists of strings), or the key of a .jsonl.
        buckets: how many there are for n-grams to be hashed into.
        orders: 1 for words, 2 for pairs of neighbours.
        smoothing: added to every bucket's probability on both sides.
        name: the name of the column.

    Raises:
        ValueError: the target is not there, has no such column, or no text.

    Example:
        Dsir(target="flickr_captions.parquet", target_column="captions", name="dsir_flickr")
    """

    target: str
    target_column: str = "text"
    buckets: int = Field(default=10_000, ge=1, le=10_000_000)
    orders: Orders = (1, 2)
    smoothing: float = Field(default=1e-8, gt=0)
    name: str = Field(default="dsir", pattern="^[a-z][a-z0-9_]{0,63}$")

    @field_validator("target")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return absolute(path)

    def files(self) -> tuple[str, ...]:
        return (existing(self.target, "dsir: target"),)

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.float32())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        bags = per_shard("bags", shape, local=True)
        added = tree("added", "bags", [shard_name(s) for s in shape.shards])
        ratios = Phase("ratios", ("all",), lambda _: (PhaseFile(added[-1].name, "all"),))
        return (bags, *added, ratios, per_shard("weights", shape, (PhaseFile("ratios", "all"),)))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase.startswith("added-"):
            return Output(_bag(sum((_counts(table) for table in inputs), np.zeros(self.buckets, np.int64))))
        match phase:
            case "bags":
                return Output(_bag(self.bag(inputs.only().column("text").to_pylist())))
            case "ratios":
                return self._ratios(_counts(inputs.only()))
            case "weights":
                return self._weights(inputs)
        raise ValueError(f"dsir has no phase {phase!r}")

    def bag(self, texts: list[str | None]) -> np.ndarray:
        """int64 (buckets,): n-grams of the texts by bucket."""
        return np.bincount(self._hashed(texts)[1], minlength=self.buckets)

    def _hashed(self, texts: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """(row, bucket) of every n-gram, int64; each different one is hashed once."""
        grams = [self._ngrams(text) if text else [] for text in texts]
        row = np.repeat(np.arange(len(grams)), [len(g) for g in grams])
        named = pa.array(list(chain.from_iterable(grams)), pa.large_string()).dictionary_encode()
        hashes = (hashlib.sha256(g.encode()).digest() for g in named.dictionary.to_pylist())
        buckets = np.array([int.from_bytes(h, "big") % self.buckets for h in hashes], np.int64)
        return row, buckets[named.indices.to_numpy()]

    def _ngrams(self, text: str) -> list[str]:
        words = tokens(text.lower(), "wordpunct")
        return [" ".join(words[i : i + n]) for n in self.orders for i in range(len(words) - n + 1)]

    def _ratios(self, pool: np.ndarray) -> Output:
        """(ratio,), float64: difference of the logarithms of each bucket's probabilities."""
        wanted = np.zeros(self.buckets, np.int64)
        for texts in target_texts(self.target, self.target_column):
            wanted += self.bag(texts)
        if not wanted.sum():
            raise ValueError(f"dsir: {self.target} has no text to be alike to")
        ratio = self._logs(wanted) - self._logs(pool)
        stats = {"target_ngrams": int(wanted.sum()), "pool_ngrams": int(pool.sum())}
        return Output(pa.table({"ratio": ratio}), stats)

    def _logs(self, bag: np.ndarray) -> np.ndarray:
        """Logarithms of a bag's probabilities, one by one: numpy's own may differ between processors."""
        shares = (bag / max(int(bag.sum()), 1)).tolist()
        return np.array([math.log(share + self.smoothing) for share in shares])

    def _weights(self, inputs: Inputs) -> Output:
        ratio = inputs.select(PhaseFile).only().column("ratio").to_numpy()
        table = inputs.select(ShardColumns).only()
        row, bucket = self._hashed(table.column("text").to_pylist())
        weight = np.bincount(row, ratio[bucket], table.num_rows)  # adds in the order of the text
        none = np.bincount(row, minlength=table.num_rows) == 0
        return Output(pa.table([pa.array(np.round(weight, 4), pa.float32(), mask=none)], schema=self.writes()))


def _bag(counts: np.ndarray) -> pa.Table:
    return pa.table({"count": pa.array(counts, pa.int64())})


def _counts(table: pa.Table) -> np.ndarray:
    return table.column("count").to_numpy()


def target_texts(path: str, column: str) -> Iterator[list[str | None]]:
    """The texts of a file, some at a time; see `Dsir`.

    Raises:
        ValueError: the file is not what its name says, or has no such column; names the line.
    """
    kind = Path(path).suffix.lower()
    if kind == ".parquet":
        yield from _of_parquet(path, column)
        return
    some: list[str | None] = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            some.append(_of_json(line, column, f"{path}:{number}") if kind == ".jsonl" else line)
            if len(some) == SOME:
                yield some
                some = []
    yield some


def _of_parquet(path: str, column: str) -> Iterator[list[str | None]]:
    with pq.ParquetFile(path) as file:
        if column not in file.schema_arrow.names:
            raise ValueError(
                f"dsir: {path} has no column {column!r} but {', '.join(file.schema_arrow.names)}; "
                "name one of them as `target_column`"
            )
        kind = file.schema_arrow.field(column).type
        if not pa.types.is_string(getattr(kind, "value_type", kind)):
            raise ValueError(f"dsir: column {column!r} of {path} is {kind}; texts are strings or lists of strings")
        for batch in file.iter_batches(SOME, columns=[column]):
            values = batch.column(0)
            yield (values if pa.types.is_string(kind) else values.flatten()).to_pylist()


def _of_json(line: str, key: str, place: str) -> str | None:
    try:
        found: Any = json.loads(line)
    except ValueError as e:
        raise ValueError(f"dsir: {place} is no JSON ({e})") from e
    if not isinstance(found, dict) or not isinstance(found.get(key, ""), str):
        raise ValueError(f"dsir: {place} is no object with a text as {key!r}")
    return found.get(key)
