"""The inner loops of `filters.keep_rules`, compiled: they look at every edge.

Importing this takes a third of a second: import it where it is used.
"""

from __future__ import annotations

import numpy as np
from numba import types

from stages.compiled import compiled

_read = types.Array(types.int32, 1, "C", readonly=True)
_write = types.int32[::1]


@compiled(types.void(_read, _read, _read, types.int64, types.int64, _write, _write))
def greedy(
    better: np.ndarray, worse: np.ndarray, apart: np.ndarray, start: int, end: int, winner: np.ndarray, far: np.ndarray
) -> None:
    """Nodes start..end in their order: who stays takes all worse neighbours that nobody took yet.

    Args:
        better, worse, apart: int32 (edges,), in any order, all whose better end lies in start..end.
        winner, far: int32 (nodes,), changed: the node that each yields to, and how far it is.
    """
    at = np.zeros(end - start + 1, np.int64)
    for e in range(len(better)):
        at[better[e] - start + 1] += 1
    for node in range(end - start):
        at[node + 1] += at[node]
    sorted_edges, next_ = np.empty(len(better), np.int32), at.copy()
    for e in range(len(better)):
        node = better[e] - start
        sorted_edges[next_[node]] = e
        next_[node] += 1
    for node in range(start, end):
        if winner[node] != node:
            continue
        for place in range(at[node - start], at[node - start + 1]):
            e = sorted_edges[place]
            other = worse[e]
            if winner[other] == other:
                winner[other], far[other] = node, apart[e]


@compiled(types.void(_read, _read, _read, _write, _write))
def best_neighbour(
    better: np.ndarray, worse: np.ndarray, apart: np.ndarray, winner: np.ndarray, far: np.ndarray
) -> None:
    """Each node's best neighbour, where it is better than the node itself; edges in any order."""
    for e in range(len(better)):
        if better[e] < winner[worse[e]]:
            winner[worse[e]], far[worse[e]] = better[e], apart[e]
