"""Counts of keys against plain Python over the whole pool; no cut into shards, spans or buckets shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.shuffle as shuffle
from stages.base import Column
from stages.counting import Totals, all_once, once
from stages.hash_groups import HashGroups
from stages.key_counts import KeyCounts
from stages.keys import Key, domain
from tests.phase_runner import PhaseRunner

SCHEMA = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("url", pa.string()),
        ("text", pa.string()),
        ("sha256", pa.string()),
        ("phash64", pa.uint64()),
        ("cluster", pa.int32()),
        ("score", pa.float32()),
    ]
)
Row = dict[str, Any]


def rows_of(texts: list[str | None], images: list[str | None] | None = None) -> list[Row]:
    images = images or [f"{i:064x}" for i in range(len(texts))]
    return [
        {"uid": i.to_bytes(16, "big"), "text": t, "sha256": s}
        for i, (t, s) in enumerate(zip(texts, images, strict=True))
    ]


def pool_of(rows: list[Row], shards: int = 1, rng: np.random.Generator | None = None) -> dict[int, pa.Table]:
    """The rows in any order, cut anywhere into shards with gaps between their numbers; empty ones too."""
    rng = rng or np.random.default_rng(0)
    home = rng.integers(0, shards, len(rows))
    numbers = np.sort(rng.choice(50, shards, replace=False)).tolist()
    order = rng.permutation(len(rows))
    return {n: pa.Table.from_pylist([rows[i] for i in order if home[i] == s], SCHEMA) for s, n in enumerate(numbers)}


def counts(pool: dict[int, pa.Table], barrier: KeyCounts, seed: int | None = None) -> dict[int, int | None]:
    """uid -> count"""
    found = {}
    for shard, table in PhaseRunner(pool, seed).run(barrier).items():
        for uid, count in zip(pool[shard].column("uid").to_pylist(), table.column(0).to_pylist(), strict=True):
            found[int.from_bytes(uid, "big")] = count
    return found


def test_the_sample_itself_counts_and_what_has_no_key_has_no_count() -> None:
    rows = rows_of(["a dog", "a cat", "a dog", "", None, "A dog"])
    assert counts(pool_of(rows, 3), KeyCounts(by="text")) == {0: 2, 1: 1, 2: 2, 3: None, 4: None, 5: 1}


def test_text_as_coyo_counts_it() -> None:
    rows = rows_of(["a dog", " a  dog\n", "a\u00a0dog", "a\u3000dog", "adog", "   "])
    assert counts(pool_of(rows, 2), KeyCounts(by="text_clean")) == {0: 4, 1: 4, 2: 4, 3: 4, 4: 1, 5: None}
    assert set(counts(pool_of(rows, 2), KeyCounts(by="text")).values()) == {1}


def test_lower_case() -> None:
    assert counts(pool_of(rows_of(["Dog", "dog", "DOG ", "É", "é"])), KeyCounts(by="text_lower")) == {
        0: 2,
        1: 2,
        2: 1,
        3: 2,
        4: 2,
    }


def test_texts_of_a_picture_and_pictures_of_a_text() -> None:
    """ALIGN's two counts: copies of a pair are one, and a picture without a text has none."""
    rows = rows_of(["x", "y", "x", "x", None, "z", "z"], ["A", "A", "A", "B", "A", "C", None])
    per_image = KeyCounts(by="sha256", distinct="text")
    assert per_image.column == "sha256_texts"
    assert counts(pool_of(rows, 3), per_image) == {0: 2, 1: 2, 2: 2, 3: 1, 4: 2, 5: 1, 6: None}
    per_text = KeyCounts(by="text", distinct="sha256")
    assert per_text.column == "text_sha256s"
    assert counts(pool_of(rows, 3), per_text) == {0: 2, 1: 1, 2: 2, 3: 2, 4: None, 5: 1, 6: 1}


def test_a_key_that_goes_with_nothing_counts_zero() -> None:
    rows = rows_of([None, "x"], ["A", "B"])
    assert counts(pool_of(rows), KeyCounts(by="sha256", distinct="text")) == {0: 0, 1: 1}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://WWW.Example.com/a.jpg?b", "example.com"),
        ("http://img.example.com:8080/x", "img.example.com:8080"),
        ("http://ｅxample.com/x", "example.com"),
        ("//cdn.example.com/x", "cdn.example.com"),
        ("data:image/png;base64,AAAA", None),
        ("photo.jpg", None),
        ("http://[broken/x", None),
        ("", None),
    ],
)
def test_domains(url: str, expected: str | None) -> None:
    assert domain(url) == expected


def test_domains_are_counted() -> None:
    rows = [
        {**r, "url": u}
        for r, u in zip(rows_of(["a"] * 4), ["http://a.b/1", "http://www.A.b/2", "x", None], strict=True)
    ]
    assert counts(pool_of(rows, 2), KeyCounts(by="domain")) == {0: 2, 1: 2, 2: None, 3: None}
    assert KeyCounts(by="domain").reads() == (Column(None, "url"),)


