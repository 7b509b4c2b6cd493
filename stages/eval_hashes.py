"""For each of many hashes the nearest of some others within so many bits: exact, in time far below their product.

    distance, row = nearest_hashes(queries, words, row, most=48)     # int64 (n,) twice; -1 where none is near

Hashes are cut into bands of 16 bits. If two differ in `most` bits at all, then in some band by no more than its share:
radii r that sum to sum(r + 1) > most are enough, by the pigeonhole principle (multi-index hashing, Norouzi, Punjani and
Fleet 2012). Both sides are sorted by one band after another, and only values within the band's radius meet. For 48 of
256 bits these are 4 % of all pairs, for 8 of 64 bits 0.3 %; no pair is missed.
"""

from __future__ import annotations

import numpy as np

BAND = 16
NONE = -1
FAR = 1 << 20
AT_ONCE = 1 << 21  # hashes looked for at a time: some 130 MB of 256 bits, sorted


def nearest_hashes(queries: np.ndarray, words: np.ndarray, row: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(bits to the nearest, its row), int64 (n,) twice, NONE where no hash lies within `most` bits.

    Args:
        queries, words: uint64 (n, w) and (m, w), big-endian words of hashes of 64 w bits.
        row: int64 (m,): what each of `words` is of; of equally near ones the smallest wins.
        most: bits, at least 0.
    """
    if queries.ndim != 2 or words.ndim != 2 or queries.shape[1] != words.shape[1]:
        raise ValueError(f"hashes must be (n, w) and (m, w) with one w, not {queries.shape} and {words.shape}")
    distance, found = np.full(len(queries), FAR), np.full(len(queries), FAR << 40)
    if len(queries):
        for start in range(0, len(words), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            _search(queries, words[some], row[some].astype(np.int64), most, distance, found)
    near = distance <= most
    return np.where(near, distance, NONE), np.where(near, found, NONE)


def _search(
    queries: np.ndarray, words: np.ndarray, row: np.ndarray, most: int, distance: np.ndarray, found: np.ndarray
) -> None:
    """Improve `distance` and `found` by these hashes, band by band."""
    from stages.eval_kernels import nearest_in_band

    swapped = len(words) < len(queries)  # the smaller side goes from value to value: each asks the other side's masks
    ours, theirs = (queries, np.arange(len(queries))), (words, row)
    outer, inner = (theirs, ours) if swapped else (ours, theirs)
    for band, radius in enumerate(radii(queries.shape[1] * 64 // BAND, most)):
        if radius >= 0:
            a, b = _sorted(outer, band), _sorted(inner, band)
            nearest_in_band(*a, *b, masks_within(radius), most, distance, found, swapped)


def _sorted(side: tuple[np.ndarray, np.ndarray], band: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hashes, where each value of the band begins, rows) of (hashes, rows), by their value in the band."""
    words, row = side
    word, place = divmod(band, 64 // BAND)
    value = ((words[:, word] >> np.uint64(64 - BAND * (place + 1))) & np.uint64(0xFFFF)).astype(np.uint16)
    order = np.argsort(value, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(value, minlength=1 << BAND)))
    return np.ascontiguousarray(words[order]), starts, row[order]


def radii(bands: int, most: int) -> list[int]:
    """Of each band the bits by which values may differ to meet: as even as can be, sum(r + 1) = most + 1."""
    each, more = divmod(most + 1, bands)
    return [each - (band >= more) for band in range(bands)]


def masks_within(radius: int) -> np.ndarray:
    """int64: all values of a band with so many bits set or fewer."""
    every = np.arange(1 << BAND)
    return every[np.bitwise_count(every) <= radius]
