"""Inner loops of `stages.components`. Import it where it is used.

Union-find after Rem, with splicing: both ends of an edge climb at once, the one with the larger parent first, and what
it climbs past is hung lower. A parent is never larger than its child, so the root of a tree is its smallest node.
(Patwary, Blair, Manne, "Experiments on union-find algorithms for the disjoint-set data structure", SEA 2010.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from stages.compiled import compiled

Array = np.ndarray
Int = Any  # a number of the machine, which a type checker takes for one of numpy's

_u64, _u32, _i64, _bool = types.uint64[::1], types.uint32[::1], types.int64[::1], types.boolean[::1]
_nodes, _numbers = (types.Array(t, 1, "C", readonly=True) for t in (types.uint64, types.uint32))

ZERO, ONE = np.uint64(0), np.uint64(1)
AHEAD = np.uint64(64)  # edges whose parents are fetched together, before the first of them is looked at


@compiled([types.uint32(_u32, _numbers, _numbers), types.uint64(_u64, _nodes, _nodes)])
def unite(parent: Array, i: Array, j: Array) -> Int:
    """Join the trees of i[e] and j[e] for each edge e, in place; the answer only keeps the fetching alive."""
    fetched, edges = np.uint32(0), np.uint64(len(i))
    for begin in range(ZERO, edges, AHEAD):
        end = min(begin + AHEAD, edges)
        for e in range(begin, end):  # no order among these loads: the memory answers many at once
            fetched ^= parent[i[e]] ^ parent[j[e]]
        for e in range(begin, end):
            x, y = i[e], j[e]
            while parent[x] != parent[y]:
                if parent[x] < parent[y]:
                    x, y = y, x
                above = parent[x]
                parent[x] = parent[y]
                if above == x:
                    break
                x = above
    return fetched


@compiled(types.void(_u32, _numbers, _numbers, _bool))
def span(parent: Array, i: Array, j: Array, joins: Array) -> None:
    """As `unite`, and mark each edge that joined two trees."""
    for e in range(np.uint64(len(i))):
        x, y = i[e], j[e]
        while parent[x] != parent[y]:
            if parent[x] < parent[y]:
                x, y = y, x
            above = parent[x]
            parent[x] = parent[y]
            if above == x:
                joins[e] = True
                break
            x = above


@compiled([types.void(_u32), types.void(_u64)])
def settle(parent: Array) -> None:
    """Make each node's parent its root, in place: parents are smaller, and so are settled before."""
    for node in range(np.uint64(len(parent))):
        parent[node] = parent[parent[node]]


# ---------------------------------------------------------------- numbering nodes


@compiled(types.void(_nodes, types.uint64, types.uint64, _i64))
def count(nodes: Array, least: Int, shift: Int, counts: Array) -> None:
    """Add up how many nodes have each value of (node - least) >> shift."""
    for at in range(np.uint64(len(nodes))):
        counts[(nodes[at] - least) >> shift] += 1


@compiled(types.void(_nodes, types.uint64, types.uint64, types.uint64, _i64, _u64, _u32))
def spread(nodes: Array, first: Int, least: Int, shift: Int, places: Array, keys: Array, where: Array) -> None:
    """Nodes by (node - least) >> shift, each with its position, counted from `first`; `places` moves on."""
    for at in range(np.uint64(len(nodes))):
        into = (nodes[at] - least) >> shift
        place = places[into]
        keys[place], where[place] = nodes[at], first + at
        places[into] = place + 1


@compiled(types.void(_nodes, _numbers, _nodes, types.uint64, types.int64, _u32))
def number(keys: Array, where: Array, nodes: Array, shift: Int, first: Int, numbers: Array) -> None:
    """Write to numbers[where[e]] at which place keys[e] stands among `nodes`, counted from `first`.

    nodes: ascending, each once; every key is one of them. shift: 2 * len(nodes) values of (node - nodes[0]) >> shift,
    about, so that a short search among those of one value is left.
    """
    least = nodes[0]
    starts = np.zeros(np.int64((nodes[len(nodes) - 1] - least) >> shift) + 2, np.uint64)
    for at in range(np.uint64(len(nodes))):
        starts[((nodes[at] - least) >> shift) + ONE] += ONE
    for value in range(ONE, np.uint64(len(starts))):
        starts[value] += starts[value - ONE]
    for e in range(np.uint64(len(keys))):
        value = (keys[e] - least) >> shift
        low, high = starts[value], starts[value + ONE]
        while high - low > ONE:
            middle = (low + high) >> ONE
            if nodes[middle] <= keys[e]:
                low = middle
            else:
                high = middle
        numbers[where[e]] = np.uint64(first) + low
