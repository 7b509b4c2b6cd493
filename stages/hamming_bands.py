"""Pairs of 256-bit hashes within a Hamming distance that have a band in common: each pair once.

    i, j, distance = band_pairs(words, 31)             # words: uint64 (n, 4), each hash once

A band is one of `bands` equal pieces of the hash. Hashes that differ in fewer bits than there are bands agree on one of
them, so for a distance below `bands` nothing is missed; beyond it, a pair is found where its differing bits leave a
band unspared. How many that is depends on the pictures and is measured, not promised: `band_chance` says what holds
where each bit differs as easily as any other.
A pair that several bands find is given by the first of them only. A run of m hashes with an equal band costs
m * m / 2 comparisons (0.2 ns each on the machine this was written on), and memory for its pairs only: set hashes of
flat pictures aside before.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

import numpy as np

from stages.hamming import CHUNK, NUMBER, OLD, sorted_by

BITS = 256

Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""i, j: int64 (pairs,), i < j; d: int16 (pairs,)."""


def pairs_of_band(words: np.ndarray, band: int, bands: int, distance: int, fresh: np.ndarray | None = None) -> Found:
    """Pairs within the distance of which `band` is the first on which they agree.

    Args:
        words: uint64 (n, 4), the words of n different hashes, the most significant first; any order.
        band, bands: which of how many; 4, 8, 16, ... 256 bands.
        distance: 0 to 256.
        fresh: bool (n,): give only pairs of which at least one is fresh; None: all are.

    Returns:
        i, j: int64 (pairs,), i < j, in no order that matters. d: int16 (pairs,).

    Raises:
        ValueError: words of another shape, or bands that do not divide a word.
    """
    found = list(chunks_of_band(words, band, bands, distance, fresh))
    none = np.empty(0, np.int64)
    i, j = (np.concatenate([none, *(chunk[side] for chunk in found)]) for side in (0, 1))
    return i, j, bits_apart(words, i, j)


def bits_apart(words: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """int16 (pairs,)"""
    return np.asarray(np.bitwise_count(words[i] ^ words[j]).sum(axis=1, dtype=np.int16))


def band_pairs(words: np.ndarray, distance: int, bands: int = 8, fresh: np.ndarray | None = None) -> Found:
    """`pairs_of_band` of all bands, ordered by (i, j)."""
    found = [pairs_of_band(words, band, bands, distance, fresh) for band in range(bands)]
    i, j, d = (np.concatenate(side) for side in zip(*found, strict=True))
    order = np.lexsort((j, i))
    return i[order], j[order], d[order]


def band_chance(distance: int, bands: int = 8) -> float:
    """The chance that two hashes which differ in so many bits, anywhere, agree on a band; 1 below `bands`."""
    width = BITS // bands
    ways = sum(
        (-1) ** (spared + 1) * comb(bands, spared) * comb(BITS - spared * width, distance)
        for spared in range(1, bands + 1)
    )
    return ways / comb(BITS, distance)


def chunks_of_band(
    words: np.ndarray, band: int, bands: int, distance: int, fresh: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """i and j of `pairs_of_band`, some at a time; those of hashes with one value of the band come one after another."""
    from stages.hamming_kernels import near_in_band

    width = _width(words, band, bands)
    if len(words) < 2:
        return
    labels = np.arange(len(words), dtype=np.uint32)
    if fresh is not None:  # fresh ones first; the sort keeps that within each run
        labels = np.concatenate([labels[fresh], labels[~fresh] | OLD])
    word, shift = band * width // 64, 64 - width - band * width % 64
    keys = np.ascontiguousarray(words[labels & NUMBER, word]) >> np.uint64(shift) & np.uint64((1 << width) - 1)
    keys, labels = sorted_by(keys, labels, 0, width)
    cuts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1], [True])))
    columns = np.ascontiguousarray(words[labels & NUMBER].T)
    a, b = (np.empty(max(CHUNK, int(np.diff(cuts).max())), np.uint32) for _ in range(2))
    at = 0
    while at < len(keys):
        at, found = near_in_band(columns, keys, labels, band, width, distance, at, a, b)
        i, j = (side[:found] & NUMBER for side in (a, b))
        yield np.minimum(i, j).astype(np.int64), np.maximum(i, j).astype(np.int64)


def _width(words: np.ndarray, band: int, bands: int) -> int:
    """Bits of a band."""
    if words.dtype != np.uint64 or words.ndim != 2 or words.shape[1] != 4:
        raise ValueError(f"words must be uint64 (n, 4), not {words.dtype} {words.shape}")
    if bands < 4 or BITS % bands or 64 % (BITS // bands) or not 0 <= band < bands:
        raise ValueError(f"band {band} of {bands}: there are 4, 8, 16, 32, 64, 128 or 256 bands, counted from 0")
    return BITS // bands
