"""Connected components, each named after its smallest node: the same names however the edges are ordered or split.

    nodes, label = components(a, b)          # a, b: uint64, the edges
    forest = merged([forest, (a, b)])      # further edges, or the forest of another part

A forest (node, label) is itself a list of edges with the same components, at most one a node, so that parts of a
graph are reduced where they are and their forests merged in a tree. Of nodes numbered from 0 without gaps, which other
machines may have done, one array is all that has to be held:

    kept = spanning(a, b)                  # of some of the edges, at most one a node hangs together what all do
    label = united(n, [(i, j), ...])       # numbers of the ends of all edges, as many at a time as one likes

Nodes are numbered in ascending order by sorting them in buckets that fit the cache; the components of the numbers are
found by union-find, whose roots are the smallest of each (`stages.component_kernels`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

Edges = tuple[np.ndarray, np.ndarray]
"""Two uint64 arrays of one length: edges, or a forest of (node, label)."""


WAIT = 1 << 20
"""Edges that are gathered before the next merge, at least: small forests are not merged one by one."""

BUCKET = 1 << 15
"""Ends of edges that are sorted together, about."""

MOST_BUCKETS = 1 << 12
"""Buckets that are filled side by side, at most."""

MOST_NODES = 1 << 32


def components(a: np.ndarray, b: np.ndarray) -> Edges:
    """Components of the graph with edges a[i] - b[i]; memory: some 32 bytes an edge besides.

    Returns:
        nodes: uint64, ascending, every node of an edge once (a self-loop makes a node).
        label: uint64, the smallest node of each node's component.

    Raises:
        ValueError: 2**31 edges or more.
    """
    _few_enough(a)
    nodes, i, j = _numbered(a, b)
    return nodes, nodes[united(len(nodes), [(i, j)])]


def component_labels(n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """int64 (n,): the smallest node of each node's component, for nodes 0..n-1 and edges i - j; linear in both.

    Raises:
        ValueError: 2**32 nodes or more.
    """
    if n >= MOST_NODES:
        raise ValueError(f"{n:,} nodes: at most {MOST_NODES - 1:,}")
    return united(n, [(i, j)]).astype(np.int64)


def merged(forests: Iterable[Edges]) -> Edges:
    """One forest with the components of all, in memory for about three of its size (and for one of the inputs)."""
    nodes, label = np.empty(0, np.uint64), np.empty(0, np.uint64)
    waiting: list[Edges] = []
    for edges in forests:
        waiting.append(edges)
        if sum(len(a) for a, _ in waiting) > max(len(nodes), WAIT):
            nodes, label = _with(nodes, label, waiting)
            waiting = []
    return _with(nodes, label, waiting)


def spanning(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """bool (edges,): edges that hang together all that the edges a[i] - b[i] do, fewer than there are nodes.

    Raises:
        ValueError: 2**31 edges or more.

    Example:
        >>> spanning(np.array([1, 1, 2], np.uint64), np.array([2, 3, 3], np.uint64))
        array([ True,  True, False])
    """
    from stages.component_kernels import span

    _few_enough(a)
    nodes, i, j = _numbered(a, b)
    joins = np.zeros(len(a), bool)
    span(np.arange(len(nodes), dtype=np.uint32), i, j, joins)
    return joins


def united(n: int, edges: Iterable[Edges]) -> np.ndarray:
    """uint32 (n,), or uint64 where n is beyond: the smallest node of each node's component, for nodes 0..n-1.

    Args:
        edges: pairs of arrays of any integer type, looked at once. Memory: the answer, and one pair of them.
    """
    from stages.component_kernels import settle, unite

    parent = np.arange(n, dtype=np.uint32 if n <= MOST_NODES else np.uint64)
    for i, j in edges:
        unite(parent, *(np.ascontiguousarray(x, parent.dtype) for x in (i, j)))
    settle(parent)
    return parent


def _few_enough(a: np.ndarray) -> None:
    if 2 * len(a) >= MOST_NODES:
        raise ValueError(f"{len(a):,} edges at once: cut them into parts, and merge the forests of these")


def _with(nodes: np.ndarray, label: np.ndarray, more: list[Edges]) -> Edges:
    return components(np.concatenate([nodes, *(a for a, _ in more)]), np.concatenate([label, *(b for _, b in more)]))


def _numbered(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the nodes of all edges, ascending; of each a and of each b which of them it is, uint32)."""
    from stages.component_kernels import number

    numbers = np.empty(2 * len(a), np.uint32)
    found, held = [np.empty(0, np.uint64)], 0
    for keys, where in _buckets(a, b):
        ordered = np.sort(keys)
        nodes = ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))]
        spare = int(nodes[-1] - nodes[0]).bit_length() - len(nodes).bit_length()
        number(keys, where, nodes, max(spare, 0), held, numbers)
        found.append(nodes)
        held += len(nodes)
    return np.concatenate(found), numbers[: len(a)], numbers[len(a) :]


def _buckets(a: np.ndarray, b: np.ndarray) -> Iterable[Edges]:
    """The ends of all edges cut into ranges, ascending; each end with its position among a and then b."""
    from stages.component_kernels import count, spread

    if len(a) == 0:
        return
    ends = (np.ascontiguousarray(a), np.ascontiguousarray(b))
    least, most = min(int(x.min()) for x in ends), max(int(x.max()) for x in ends)
    wanted = min(max(2 * len(a) // BUCKET, 1), MOST_BUCKETS)
    shift = min(max((most - least).bit_length() - (wanted - 1).bit_length(), 0), 63)  # machines cannot shift by 64
    counts = np.zeros(((most - least) >> shift) + 1, np.int64)
    for x in ends:
        count(x, least, shift, counts)
    cuts = np.concatenate(([0], np.cumsum(counts)))
    keys, where, places = np.empty(2 * len(a), np.uint64), np.empty(2 * len(a), np.uint32), cuts[:-1].copy()
    spread(ends[0], 0, least, shift, places, keys, where)
    spread(ends[1], len(a), least, shift, places, keys, where)
    yield from ((keys[start:end], where[start:end]) for start, end in pairwise(cuts.tolist()) if end > start)
