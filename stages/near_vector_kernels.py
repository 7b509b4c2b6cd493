"""Inner loops of `stages.near_vector_crowds`: which pairs are of a row and one of its nearest. Import it where used."""

from __future__ import annotations

import numpy as np
from numba import types

from stages.compiled import compiled

Array = np.ndarray

_rows = types.Array(types.int32, 1, "C", readonly=True)
_nodes = types.Array(types.uint64, 1, "C", readonly=True)
_order = types.Array(types.int64, 1, "C", readonly=True)
_bools = types.boolean[::1]


@compiled(_bools(_rows, _rows, _rows, _nodes, types.int32[::1], types.uint64[::1], types.uint64[::1]))
def may_stay(i: Array, j: Array, far: Array, node: Array, last_far: Array, last_xor: Array, least: Array) -> Array:
    """bool (pairs,): false, where both ends know as many nearer rows as they may keep, and one of a smaller node."""
    stays = np.empty(len(i), np.bool_)
    for p in range(len(i)):
        a, b, d = i[p], j[p], far[p]
        x = node[a] ^ node[b]
        stays[p] = (
            d < last_far[a]
            or d < last_far[b]
            or (d == last_far[a] and x < last_xor[a])
            or (d == last_far[b] and x < last_xor[b])
            or node[b] < least[a]
            or node[a] < least[b]
        )
    return stays


@compiled(
    _bools(_rows, _rows, _rows, _nodes, _order, types.int64, types.int32[::1], types.uint64[::1], types.uint64[::1])
)
def nearest_pairs(
    i: Array,
    j: Array,
    far: Array,
    node: Array,
    order: Array,
    most: int,
    last_far: Array,
    last_xor: Array,
    least: Array,
) -> Array:
    """bool (pairs,): which are of a row and one of its `most` nearest, or of a row and its neighbour of least node.

    Args:
        i, j, far: int32 (pairs,).
        order: int64 (pairs,), nearest first.
        last_far, last_xor, least: (rows,), written: the last of the nearest of each row, its largest values where there
            are fewer; the least node of a neighbour.
    """
    stays = np.empty(len(i), np.bool_)
    last_far[:], last_xor[:], least[:] = np.iinfo(np.int32).max, ~np.uint64(0), ~np.uint64(0)
    for p in range(len(i)):
        least[i[p]] = min(least[i[p]], node[j[p]])
        least[j[p]] = min(least[j[p]], node[i[p]])
    known = np.zeros(len(node), np.int64)
    for p in order:
        a, b = i[p], j[p]
        stays[p] = known[a] < most or known[b] < most or node[b] == least[a] or node[a] == least[b]
        for row in (a, b):
            known[row] += 1
            if known[row] == most:
                last_far[row], last_xor[row] = far[p], node[a] ^ node[b]
    return stays
