"""All pairs of 64-bit hashes within a Hamming distance, exactly, each pair once.

    i, j, distance = pairs_within(distinct(hashes), 4)

Block combinations: cut the bits into distance + k blocks. Two hashes within the distance agree on at least k
blocks, so for each choice of k blocks it is enough to bring together those that are equal there and to compare within
such runs. A pair that several choices find is given by the first of them only; nothing has to be made distinct
afterwards. k, or comparing all with all, is chosen by an estimate from a sample of the hashes at hand, because real
hashes collide far more than uniform bits do; a run that is still long is joined by the same method on the bits that
are left. With `fresh` flags, pairs of two old hashes are not looked for: what a pool that grows needs.
Idea: Manku, Jain, Das Sarma, "Detecting near-duplicates for web crawling" (WWW 2007), with all combinations.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stages.hamming_schemes import Scheme, choose_scheme, uniform_scheme

__all__ = [
    "Pairs",
    "Scheme",
    "check_unique",
    "distinct",
    "pairs_within",
    "subset_numbers",
    "subset_pairs",
    "uniform_scheme",
    "value_pairs",
]

Pairs = Iterator[tuple[np.ndarray, np.ndarray]]
"""Values (a, b), uint64, a != b, in chunks; each unordered pair once over all chunks."""

LONG_RUN = 8192  # from here a run is worth a join of its own
CHUNK = 1 << 18  # pairs that are given at a time, at least
DIGIT = 13  # bits of one pass of the radix sort: its counters fit the cache nearest to the processor

# A label is the number of a value, with the top bit set where it is not fresh.
OLD, NUMBER = np.uint32(1 << 31), np.uint32((1 << 31) - 1)


def pairs_within(
    hashes: np.ndarray, distance: int, fresh: np.ndarray | None = None, threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs i < j with popcount(hashes[i] ^ hashes[j]) <= distance.

    Args:
        hashes: uint64 (n,), ascending, each once; fewer than 2**31.
        distance: 0 to 63. Hashes cut at their median differ in an even number of bits, ties apart.
        fresh: bool (n,): give only pairs of which at least one is fresh; None: all are.
        threads: that work at a time, each with its own copies of the hashes; the answer is the same.

    Returns:
        i, j: int64 (pairs,), ordered by (i, j). d: uint8 (pairs,).

    Raises:
        ValueError: the hashes are not uint64, or not strictly ascending, or too many.
    """
    from stages.hamming_kernels import unpacked

    check_unique(hashes)
    codes = np.concatenate([np.empty(0, np.uint64), *_codes(hashes, distance, 64, fresh, threads)])
    codes.sort()
    j, d = np.empty(len(codes), np.int64), np.empty(len(codes), np.uint8)
    unpacked(codes, hashes, j, d)
    return codes.view(np.int64), j, d


def distinct(hashes: np.ndarray) -> np.ndarray:
    """The hashes ascending, each once.

    As np.unique, which takes a hundred times as long for a million of them (numpy 2.4: it hashes before it sorts).
    """
    found = np.sort(hashes)
    return found[np.concatenate(([True], found[1:] != found[:-1]))] if len(found) else found


def check_unique(hashes: np.ndarray) -> None:
    if hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise ValueError(f"hashes must be uint64 (n,), not {hashes.dtype} {hashes.shape}")
    if len(hashes) > NUMBER:
        raise ValueError(f"{len(hashes):,} hashes at once: at most {NUMBER:,}; cut them by `Scheme` and `subset_pairs`")
    if np.any(hashes[1:] <= hashes[:-1]):
        raise ValueError("hashes must be ascending, each once: collapse equal ones with `distinct` first")


def value_pairs(
    values: np.ndarray, distance: int, bits: int = 64, fresh: np.ndarray | None = None, threads: int = 1
) -> Pairs:
    """The pairs as values, for those who need no indices; arguments as in `pairs_within`, values below 2**bits."""
    for codes in _codes(values, distance, bits, fresh, threads):
        i, j = _numbers(codes)
        yield values[i], values[j]


def subset_pairs(
    scheme: Scheme, subset: tuple[int, ...], arranged: np.ndarray, fresh: np.ndarray | None = None
) -> Pairs:
    """Pairs of which this subset is the first they agree on.

    `arranged`: sorted `scheme.arrange(values, subset)`; any part of it that splits no run will do. `fresh`: bool, of
    each of them, as in `pairs_within`.
    """
    for i, j in subset_numbers(scheme, subset, arranged, fresh):
        yield scheme.restore(arranged[i], subset), scheme.restore(arranged[j], subset)


def subset_numbers(
    scheme: Scheme, subset: tuple[int, ...], arranged: np.ndarray, fresh: np.ndarray | None = None
) -> Pairs:
    """`subset_pairs` as numbers in `arranged`; the pairs of a run come one after another."""
    from stages.hamming_kernels import fresh_first

    runs = _Runs(scheme, subset, arranged=True)
    values, labels = arranged, np.arange(len(arranged), dtype=np.uint32)
    if fresh is not None:
        values = np.empty_like(arranged)
        fresh_first(arranged, fresh, runs.key, values, labels)
    for codes in runs.pairs(values, labels):
        yield _numbers(codes)


# ---------------------------------------------------------------- the join, in numbers of values

Codes = Iterator[np.ndarray]
"""uint64 in chunks: pairs as i * 2^32 + j, i < j."""


