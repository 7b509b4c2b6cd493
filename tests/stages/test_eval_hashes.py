"""The nearest of other hashes within so many bits, against all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.eval_hashes as eval_hashes
from stages.eval_hashes import NONE, masks_within, nearest_hashes, radii


def by_all_pairs(queries: np.ndarray, words: np.ndarray, row: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    apart = np.bitwise_count(queries[:, None] ^ words[None]).sum(axis=2, dtype=np.int64)
    best = apart.min(axis=1, initial=10**6)
    first = np.where(apart == best[:, None], row[None], 10**9).min(axis=1, initial=10**9)
    return np.where(best <= most, best, NONE), np.where(best <= most, first, NONE)


def near_copies(rng: np.random.Generator, words: np.ndarray, count: int, most: int) -> np.ndarray:
    """Of some of the words with up to most + 3 bits turned, in few words or all over."""
    copies = words[rng.integers(0, len(words), count)].copy()
    bits = 64 * words.shape[1]
    for copy in copies:
        within = bits if rng.random() < 0.5 else 64
        for bit in rng.choice(within, min(within, rng.integers(0, most + 4)), replace=False):
            copy[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    return copies


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([(1, 0), (1, 2), (1, 8), (1, 12), (4, 0), (4, 31), (4, 48), (4, 64)]))
def test_every_near_hash_is_found(seed: int, how: tuple[int, int]) -> None:
    width, most = how
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**64, (rng.integers(1, 120), width), dtype=np.uint64)
    queries = np.vstack([near_copies(rng, words, 40, most), rng.integers(0, 2**64, (20, width), dtype=np.uint64)])
    row = rng.integers(0, 30, len(words))
    for asked in (queries, queries[:3]):  # either side may be the larger
        found, wanted = nearest_hashes(asked, words, row, most), by_all_pairs(asked, words, row, most)
        assert [f.tolist() for f in found] == [w.tolist() for w in wanted]


def test_neither_order_nor_blocks_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    words = rng.integers(0, 2**64, (500, 4), dtype=np.uint64)
    queries, row = near_copies(rng, words, 200, 48), np.arange(500) // 8
    wanted = nearest_hashes(queries, words, row, 48)
    order = rng.permutation(500)
    monkeypatch.setattr(eval_hashes, "AT_ONCE", 37)
    found = nearest_hashes(queries, words[order], row[order], 48)
    assert (wanted[0] != NONE).sum() > 150
    assert [f.tolist() for f in found] == [w.tolist() for w in wanted]


@pytest.mark.parametrize("bands", [4, 16])
def test_radii_leave_no_pair_out(bands: int) -> None:
    for most in range(0, 70):
        found = radii(bands, most)
        assert sum(r + 1 for r in found) == most + 1
        assert max(found) - min(found) <= 1
    assert len(masks_within(2)) == 1 + 16 + 120
    assert masks_within(0).tolist() == [0]


def test_nobody_and_nothing() -> None:
    none, some = np.zeros((0, 4), np.uint64), np.ones((2, 4), np.uint64)
    assert [a.tolist() for a in nearest_hashes(some, none, np.zeros(0, np.int64), 48)] == [[NONE, NONE]] * 2
    assert [a.tolist() for a in nearest_hashes(none, some, np.arange(2), 48)] == [[], []]
    with pytest.raises(ValueError, match="with one w"):
        nearest_hashes(some, some[:, :1], np.arange(2), 48)
