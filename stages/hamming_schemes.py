"""Ways to cut the bits of hashes into blocks so that near ones agree on some; the join itself is `stages.hamming`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from math import comb

import numpy as np

from stages.draws import hash64_halves

SAMPLE = 4096
MOST_SUBSETS = 3003
PASS_NS, RUN_NS, COMPARE_NS, ALL_NS = 5.0, 8.0, 0.3, 0.08  # measured; they only decide which exact way is taken
SHUFFLE_NS = 120.0  # of a row that goes through files for each subset
CROWDED = 2.5  # times as many pairs of photos agree on 16 bits of a pHash as of uniform ones, measured


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

    def masks(self, blocks: list[int]) -> np.ndarray:
        """uint64: the bits of each of the blocks."""
        known = self.blocks
        return np.array([((1 << known[b][1]) - 1) << known[b][0] for b in blocks], np.uint64)

    def earlier(self, subset: tuple[int, ...]) -> np.ndarray:
        """uint64 masks: a pair that agrees on the subset agrees on no earlier one if it differs under each of them."""
        return self.masks([b for b in range(subset[-1]) if b not in subset])

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


def choose_scheme(values: np.ndarray, distance: int, bits: int, fresh: float = 1.0) -> Scheme | None:
    """The scheme that a sample of the values says is cheapest; None: compare all with all. `fresh`: their share."""
    n, asked = len(values), fresh * (2 - fresh)
    picks = np.arange(min(SAMPLE, max(256, n >> 4)), dtype=np.uint64)
    sample = np.unique(values[hash64_halves(0, "hamming", picks, picks) % np.uint64(n)])
    best, least = None, n * n / 2 * ALL_NS * asked
    for k in range(1, bits - distance + 1):
        scheme = Scheme(bits, distance, k)
        sorting = comb(distance + k, k) * n * (k * PASS_NS + RUN_NS)
        if comb(distance + k, k) > MOST_SUBSETS or sorting >= least:
            break
        cost = sorting + COMPARE_NS * asked * _compares(scheme, sample, n)
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


def uniform_scheme(n: int, distance: int) -> Scheme:
    """The cheapest scheme for n 64-bit hashes of photos, where it must be named before any hash is seen."""

    def cost(k: int) -> float:
        subsets = comb(distance + k, k)
        return subsets * n * (SHUFFLE_NS + COMPARE_NS * CROWDED * n / 2.0 ** (1 + 64 * k / (distance + k)))

    return Scheme(64, distance, min(range(1, 9), key=cost))