@pytest.mark.parametrize(
    ("by", "values", "expected"),
    [
        ("phash64", [2**64 - 1, 0, 2**64 - 1, None], [2, 1, 2, None]),
        ("cluster", [-1, 3, 3, 3], [1, 3, 3, 3]),
        ("score", [0.0, -0.0, float("nan"), 0.5], [2, 2, None, 1]),
    ],
)
def test_numbers_are_keys(by: str, values: list[Any], expected: list[int | None]) -> None:
    rows = [{**r, by: v} for r, v in zip(rows_of(["a"] * 4), values, strict=True)]
    assert counts(pool_of(rows, 2), KeyCounts(by=by)) == dict(enumerate(expected))


def test_encoded_columns_are_what_they_encode() -> None:
    values = ["a", None, "b", "a"]
    plain, encoded = (pa.table({"v": column}) for column in (pa.array(values), pa.array(values).dictionary_encode()))
    for one, other in zip(Key.of("v").hashes(plain), Key.of("v").hashes(encoded), strict=True):
        assert (one == other).all()


def test_a_vector_is_no_key() -> None:
    table = pa.table({"v": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))})
    with pytest.raises(ValueError, match=r"v is fixed_size_list.*a key to count is a string, bytes"):
        Key.of("v").hashes(table)


def test_a_column_of_another_barrier() -> None:
    """How many samples a group of equal pictures has: a group is counted as any column is."""
    rows = rows_of(["a", "b", "c"], ["aa" * 32, "aa" * 32, "bb" * 32])
    groups = Column(HashGroups(by="sha256"), "sha256_group")
    barrier = KeyCounts(by=groups, distinct="text")
    assert barrier.column == "sha256_group_texts"
    assert barrier.reads() == (groups, Column(None, "text"))
    assert counts(pool_of(rows, 2), barrier) == {0: 2, 1: 2, 2: None}


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.sampled_from(["a", "b", "a ", "", None, "c"]), max_size=30),
    images=st.integers(1, 6),
    shards=st.integers(1, 5),
    size=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_cut_gives_the_counts(texts: list[str | None], images: int, shards: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rows_of(texts, [f"i{int(n)}" for n in rng.integers(0, images, len(texts))])
    single = Counter(t for t in texts if t)
    several: dict[str, set[str]] = defaultdict(set)
    for r in rows:
        if r["text"]:
            several[r["sha256"]].add(r["text"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", size)
        pool = pool_of(rows, shards, rng)
        found = counts(pool, KeyCounts(by="text"), seed)
        assert found == {i: single[t] if t else None for i, t in enumerate(texts)}
        of_images = counts(pool, KeyCounts(by="sha256", distinct="text"), seed)
        assert of_images == {i: len(several[r["sha256"]]) for i, r in enumerate(rows)}


KEYS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(keys=KEYS, asked=KEYS, cut=st.integers(0, 30))
def test_keys_that_agree_in_one_half_are_two(
    keys: list[tuple[int, int]], asked: list[tuple[int, int]], cut: int
) -> None:
    def rows(some: list[tuple[int, int]]) -> dict[str, np.ndarray]:
        halves = np.array(some, np.uint64).reshape(-1, 2)
        return {"key": halves[:, 0], "check": halves[:, 1], "count": np.ones(len(some), np.int64)}

    truth = Counter(keys)
    whole = once(rows(keys))
    assert list(zip(whole["key"].tolist(), whole["check"].tolist(), whole["count"].tolist(), strict=True)) == sorted(
        (*k, n) for k, n in truth.items()
    )
    in_parts = all_once([rows(keys[:cut]), rows(keys[cut:])])
    assert all((in_parts[n] == whole[n]).all() for n in whole)
    wanted = rows(asked)
    assert Totals(whole).of(wanted["key"], wanted["check"]).tolist() == [truth[a] for a in asked]


def test_a_text_that_all_share_is_one_row_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """However common a key is, a bucket gets it once from each span: that is what keeps it small."""
    monkeypatch.setattr(shuffle, "ROWS", 1000)
    pool = {s: pa.Table.from_pylist(rows_of(["same"] * 500), SCHEMA) for s in range(8)}
    barrier = KeyCounts(by="text")
    runner = PhaseRunner(pool)
    answer = runner.run(barrier)
    assert set(answer[3].column("text_count").to_pylist()) == {4000}
    assert [s["keys"] for s in runner.stats(barrier, "keys").values()] == [1, 1, 1, 1]
    assert max(s["largest"] for s in runner.stats(barrier, "totals").values()) == 4000


def test_names() -> None:
    assert KeyCounts(by="text_clean").writes().names == ["text_clean_count"]
    assert KeyCounts(by="text", name="copies_of_text").writes() == pa.schema([("copies_of_text", pa.int64())])
    with pytest.raises(ValueError, match="should match pattern"):
        KeyCounts(by="text", name="No Name")


def test_a_barrier_can_be_made_again_from_what_it_says_of_itself() -> None:
    for barrier in (KeyCounts(by="url"), KeyCounts(by="sha256", distinct="text_clean", name="n")):
        assert KeyCounts(**barrier.identity()["parameters"]) == barrier