def _numbers(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return codes >> np.uint64(32), codes & np.uint64(NUMBER)


def _codes(values: np.ndarray, distance: int, bits: int, fresh: np.ndarray | None, threads: int) -> Codes:
    if len(values) < 2 or distance == 0:
        return
    labels = np.arange(len(values), dtype=np.uint32)
    if fresh is not None:
        order = np.concatenate([np.flatnonzero(fresh), np.flatnonzero(~fresh)])
        values, labels = values[order], (labels | np.where(fresh, np.uint32(0), OLD))[order]
    scheme = _scheme(values, labels, distance, bits)
    if scheme is None:
        yield from _Runs(Scheme(bits, distance, 0), ()).pairs(values, labels, longest=len(values))
    else:
        yield from _join(values, labels, scheme, threads)


def _scheme(values: np.ndarray, labels: np.ndarray, distance: int, bits: int) -> Scheme | None:
    return choose_scheme(values, distance, bits, np.count_nonzero(labels < OLD) / len(values))


def _join(values: np.ndarray, labels: np.ndarray, scheme: Scheme, threads: int = 1) -> Codes:
    """Pairs by the numbers in the labels; the fresh values come before the others."""

    def ending_in(block: int) -> Codes:
        first = sorted_by(values, labels, *scheme.blocks[block])
        for subset, grouped, names in _grouped(scheme, *first, (block,)):
            yield from _Runs(scheme, subset).pairs(grouped, names)

    # By the last block of a subset: the later it is, the more subsets end in it, so the longest work comes first.
    blocks = range(scheme.distance + scheme.k - 1, scheme.k - 2, -1)
    if threads == 1:
        for block in blocks:
            yield from ending_in(block)
        return
    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(lambda block: list(ending_in(block)), blocks):
            yield from found


def _grouped(
    scheme: Scheme, values: np.ndarray, labels: np.ndarray, chosen: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], np.ndarray, np.ndarray]]:
    """Each subset that ends in the blocks `chosen`, by which values are sorted: they, sorted by all of it."""
    missing = scheme.k - len(chosen)
    if missing == 0:
        yield chosen, values, labels
        return
    for block in range(missing - 1, chosen[0]):
        more = sorted_by(values, labels, *scheme.blocks[block])
        yield from _grouped(scheme, *more, (block, *chosen))


def sorted_by(values: np.ndarray, labels: np.ndarray, shift: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and labels sorted by `width` bits above the lowest `shift`; who is equal there keeps its order."""
    from stages.hamming_kernels import scatter

    passes = -(-width // DIGIT)
    for i in range(passes):
        low, high = i * width // passes, (i + 1) * width // passes
        into = np.empty_like(values), np.empty_like(labels)
        scatter(values, labels, shift + low, (1 << (high - low)) - 1, *into)
        values, labels = into
    return values, labels


@dataclass(frozen=True)
class _Runs:
    """Runs of values that are equal on a subset's blocks; `arranged`: those blocks lie on top."""

    scheme: Scheme
    subset: tuple[int, ...]
    arranged: bool = False

    @cached_property
    def key(self) -> np.uint64:
        """The bits that are equal in a run."""
        masks = self.scheme.masks(list(self.subset))
        return np.bitwise_or.reduce(self._as_given(masks), initial=np.uint64(0))

    @cached_property
    def earlier(self) -> np.ndarray:
        return self._as_given(self.scheme.earlier(self.subset)) if self.subset else np.empty(0, np.uint64)

    def _as_given(self, values: np.ndarray) -> np.ndarray:
        return self.scheme.arrange(values, self.subset) if self.arranged else values

    def pairs(self, values: np.ndarray, labels: np.ndarray, longest: int | None = None) -> Codes:
        """Pairs near each other in a run, of which this subset is the first."""
        from stages.hamming_kernels import ROOM, near_in_runs

        longest = LONG_RUN if longest is None else longest
        room = max(int(ROOM), longest + 1)
        scratch, codes = (np.empty(room, np.uint32), np.empty(room, np.uint32)), np.empty(max(CHUNK, room), np.uint64)
        at, long, key, earlier, distance = 0, 0, self.key, self.earlier, self.scheme.distance
        while at < len(values):
            at, found, over = near_in_runs(values, labels, key, earlier, distance, longest, at, *scratch, codes)
            long += over
            if found:
                yield codes[:found].copy()
        if long:
            yield from self._long_runs(values, labels, longest)

    def _long_runs(self, values: np.ndarray, labels: np.ndarray, longest: int) -> Codes:
        """The same of runs that are worth a join of their own, on the bits that are left."""
        from stages.hamming_kernels import long_runs

        cuts = np.empty((len(values) // longest + 1, 2), np.int64)
        rest = self.scheme.rest(self.subset)
        low = np.uint64((1 << rest) - 1)
        for start, end in cuts[: long_runs(values, self.key, longest, cuts.reshape(-1))].tolist():
            members, names = values[start:end], labels[start:end]
            left = (members if self.arranged else self.scheme.arrange(members, self.subset)) & low
            scheme = _scheme(left, names, self.scheme.distance, rest)
            if scheme is None:
                yield from self.pairs(members, names, longest=len(members))
                continue
            places = np.arange(len(members), dtype=np.uint32) | (names & OLD)
            names = (names & NUMBER).astype(np.uint64)
            for codes in _join(left, places, scheme):
                i, j = _numbers(codes)
                differing, first = members[i] ^ members[j], np.ones(len(codes), bool)
                for mask in self.earlier:
                    first &= differing & mask != 0
                a, b = names[i[first]], names[j[first]]
                yield np.minimum(a, b) << np.uint64(32) | np.maximum(a, b)
