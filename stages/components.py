"""Connected components, each named after its smallest node: the same names however the edges are ordered or split.

    nodes, label = components(a, b)          # a, b: uint64, the edges
    forest = merged([forest, (a, b)])      # further edges, or the forest of another part

A forest (node, label) is itself a list of edges with the same components, at most one a node, so that parts of a
graph are reduced where they are and their forests merged in a tree.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Edges = tuple[np.ndarray, np.ndarray]
"""Two uint64 arrays of one length: edges, or a forest of (node, label)."""


WAIT = 1 << 20
"""Edges that are gathered before the next merge, at least: small forests are not merged one by one."""


def components(a: np.ndarray, b: np.ndarray) -> Edges:
    """Components of the graph with edges a[i] - b[i].

    Returns:
        nodes: uint64, ascending, every node of an edge once (a self-loop makes a node).
        label: uint64, the smallest node of each node's component.
    """
    nodes, dense = np.unique(np.concatenate([a, b]), return_inverse=True)
    smallest = component_labels(len(nodes), dense[: len(a)], dense[len(a) :])
    return nodes, nodes[smallest]


def component_labels(n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """int64 (n,): the smallest node of each node's component, for nodes 0..n-1 and edges i - j; linear in both."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if n == 0:
        return np.empty(0, np.int64)
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    return smallest[component]


def merged(forests: Iterable[Edges]) -> Edges:
    """One forest with the components of all, in memory for about two of its size (and for one of the inputs)."""
    nodes, label = np.empty(0, np.uint64), np.empty(0, np.uint64)
    waiting: list[Edges] = []
    for edges in forests:
        waiting.append(edges)
        if sum(len(a) for a, _ in waiting) > max(len(nodes), WAIT):
            nodes, label = _with(nodes, label, waiting)
            waiting = []
    return _with(nodes, label, waiting)


def _with(nodes: np.ndarray, label: np.ndarray, more: list[Edges]) -> Edges:
    return components(np.concatenate([nodes, *(a for a, _ in more)]), np.concatenate([label, *(b for _, b in more)]))
