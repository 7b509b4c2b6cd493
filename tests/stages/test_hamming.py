"""The join against brute force: exact and each pair once, for uniform, clustered and degenerate hashes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.hamming as hamming
from stages.hamming import Scheme, pairs_within, subset_pairs, value_pairs

Found = list[tuple[int, int, int]]


def brute(hashes: np.ndarray, distance: int) -> Found:
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    i, j = np.nonzero(np.triu(near <= distance, 1))
    return list(zip(i.tolist(), j.tolist(), near[i, j].tolist(), strict=True))


def joined(hashes: np.ndarray, distance: int) -> Found:
    i, j, d = pairs_within(hashes, distance)
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


@pytest.mark.parametrize(
    ("kind", "tile_ns"), [*((kind, 25.0) for kind in KINDS), ("clustered", 50.0), ("near_blank", 50.0)]
)
def test_long_runs_are_joined_on_what_is_left(kind: str, tile_ns: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny limits every branch is taken: short runs, long runs, joins within runs, tiles, chunks."""
    rng = np.random.default_rng(11)
    hashes = kinds(kind, 250, rng)
    expected = brute(hashes, 4)
    for name, value in [("SHORT_RUN", 3), ("LONG_RUN", 30), ("CHUNK", 50), ("TILE", 8), ("TILE_NS", tile_ns)]:
        monkeypatch.setattr(hamming, name, value)
    assert joined(hashes, 4) == expected


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
    with pytest.raises(ValueError, match=r"np\.unique"):
        pairs_within(np.array([3, 3], np.uint64), 2)
    with pytest.raises(ValueError, match="uint64"):
        pairs_within(np.array([1, 2]), 2)
