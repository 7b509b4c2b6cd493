"""DSIR's weights against the method's own lines in plain Python; no cut of the pool shows."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.dsir import Dsir
from tests.phase_runner import PhaseRunner

SCHEMA = pa.schema([("uid", pa.binary(16)), ("text", pa.string())])
TARGET = ["A dog runs.", "two dogs play in the snow", "a man on a bike"]
POOL = ["a dog plays", "BUY cheap shoes!!", "shoes shoes shoes", "a dog runs in the snow.", None, "", "IMG_4894"]


def pool_of(texts: list[str | None], shards: int = 1, seed: int = 0) -> dict[int, pa.Table]:
    rng = np.random.default_rng(seed)
    rows = [{"uid": i.to_bytes(16, "big"), "text": t} for i, t in enumerate(texts)]
    home, order = rng.integers(0, shards, len(rows)), rng.permutation(len(rows))
    return {s: pa.Table.from_pylist([rows[i] for i in order if home[i] == s], SCHEMA) for s in range(shards)}


def weights(stage: Dsir, pool: dict[int, pa.Table], seed: int | None = None) -> list[float | None]:
    found = {}
    for shard, table in PhaseRunner(pool, seed).run(stage).items():
        found.update(zip(pool[shard].column("uid").to_pylist(), table.column(0).to_pylist(), strict=True))
    return [found[uid] for uid in sorted(found)]


def counts(text: str, buckets: int) -> np.ndarray:
    """As the paper has it: lower case, words and signs, single and in pairs, by sha256."""
    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    found = np.zeros(buckets)
    for gram in words + [f"{a} {b}" for a, b in pairwise(words)]:
        found[int(hashlib.sha256(gram.encode()).hexdigest(), 16) % buckets] += 1
    return found


def plain(texts: list[str | None], target: list[str], buckets: int) -> list[float | None]:
    bags = [sum(counts(t or "", buckets) for t in some) for some in (target, texts)]
    p_target, p_raw = (b / max(np.sum(b), 1) for b in bags)
    difference = np.log(p_target + 1e-8) - np.log(p_raw + 1e-8)
    found = [counts(t or "", buckets) for t in texts]
    return [float(f @ difference) if f.sum() else None for f in found]


@pytest.fixture
def target(tmp_path: Path) -> str:
    (tmp_path / "target.txt").write_text("\n".join(TARGET), encoding="utf-8")
    return str(tmp_path / "target.txt")


@pytest.mark.parametrize("buckets", [10_000, 7])
def test_weights_are_the_papers(target: str, buckets: int) -> None:
    found = weights(Dsir(target=target, buckets=buckets), pool_of(POOL, 3))
    expected = plain(POOL, TARGET, buckets)
    assert [f is None for f in found] == [e is None for e in expected] == [False] * 4 + [True, True, False]
    for f, e in zip(found, expected, strict=True):
        assert f is None or f == pytest.approx(e, abs=1e-4)
    if buckets == 10_000:
        assert found[0] > found[2]  # type: ignore[operator]


def test_a_target_like_the_pool_makes_every_weight_nought(tmp_path: Path) -> None:
    """Section 10.13: then sampling by weight is uniform."""
    texts = [t for t in POOL if t]
    (tmp_path / "same.txt").write_text("\n".join(texts * 2))
    assert set(weights(Dsir(target=str(tmp_path / "same.txt")), pool_of(POOL, 2))) == {0.0, None}


def test_targets_of_any_kind_are_the_same(target: str, tmp_path: Path) -> None:
    expected = weights(Dsir(target=target), pool_of(POOL))
    pq.write_table(pa.table({"caption": TARGET}), tmp_path / "flat.parquet")
    pq.write_table(pa.table({"captions": [TARGET[:2], None, TARGET[2:], []]}), tmp_path / "lists.parquet")
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in TARGET))
    for file, column in (("flat.parquet", "caption"), ("lists.parquet", "captions"), ("rows.jsonl", "text")):
        stage = Dsir(target=str(tmp_path / file), target_column=column)
        assert weights(stage, pool_of(POOL)) == expected


def test_a_large_target_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "many.txt").write_text("\n".join(TARGET * 5))
    whole = weights(Dsir(target=str(tmp_path / "many.txt")), pool_of(POOL))
    monkeypatch.setattr("stages.dsir.SOME", 4)
    assert weights(Dsir(target=str(tmp_path / "many.txt")), pool_of(POOL)) == whole


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.lists(st.sampled_from(["a", "dog", "shoes", "!"]), max_size=5).map(" ".join), max_size=20),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_cut_gives_the_same_bytes(target: str, texts: list[str | None], seed: int) -> None:
    stage = Dsir(target=target, buckets=50)
    whole = weights(stage, pool_of(texts))
    assert all(weights(stage, pool_of(texts, n, seed), seed) == whole for n in (3, 7))
    for f, e in zip(whole, plain(texts, TARGET, 50), strict=True):
        assert (f is None and e is None) or f == pytest.approx(e, abs=1e-3)


def test_the_footer_says_how_much_was_counted(target: str) -> None:
    stage, runner = Dsir(target=target), PhaseRunner(pool_of(POOL, 2))
    runner.run(stage)
    expected = {
        "target_ngrams": sum(counts(t, 10).sum() for t in TARGET),
        "pool_ngrams": sum(counts(t or "", 10).sum() for t in POOL),
    }
    assert runner.stats(stage, "ratios") == {"all": expected}


def test_the_target_is_a_file_that_the_fingerprint_covers(target: str) -> None:
    assert Dsir(target=target).files() == (target,)
    with pytest.raises(ValueError, match=r"dsir: target: no file /nowhere\.txt; give the path"):
        Dsir(target="/nowhere.txt").files()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\nno json', r"a\.jsonl:2 is no JSON"),
        ("a.jsonl", '{"text": 3}', r"a\.jsonl:1 is no object with a text as 'text'"),
        ("a.txt", "\n \n", r"a\.txt has no text to be alike to"),
    ],
)
def test_targets_that_are_none(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        weights(Dsir(target=str(tmp_path / name)), pool_of(POOL))


def test_columns_that_are_no_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["a"], "n": [1]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"has no column 'text' but caption, n; name one of them as `target_column`"):
        weights(Dsir(target=str(tmp_path / "t.parquet")), pool_of(POOL))
    with pytest.raises(ValueError, match=r"column 'n' of .* is int64; texts are strings"):
        weights(Dsir(target=str(tmp_path / "t.parquet"), target_column="n"), pool_of(POOL))


def test_a_barrier_can_be_made_again_from_what_it_says_of_itself(target: str) -> None:
    barrier = Dsir(target=target, orders=(2, 1))
    parameters = barrier.identity()["parameters"]
    assert Dsir(**{**parameters, "orders": tuple(parameters["orders"])}) == barrier
