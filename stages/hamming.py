"""All pairs of 64-bit hashes within a Hamming distance, exactly, each pair once.

    i, j, distance = pairs_within(np.unique(hashes), 4)

Block combinations: cut the bits into distance + k blocks. Two hashes within the distance agree on at least k
blocks, so for each choice of k blocks it is enough to sort by them and to compare within runs of equal value. A pair
that several choices find is given by the first of them only; nothing has to be made distinct afterwards. Hashes
carry no ids: the arranged value is the hash, and is turned back. k, or comparing all with all, is chosen by an
estimate from a sample of the hashes at hand, because real hashes collide far more than uniform bits do; a run that is
still long is joined by the same method on the bits that are left.
Idea: Manku, Jain, Das Sarma, "Detecting near-duplicates for web crawling" (WWW 2007), with all combinations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from math import comb

import numpy as np

from stages.draws import hash64_halves

Pairs = Iterator[tuple[np.ndarray, np.ndarray]]
"""Values (a, b), uint64, a != b, in chunks; each unordered pair once over all chunks."""

SHORT_RUN = 96  # up to here runs are compared together, one offset at a time; above, each on its own
LONG_RUN = 4096  # from here a run is worth a join of its own
CHUNK = 1 << 18  # rows that are compared at once: temporaries stay in the cache
TILE = 512
SAMPLE = 4096
MOST_SUBSETS = 3003
ROW_NS, COMPARE_NS, TILE_NS = 60.0, 12.0, 2.5  # measured; they only decide which exact way is taken


@dataclass(frozen=True)
class Scheme:
    """`bits` cut into `distance + k` blocks, of which every `k` are tried; block 0 is the most significant."""

    bits: int
    distance: int
    k: int

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """(shift, width) of each block."""
        cuts = [self.bits - i * self.bits // (self.distance + self.k) for i in range(self.distance + self.k + 1)]
        return [(low, high - low) for high, low in pairwise(cuts)]

    @property
    def subsets(self) -> list[tuple[int, ...]]:
        return list(combinations(range(self.distance + self.k), self.k))

    def rest(self, subset: tuple[int, ...]) -> int:
        """How many bits lie outside the subset: below them in an arranged value."""
        blocks = self.blocks
        return self.bits - sum(blocks[b][1] for b in subset)

    def arrange(self, values: np.ndarray, subset: tuple[int, ...]) -> np.ndarray:
        """The values with the subset's blocks moved to the top."""
        return _move(values, self._moves(subset))

    def restore(self, values: np.ndarray, subset: tuple[int, ...]) -> np.ndarray:
        """The inverse of `arrange`."""
        return _move(values, [(to, at, width) for at, to, width in self._moves(subset)])

    def is_first(self, differing: np.ndarray, subset: tuple[int, ...]) -> np.ndarray:
        """bool: of all subsets on which a pair (given as a ^ b) agrees, is this one the first?"""
        first = np.ones(len(differing), bool)
        blocks = self.blocks
        for b in range(subset[-1]):
            if b not in subset:
                shift, width = blocks[b]
                first &= (differing & np.uint64(((1 << width) - 1) << shift)) != 0
        return first

    def _moves(self, subset: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """(shift now, shift when arranged, width); neighbours that stay neighbours move as one."""
        blocks, top = self.blocks, self.bits
        moves: list[tuple[int, int, int]] = []
        for b in (*subset, *(b for b in range(len(blocks)) if b not in subset)):
            shift, width = blocks[b]
            top -= width
            if moves and moves[-1][0] == shift + width:
                width += moves.pop()[2]
            moves.append((shift, top, width))
        return moves


def _move(values: np.ndarray, moves: list[tuple[int, int, int]]) -> np.ndarray:
    if len(moves) == 1:
        return values
    moved = np.zeros_like(values)
    for at, to, width in moves:
        mask = np.uint64(((1 << width) - 1) << at)
        part = values & mask
        moved |= part << np.uint64(to - at) if to >= at else part >> np.uint64(at - to)
    return moved


def pairs_within(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs i < j with popcount(hashes[i] ^ hashes[j]) <= distance.

    Args:
        hashes: uint64 (n,), ascending, each once.
        distance: 0 to 63. Hashes cut at their median differ in an even number of bits, ties apart.

    Returns:
        i, j: int64 (pairs,), ordered by (i, j). d: uint8 (pairs,).

    Raises:
        ValueError: the hashes are not uint64, or not strictly ascending.
    """
    check_unique(hashes)
    found = [(np.minimum(a, b), np.maximum(a, b)) for a, b in value_pairs(hashes, distance)]
    none = np.empty(0, np.uint64)
    a, b = (np.concatenate([none, *(f[side] for f in found)]) for side in (0, 1))
    size = max(len(hashes), 1)
    i, j = np.divmod(np.sort(np.searchsorted(hashes, a) * size + np.searchsorted(hashes, b)), size)
    return i, j, np.bitwise_count(hashes[i] ^ hashes[j])


def check_unique(hashes: np.ndarray) -> None:
    if hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise ValueError(f"hashes must be uint64 (n,), not {hashes.dtype} {hashes.shape}")
    if np.any(hashes[1:] <= hashes[:-1]):
        raise ValueError("hashes must be ascending, each once: collapse equal ones with np.unique first")


def value_pairs(values: np.ndarray, distance: int, bits: int = 64) -> Pairs:
    """The pairs as values, for those who need no indices; `values` as in `pairs_within`, below 2**bits."""
    if len(values) < 2 or distance == 0:
        return
    scheme = choose_scheme(values, distance, bits)
    if scheme is None:
        yield from _all_pairs(values, distance)
        return
    for subset in scheme.subsets:
        yield from subset_pairs(scheme, subset, np.sort(scheme.arrange(values, subset)))


def subset_pairs(scheme: Scheme, subset: tuple[int, ...], arranged: np.ndarray) -> Pairs:
    """Pairs of which this subset is the first they agree on.

    `arranged`: sorted `scheme.arrange(values, subset)`; any part of it that splits no run will do.
    """
    for a, b in _run_pairs(arranged, scheme.rest(subset), scheme.distance):
        mine = scheme.is_first(scheme.restore(a ^ b, subset), subset)
        yield scheme.restore(a[mine], subset), scheme.restore(b[mine], subset)


def choose_scheme(values: np.ndarray, distance: int, bits: int) -> Scheme | None:
    """The scheme that a sample of the values says is cheapest; None: compare all with all."""
    n = len(values)
    picks = np.arange(SAMPLE, dtype=np.uint64)
    sample = np.unique(values[hash64_halves(0, "hamming", picks, picks) % np.uint64(n)])
    best, least = None, n * n / 2 * TILE_NS
    for k in range(1, bits - distance + 1):
        scheme = Scheme(bits, distance, k)
        sorting = comb(distance + k, k) * n * ROW_NS
        if comb(distance + k, k) > MOST_SUBSETS or sorting >= least:
            break
        cost = sorting + COMPARE_NS * _compares(scheme, sample, n)
        if cost < least:
            best, least = scheme, cost
    return best


def _compares(scheme: Scheme, sample: np.ndarray, n: int) -> float:
    """Estimate of the comparisons within runs over all subsets; never less than for uniform bits."""
    total = 0.0
    for subset in scheme.subsets:
        rest = scheme.rest(subset)
        keys = np.sort(scheme.arrange(sample, subset) >> np.uint64(rest))
        runs = np.diff(np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1], [True]))))
        seen = float((runs * (runs - 1)).sum()) / max(len(sample) * (len(sample) - 1), 1)
        total += n * n / 2 * max(seen, 2.0 ** (rest - scheme.bits))
    return total


def _run_pairs(values: np.ndarray, rest: int, distance: int) -> Pairs:
    """Pairs within the distance among sorted values that are equal above the low `rest` bits."""
    shift = np.uint64(rest)
    starts = np.flatnonzero(np.concatenate(([True], (values[1:] ^ values[:-1]) >> shift != 0, [True])))
    lengths = np.diff(starts)
    first = 0
    while first < len(lengths):  # runs first..last hold about CHUNK rows
        last = max(int(np.searchsorted(starts, starts[first] + CHUNK, side="right")) - 1, first + 1)
        yield from _short_runs(values, starts[first : last + 1], distance)
        first = last
    low = np.uint64((1 << rest) - 1)
    for run in np.flatnonzero(lengths > SHORT_RUN):
        members = values[starts[run] : starts[run + 1]]
        if len(members) <= LONG_RUN:
            yield from _all_pairs(members, distance)
            continue
        above = members[0] & ~low
        for a, b in value_pairs(members & low, distance, rest):
            yield a | above, b | above


def _short_runs(values: np.ndarray, starts: np.ndarray, distance: int) -> Pairs:
    """Compare each value with those 1, 2, ... places after it in its run; only runs up to SHORT_RUN."""
    lengths = np.diff(starts)
    base = starts[0]
    ends = np.repeat(starts[1:], lengths)
    after = ends - 1 - np.arange(base, starts[-1])
    after[np.repeat(lengths > SHORT_RUN, lengths)] = 0
    rows = np.flatnonzero(after)
    after = after[rows]
    rows += base
    offset = 1
    while len(rows):
        a, b = values[rows], values[rows + offset]
        near = np.bitwise_count(a ^ b) <= distance
        if near.any():
            yield a[near], b[near]
        offset += 1
        more = after >= offset
        rows, after = rows[more], after[more]


def _all_pairs(values: np.ndarray, distance: int) -> Pairs:
    """Every value with every later one, tile by tile."""
    for top in range(0, len(values), TILE):
        left = values[top : top + TILE]
        for start in range(top, len(values), 4 * TILE):
            right = values[start : start + 4 * TILE]
            i, j = np.nonzero(np.bitwise_count(left[:, None] ^ right[None, :]) <= distance)
            later = start + j > top + i
            yield left[i[later]], right[j[later]]


def uniform_scheme(n: int, distance: int) -> Scheme:
    """The cheapest scheme for n uniform 64-bit hashes, where it must be named before any hash is seen."""

    def cost(k: int) -> float:
        subsets = comb(distance + k, k)
        return subsets * n * (2 * ROW_NS + COMPARE_NS * n / 2.0 ** (1 + 64 * k / (distance + k)))

    return Scheme(64, distance, min(range(1, 9), key=cost))
