"""The join against brute force: exact and each pair once, for uniform, clustered and degenerate hashes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.hamming as hamming
from stages.hamming import Scheme, distinct, pairs_within, subset_pairs, uniform_scheme, value_pairs

Found = list[tuple[int, int, int]]


def brute(hashes: np.ndarray, distance: int) -> Found:
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    i, j = np.nonzero(np.triu(near <= distance, 1))
    return list(zip(i.tolist(), j.tolist(), near[i, j].tolist(), strict=True))


def joined(hashes: np.ndarray, distance: int, fresh: np.ndarray | None = None) -> Found:
    i, j, d = pairs_within(hashes, distance, fresh)
    return list(zip(i.tolist(), j.tolist(), d.tolist(), strict=True))


def flipped(centre: int, n: int, flips: float, rng: np.random.Generator) -> np.ndarray:
    """n copies of a hash, in each about `flips` bits turned."""
    turned = rng.random((n, 64)) < flips / 64
    return np.uint64(centre) ^ (turned.astype(np.uint64) << np.arange(64, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)


def kinds(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    match kind:
        case "uniform":
            found = rng.integers(0, 2**64, n, dtype=np.uint64)
        case "clustered":
            found = np.concatenate([flipped(int(c), n // 4 + 1, 3, rng) for c in rng.integers(0, 2**63, 4)])
        case "near_blank":
            found = np.concatenate([flipped(1 << 63, n, 4, rng), rng.integers(0, 2**64, n, dtype=np.uint64)])
        case "low_bits":
            found = rng.integers(0, 4 * n + 1, n, dtype=np.uint64)
        case "high_bits":
            found = rng.integers(0, 4 * n + 1, n, dtype=np.uint64) << np.uint64(48)
        case _:
            found = np.concatenate([np.uint64(1) << np.arange(64, dtype=np.uint64), np.zeros(1, np.uint64)])
    return np.unique(found)


KINDS = ("uniform", "clustered", "near_blank", "low_bits", "high_bits", "one_bit")


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(KINDS), n=st.integers(0, 300), distance=st.integers(0, 8), seed=st.integers(0, 2**32 - 1))
def test_join_is_brute_force(kind: str, n: int, distance: int, seed: int) -> None:
    hashes = kinds(kind, n, np.random.default_rng(seed))
    assert joined(hashes, distance) == brute(hashes, distance)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(2, 200),
    distance=st.integers(1, 6),
    k=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_scheme_finds_each_pair_once(kind: str, n: int, distance: int, k: int, seed: int) -> None:
    hashes = kinds(kind, n, np.random.default_rng(seed))
    scheme = Scheme(64, distance, k)
    found = []
    for subset in scheme.subsets:
        for a, b in subset_pairs(scheme, subset, np.sort(scheme.arrange(hashes, subset))):
            found += [(min(p), max(p)) for p in zip(a.tolist(), b.tolist(), strict=True)]
    assert len(found) == len(set(found))
    assert sorted(found) == [(int(hashes[i]), int(hashes[j])) for i, j, _ in brute(hashes, distance)]


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("distance", range(9))
def test_few_hashes(n: int, distance: int) -> None:
    hashes = np.array([5, 6][:n], np.uint64)
    assert joined(hashes, distance) == ([(0, 1, 2)] if n == 2 and distance >= 2 else [])


def always(k: int) -> Callable[..., Scheme | None]:
    """Instead of `choose_scheme`: this k for joins and joins within them; deeper, or with k = 0, all with all."""
    return lambda values, distance, bits, fresh=1.0: Scheme(bits, distance, k) if k and bits > 40 else None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [0, 1, 2, 3])
@pytest.mark.parametrize("longest", [3, 20])
def test_long_runs_are_joined_on_what_is_left(kind: str, k: int, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny limits every branch is taken: runs of all lengths, joins within joins, many chunks."""
    hashes = kinds(kind, 250, np.random.default_rng(11))
    fresh = np.random.default_rng(12).random(len(hashes)) < 0.3
    expected = brute(hashes, 4)
    for name, value in [("LONG_RUN", longest), ("CHUNK", 50), ("DIGIT", 5), ("choose_scheme", always(k))]:
        monkeypatch.setattr(hamming, name, value)
    assert joined(hashes, 4) == expected
    assert joined(hashes, 4, fresh) == [(i, j, d) for i, j, d in expected if fresh[i] or fresh[j]]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(0, 300),
    distance=st.integers(0, 6),
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_only_pairs_with_a_fresh_one(kind: str, n: int, distance: int, share: float, seed: int) -> None:
    """A pool of old and new: pairs of the old, and those with a new one, are together all pairs, each once."""
    rng = np.random.default_rng(seed)
    hashes = kinds(kind, n, rng)
    fresh = rng.random(len(hashes)) < share
    news = joined(hashes, distance, fresh)
    assert news == [(i, j, d) for i, j, d in brute(hashes, distance) if fresh[i] or fresh[j]]
    old = np.flatnonzero(~fresh)
    olds = [(old[i], old[j], d) for i, j, d in joined(hashes[old], distance)]
    assert sorted(news + olds) == brute(hashes, distance)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), n=st.integers(2, 200), k=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_fresh_pairs_of_each_subset(kind: str, n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    hashes, scheme = kinds(kind, n, rng), Scheme(64, 3, k)
    fresh = rng.random(len(hashes)) < 0.3
    found = []
    for subset in scheme.subsets:
        arranged = scheme.arrange(hashes, subset)
        order = np.argsort(arranged)
        for a, b in subset_pairs(scheme, subset, arranged[order], fresh[order]):
            found += [(min(p), max(p)) for p in zip(a.tolist(), b.tolist(), strict=True)]
    expected = [(int(hashes[i]), int(hashes[j])) for i, j, _ in brute(hashes, 3) if fresh[i] or fresh[j]]
    assert sorted(found) == expected


@pytest.mark.parametrize(("distance", "n"), [(2, 20_000), (4, 20_000), (8, 2_000)])
def test_threads_change_nothing(distance: int, n: int) -> None:
    hashes = kinds("clustered", n, np.random.default_rng(distance))
    alone, together = (pairs_within(hashes, distance, threads=threads) for threads in (1, 3))
    assert len(alone[0]) > 1000
    assert all(np.array_equal(x, y) for x, y in zip(alone, together, strict=True))


@pytest.mark.parametrize("n", [0, 1, 2, 500])
def test_distinct_is_unique(n: int) -> None:
    given = np.random.default_rng(n).integers(0, 100, n, dtype=np.uint64)
    assert np.array_equal(distinct(given), np.unique(given))


def test_read_only_hashes() -> None:
    """As they come out of Arrow tables."""
    hashes = np.unique(kinds("clustered", 500, np.random.default_rng(5)))
    hashes.setflags(write=False)
    assert joined(hashes, 4) == brute(hashes, 4)


@pytest.mark.parametrize("bits", [9, 20, 63, 64])
def test_fewer_bits(bits: int) -> None:
    rng = np.random.default_rng(bits)
    values = np.unique(rng.integers(0, 2**bits, 400, dtype=np.uint64, endpoint=False))
    found = {
        (min(p), max(p)) for a, b in value_pairs(values, 3, bits) for p in zip(a.tolist(), b.tolist(), strict=True)
    }
    assert found == {(int(values[i]), int(values[j])) for i, j, _ in brute(values, 3)}


@pytest.mark.parametrize(("distance", "k"), [(4, 2), (3, 1), (8, 3)])
def test_arranging_keeps_every_bit_and_can_be_undone(distance: int, k: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 50, dtype=np.uint64)
    scheme = Scheme(64, distance, k)
    assert sum(width for _, width in scheme.blocks) == 64
    assert scheme.subsets == list(combinations(range(distance + k), k))
    for subset in scheme.subsets:
        arranged = scheme.arrange(values, subset)
        assert np.array_equal(np.bitwise_count(arranged), np.bitwise_count(values))
        assert np.array_equal(scheme.restore(arranged, subset), values)


def test_a_hundred_thousand_hashes_with_planted_pairs() -> None:
    """Every planted pair is found, and nothing beyond the distance is; the sample-based estimate is at work."""
    rng = np.random.default_rng(3)
    base = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
    bits = np.argsort(rng.random((20_000, 64)), axis=1)[:, :4].astype(np.uint64)
    near = base[:20_000] ^ (np.uint64(1) << bits).sum(axis=1, dtype=np.uint64)
    hashes = np.unique(np.concatenate([base, near]))
    i, j, d = pairs_within(hashes, 4)
    found = set(zip(hashes[i].tolist(), hashes[j].tolist(), strict=True))
    planted = set(zip(np.minimum(base[:20_000], near).tolist(), np.maximum(base[:20_000], near).tolist(), strict=True))
    assert planted <= found
    assert len(found) == len(i) < 21_000
    assert np.array_equal(np.bitwise_count(hashes[i] ^ hashes[j]), d)
    assert d.max() == 4


def test_hashes_must_be_unique_and_ascending() -> None:
    with pytest.raises(ValueError, match="distinct"):
        pairs_within(np.array([3, 3], np.uint64), 2)
    with pytest.raises(ValueError, match="uint64"):
        pairs_within(np.array([1, 2]), 2)


@pytest.mark.parametrize(("n", "distance", "k"), [(10**6, 4, 1), (10**9, 4, 2), (10**10, 4, 3), (10**9, 2, 2)])
def test_schemes_for_hashes_unseen(n: int, distance: int, k: int) -> None:
    """More hashes, more blocks."""
    assert uniform_scheme(n, distance) == Scheme(64, distance, k)
