"""The inner loop of `stages.eval_hashes`, compiled by Numba. Import it where it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from stages.compiled import compiled
from stages.hamming_kernels import bits_of

Array = np.ndarray
Int = Any  # a number of the machine, which a type checker takes for one of numpy's

_words = types.Array(types.uint64, 2, "C")
_longs = types.int64[::1]


@compiled(
    types.void(_words, _longs, _longs, _words, _longs, _longs, _longs, types.int64, _longs, _longs, types.boolean)
)
def nearest_in_band(
    outer: Array,
    outer_starts: Array,
    outer_row: Array,
    inner: Array,
    inner_starts: Array,
    inner_row: Array,
    masks: Array,
    most: Int,
    distance: Array,
    row: Array,
    swapped: Any,
) -> None:
    """Compare the hashes of both sides whose values in one band of 16 bits differ by one of `masks`.

    Args:
        outer, inner: uint64 (n, words) and (m, words), sorted by their value in the band.
        outer_starts, inner_starts: (65537,): where each value begins.
        outer_row, inner_row: what each hash is of: a query, or what is looked for; `swapped`: inner has the queries.
        most: bits; pairs farther apart are none.
        distance, row: of each query, the nearest so far and its row, of equal ones the smallest; improved in place.
    """
    words = outer.shape[1]
    for value in range(65536):
        first, last = outer_starts[value], outer_starts[value + 1]
        if first == last:
            continue
        for mask in masks:
            begin, end = inner_starts[value ^ mask], inner_starts[(value ^ mask) + 1]
            for i in range(first, last):
                for j in range(begin, end):
                    apart = np.int64(0)
                    for w in range(words):
                        apart += np.int64(bits_of(outer[i, w] ^ inner[j, w]))
                        if apart > most:
                            break
                    if apart > most:
                        continue
                    query, of = (inner_row[j], outer_row[i]) if swapped else (outer_row[i], inner_row[j])
                    if apart < distance[query] or (apart == distance[query] and of < row[query]):
                        distance[query], row[query] = apart, of
