"""Pairs by bands against brute force: those that agree on a band, each once; below `bands` bits that is all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.hamming_bands as hamming_bands
from stages.hamming_bands import band_chance, band_pairs, pairs_of_band

Found = list[tuple[int, int, int]]


def hashes(n: int, flips: float, rng: np.random.Generator) -> np.ndarray:
    """Different hashes, n or fewer, in clusters of about eight; a member differs in so many bits from the centre."""
    centres = rng.integers(0, 2**64, (n // 8 + 1, 4), dtype=np.uint64)
    turned = np.packbits(rng.random((n, 256)) < flips / 256, axis=1).reshape(n, 32).view(">u8").astype(np.uint64)
    return rng.permutation(np.unique(centres[rng.integers(0, len(centres), n)] ^ turned, axis=0))


def brute(words: np.ndarray, distance: int, bands: int, fresh: np.ndarray) -> Found:
    n = len(words)
    differing = words[:, None] ^ words[None, :]
    near = np.bitwise_count(differing).sum(axis=-1)
    by_bit = np.unpackbits(differing.astype(">u8").view(np.uint8).reshape(n, n, 32), axis=2)
    agree = ~by_bit.reshape(n, n, bands, 256 // bands).any(axis=-1)
    wanted = (near <= distance) & agree.any(axis=-1) & (fresh[:, None] | fresh[None, :])
    i, j = np.nonzero(np.triu(wanted, 1))
    return list(zip(i.tolist(), j.tolist(), near[i, j].tolist(), strict=True))


def triples(found: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Found:
    return list(zip(*(side.tolist() for side in found), strict=True))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 120),
    flips=st.sampled_from([0.5, 3.0, 12.0]),
    distance=st.integers(0, 64),
    bands=st.sampled_from([4, 8, 16, 32]),
    seed=st.integers(0, 2**32 - 1),
)
def test_pairs_that_agree_on_a_band(n: int, flips: float, distance: int, bands: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = hashes(n, flips, rng)
    everyone, some = np.ones(len(words), bool), rng.random(len(words)) < 0.3
    assert triples(band_pairs(words, distance, bands)) == brute(words, distance, bands, everyone)
    assert triples(band_pairs(words, distance, bands, some)) == brute(words, distance, bands, some)


@pytest.mark.parametrize(("bands", "distance"), [(8, 7), (16, 15), (32, 31)])
def test_below_the_number_of_bands_nothing_is_missed(bands: int, distance: int) -> None:
    words = hashes(400, 6.0, np.random.default_rng(0))
    found = brute(words, distance, 256 if distance > 255 else bands, np.ones(len(words), bool))
    near = np.bitwise_count(words[:, None] ^ words[None, :]).sum(axis=-1)
    assert len(found) == np.triu(near <= distance, 1).sum() > 100
    assert triples(band_pairs(words, distance, bands)) == found


def test_each_pair_comes_from_the_first_band_only() -> None:
    words = hashes(200, 4.0, np.random.default_rng(1))
    found = [p for band in range(8) for p in triples(pairs_of_band(words, band, 8, 31))]
    assert len(found) == len(set(found)) > 100
    assert sorted(found) == triples(band_pairs(words, 31))


def test_small_chunks_of_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 hashes that agree on the first band: one run, many chunks."""
    words = hashes(300, 8.0, np.random.default_rng(2))
    words[:, 0] = 7
    words = np.unique(words, axis=0)
    whole = triples(band_pairs(words, 48))
    monkeypatch.setattr(hamming_bands, "CHUNK", 1)
    assert triples(band_pairs(words, 48)) == whole == brute(words, 48, 8, np.ones(len(words), bool))


@pytest.mark.parametrize("distance", [5, 8, 16, 40])
def test_the_chance_is_what_random_flips_show(distance: int) -> None:
    """3,000 pairs that differ in bits drawn evenly; the tolerance is four standard deviations."""
    rng = np.random.default_rng(distance)
    bits = np.argsort(rng.random((3000, 256)), axis=1)[:, :distance]
    touched = np.zeros((3000, 8), bool)
    touched[np.arange(3000)[:, None], bits // 32] = True
    chance = band_chance(distance)
    assert abs((~touched.all(axis=1)).mean() - chance) <= 4 * (chance * (1 - chance) / 3000) ** 0.5
    assert band_chance(7) == 1


def test_words_and_bands_are_checked() -> None:
    with pytest.raises(ValueError, match="uint64"):
        pairs_of_band(np.zeros((3, 2), np.uint64), 0, 8, 4)
    with pytest.raises(ValueError, match="band 0 of 12"):
        pairs_of_band(np.zeros((3, 4), np.uint64), 0, 12, 4)
    with pytest.raises(ValueError, match="band 8 of 8"):
        pairs_of_band(np.zeros((3, 4), np.uint64), 8, 8, 4)


@pytest.mark.parametrize("n", [0, 1])
def test_few_hashes(n: int) -> None:
    assert triples(band_pairs(np.zeros((n, 4), np.uint64), 31)) == []
