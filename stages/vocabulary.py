"""How common a text's rarest word is in a corpus that is not the pool: counts from a file.

    columns:
      - vocabulary: {counts: enwiki_unigrams.tsv}         # vocabulary_min_count
    filters:
      - where: "vocabulary_min_count >= 5"                # Conceptual Captions: words that Wikipedia has 5 times

Conceptual Captions (Sharma et al. 2018): captions with a token outside a vocabulary of those that the English Wikipedia
has at least 5 times are dropped; Conceptual 12M (Changpinyo et al. 2021): 20 times. Followed: the papers' words, from
memory; unverified: how they split and whether they lower the case. For the pool itself as the corpus: `word_counts`.
Needed: the file of counts, the user's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, PrivateAttr, field_validator

from stages.base import TEXT, Batch, Column, Need, Stage
from stages.counting import Totals, once
from stages.tokens import Tokens, hashed, ngrams
from stages.word_lists import absolute, existing


class Vocabulary(Stage):
    """Column `<name>_min_count`, int64: the count that the file gives the text's rarest word; 0 where it lists it not.

    Null where the text has no word.

    Args:
        counts: .json with a map of words to counts; .parquet with columns `word` and `count`; else text, on each line a
            word, a tab and its count. A word that stands twice has the sum.
        tokens: what a word is: words, whitespace, or wordpunct (`stages/tokens.py`).
        lower: look words up in lower case; the file must have them so.
        name: begins the name of the column.

    Raises:
        ValueError: the file is not there, or not of this kind; names the line.

    Example:
        Vocabulary(counts="enwiki.tsv", lower=True, name="enwiki")      # enwiki_min_count
    """

    counts: str
    tokens: Tokens = "words"
    lower: bool = False
    name: str = Field(default="vocabulary", pattern="^[a-z][a-z0-9_]{0,31}$")
    _totals: Totals | None = PrivateAttr(default=None)

    @field_validator("counts")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return absolute(path)

    def files(self) -> tuple[str, ...]:
        return (existing(self.counts, "vocabulary: counts"),)

    def need(self) -> Need:
        return Need(memory_gb=2)

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([(f"{self.name}_min_count", pa.int64())])

    def open(self) -> None:
        """Read the counts.

        Raises:
            ValueError: see above.
        """
        self._totals = Totals(once(_rows(*zip(*counted(self.counts), strict=True))))

    def run(self, batch: Batch) -> pa.Table:
        if self._totals is None:
            self.open()
        assert self._totals is not None
        found = ngrams(batch[TEXT].to_pylist(), (1,), self.tokens, lower=self.lower)
        least = np.full(batch.num_rows, np.iinfo(np.int64).max)
        np.minimum.at(least, found.row, self._totals.of(found.key, found.check))
        none = np.bincount(found.row, minlength=batch.num_rows) == 0
        return pa.table([pa.array(least, mask=none)], schema=self.writes())


def _rows(words: tuple[str, ...], counts: tuple[int, ...]) -> dict[str, np.ndarray]:
    key, check = hashed(words)
    return {"key": key, "check": check, "count": np.array(counts, np.int64)}


def counted(path: str) -> Iterator[tuple[str, int]]:
    """(word, count) of each entry of a file.

    Raises:
        ValueError: see `Vocabulary`.
    """
    kind = Path(path).suffix.lower()
    found = _of_json(path) if kind == ".json" else _of_parquet(path) if kind == ".parquet" else _of_lines(path)
    number = 0
    for number, (word, count) in enumerate(found, 1):
        if not isinstance(word, str) or not isinstance(count, int):
            raise ValueError(
                f"vocabulary: entry {number} of {path} is no word with a whole number: {word!r}, {count!r}"
            )
        yield word, count
    if not number:
        raise ValueError(f"vocabulary: {path} has no word")


def _of_json(path: str) -> Iterator[tuple[str, int]]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as e:
        raise ValueError(f"vocabulary: {path} is no JSON ({e})") from e
    if not isinstance(found, dict):
        raise ValueError(f'vocabulary: {path} is no map of words to whole numbers, as {{"dog": 120}}')
    yield from found.items()


def _of_parquet(path: str) -> Iterator[tuple[str, int]]:
    with pq.ParquetFile(path) as file:
        lacks = {"word", "count"} - set(file.schema_arrow.names)
        if lacks:
            raise ValueError(f"vocabulary: {path} has no column {' and no column '.join(sorted(lacks))}")
        for batch in file.iter_batches(columns=["word", "count"]):
            yield from zip(batch.column("word").to_pylist(), batch.column("count").to_pylist(), strict=True)


def _of_lines(path: str) -> Iterator[tuple[str, int]]:
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            word, _, count = line.rstrip("\n").partition("\t")
            if not word or not count.strip().isdecimal():
                raise ValueError(f"vocabulary: {path}:{number}: expected a word, a tab and a count, found {line!r}")
            yield word, int(count)
