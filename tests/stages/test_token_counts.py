"""Counts of words and word pairs against plain Python over all texts; no cut into shards or buckets shows."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.shuffle as shuffle
from stages.ngram_rarity import NgramRarity
from stages.token_counts import TokenCounts
from stages.tokens import ngrams, tokens
from stages.word_counts import WordCounts
from tests.phase_runner import PhaseRunner

SCHEMA = pa.schema([("uid", pa.binary(16)), ("text", pa.string())])


def pool_of(texts: list[str | None], shards: int = 1, rng: np.random.Generator | None = None) -> dict[int, pa.Table]:
    rng = rng or np.random.default_rng(0)
    rows = [{"uid": i.to_bytes(16, "big"), "text": t} for i, t in enumerate(texts)]
    home, order = rng.integers(0, shards, len(rows)), rng.permutation(len(rows))
    numbers = np.sort(rng.choice(50, shards, replace=False)).tolist()
    return {n: pa.Table.from_pylist([rows[i] for i in order if home[i] == s], SCHEMA) for s, n in enumerate(numbers)}


def answers(pool: dict[int, pa.Table], barrier: TokenCounts, seed: int | None = None) -> list[tuple[Any, ...]]:
    """The row of columns of each text, in the order of uids."""
    found = {}
    for shard, table in PhaseRunner(pool, seed).run(barrier).items():
        rows = zip(*(c.to_pylist() for c in table.columns), strict=True)
        found.update(zip(pool[shard].column("uid").to_pylist(), rows, strict=True))
    return [found[uid] for uid in sorted(found)]


def plain(texts: list[str | None], vocabulary: int) -> list[tuple[int | None, int | None]]:
    """ALIGN's rule in a few lines."""
    split = [t.split() if t else [] for t in texts]
    grams = [[(w,) for w in s] + list(pairwise(s)) for s in split]
    counts = Counter(g for some in grams for g in some)
    ranked = sorted(counts.values(), reverse=True)
    cutoff = 1 + (ranked[vocabulary] if vocabulary < len(ranked) else 0)
    rare = {g for g, n in counts.items() if n < cutoff}
    return [(sum(g in rare for g in s), min(counts[g] for g in s)) if s else (None, None) for s in grams]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("whitespace", ["A", "dog's", "black-and-white", "toy,", "photo.jpg", "café", "30%"]),
        ("words", ["A", "dog's", "black-and-white", "toy", "photo", "jpg", "café", "30"]),
        (
            "wordpunct",
            [
                "A",
                "dog",
                "'",
                "s",
                "black",
                "-",
                "and",
                "-",
                "white",
                "toy",
                ",",
                "photo",
                ".",
                "jpg",
                "café",
                "30",
                "%",
            ],
        ),
    ],
)
def test_tokens(kind: Any, expected: list[str]) -> None:
    assert tokens("A dog's\u00a0 black-and-white\ntoy, photo.jpg café 30%", kind) == expected
    assert tokens(" \n", kind) == []


def test_ngrams_do_not_cross_rows_or_orders() -> None:
    found = ngrams(["a b", "a", None, "a b a b"], (1, 2), "whitespace")
    keys = list(zip(found.key.tolist(), found.check.tolist(), strict=True))
    by_row: list[list[Any]] = [[] for _ in range(4)]
    for row, key in zip(found.row.tolist(), keys, strict=True):
        by_row[row].append(key)
    a, b, ab = by_row[0]
    ba = by_row[3][5]
    assert by_row == [[a, b, ab], [a], [], [a, b, a, b, ab, ba, ab]]
    assert len({a, b, ab, ba}) == 4
    assert len({half for key in (a, b, ab, ba) for half in key}) == 8


def test_three_in_a_row() -> None:
    found = ngrams(["x y z", "y z x y z"], (3,), "whitespace")
    assert found.row.tolist() == [0, 1, 1, 1]
    assert found.key[0] == found.key[3]
    assert len(set(found.key.tolist())) == 3


def test_a_word_with_one_rare_pair() -> None:
    """a, b, "a b" occur thrice, "b a" and "a a" once: with room for three n-grams, those two pairs are rare."""
    texts: list[str | None] = ["a b", "a b", "b a", "a a b", None, ""]
    found = answers(pool_of(texts, 2), NgramRarity(vocabulary=3))
    assert found == [(0, 3), (0, 3), (1, 1), (1, 1), (None, None), (None, None)]


def test_ties_at_the_end_of_the_vocabulary_stay_out() -> None:
    texts: list[str | None] = ["a", "a", "b", "c"]
    unigrams = {"orders": (1,)}
    assert answers(pool_of(texts), NgramRarity(vocabulary=1, **unigrams)) == [(0, 2), (0, 2), (1, 1), (1, 1)]
    assert answers(pool_of(texts), NgramRarity(vocabulary=2, **unigrams)) == [(0, 2), (0, 2), (1, 1), (1, 1)]
    assert answers(pool_of(texts), NgramRarity(vocabulary=3, **unigrams)) == [(0, 2), (0, 2), (0, 1), (0, 1)]


def test_the_footer_says_what_the_vocabulary_is() -> None:
    barrier = NgramRarity(vocabulary=2, orders=(1,))
    runner = PhaseRunner(pool_of(["a a a b b c"]))
    runner.run(barrier)
    last = next(p.name for p in reversed(barrier.phases(runner.shape)) if p.name.startswith("histogram"))
    assert runner.stats(barrier, last) == {"all": {"distinct": 3, "vocabulary": 2, "cutoff": 2}}


def test_case_and_words() -> None:
    texts: list[str | None] = ["Dog!", "dog", "a dog"]
    assert answers(pool_of(texts), WordCounts()) == [(1,), (2,), (1,)]
    assert answers(pool_of(texts), WordCounts(lower=True)) == [(3,), (3,), (1,)]
    assert answers(pool_of(texts), WordCounts(tokens="whitespace", lower=True)) == [(1,), (2,), (1,)]
    assert answers(pool_of(["!!", None]), WordCounts()) == [(None,), (None,)]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "Ab"]), max_size=6).map(" ".join)


@settings(max_examples=50, deadline=None)
@given(
    texts=st.lists(WORDS | st.none(), max_size=25),
    vocabulary=st.integers(1, 15),
    shards=st.integers(1, 7),
    size=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_cut_gives_the_rule(texts: list[str | None], vocabulary: int, shards: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", size)
        pool = pool_of(texts, shards, rng)
        assert answers(pool, NgramRarity(vocabulary=vocabulary), seed) == plain(texts, vocabulary)
        words = Counter(w for t in texts if t for w in t.split())
        least = [(min(words[w] for w in t.split()),) if t else (None,) for t in texts]
        assert answers(pool, WordCounts(), seed) == least


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.none(), max_size=6))
def test_any_text_has_an_answer(texts: list[str | None]) -> None:
    assert answers(pool_of(texts), NgramRarity(vocabulary=3)) == plain(texts, 3)


@pytest.mark.parametrize("orders", [(), (0,), (1, 1), (9,)])
def test_orders_that_make_no_sense(orders: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected different orders from 1 to 8"):
        NgramRarity(orders=orders)


def test_a_barrier_can_be_made_again_from_what_it_says_of_itself() -> None:
    for barrier in (NgramRarity(orders=(2, 1), lower=True, name="bi"), WordCounts(name="w")):
        made = type(barrier)(
            **{n: tuple(v) if isinstance(v, list) else v for n, v in barrier.identity()["parameters"].items()}
        )
        assert made == barrier
