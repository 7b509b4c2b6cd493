"""Which of near samples stay: rules on a graph whose nodes are numbered by rank, 0 the best.

    choice = choose("greedy", Edges.listed(3, i, j, apart))
    choice.winner                                       # who each node yields to: itself, where it stays

- greedy: best first; a node stays unless a better one that stays is its neighbour. It yields to the best of those.
- component: the best of each connected component stays. With generations, the best of each component as it was when
  the node's generation came: of old components that new nodes join, all keep who they kept.
- local: a node goes if any better node is its neighbour, whether that one stays or not; it yields to the best of them.
  So are SemDeDup's code and NeMo Curator's. reference is the same, on pairs of one cluster only.

What component keeps, local keeps, and what local keeps, greedy keeps. Only under greedy has all that goes a neighbour
that stays; a node without one is an orphan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from filters.keep_edges import Edges
from stages.components import component_labels

Rule = Literal["greedy", "component", "local", "reference"]

UNKNOWN = -1  # how far a node is from the one that it yields to, where the two are no pair


@dataclass(frozen=True)
class Choice:
    """Of each node, int32 (n,): who it yields to, how far that is (UNKNOWN: no pair), the best of its component."""

    winner: np.ndarray
    apart: np.ndarray
    label: np.ndarray

    @property
    def stays(self) -> np.ndarray:
        """bool (n,)"""
        return self.winner == np.arange(len(self.winner))


def choose(rule: Rule, edges: Edges, generation: np.ndarray | None = None) -> Choice:
    """What the rule says.

    Args:
        generation: int (n,), ascending, as ranks that put what came earlier first are; for component. None: one.
    """
    if rule == "component":
        return _component(edges, np.zeros(edges.n, np.int64) if generation is None else generation)
    winner, apart = np.arange(edges.n, dtype=np.int32), np.zeros(edges.n, np.int32)
    _RULES[rule](edges, winner, apart)
    return Choice(winner, apart, _labels(edges, 0, edges.n, winner[:0]))


def orphans(choice: Choice, edges: Edges) -> int:
    """How many nodes go without any neighbour that stays."""
    stays = choice.stays
    covered = stays.copy()
    for better, worse, _ in edges.blocks():
        covered[worse[stays[better]]] = True
        covered[better[stays[worse]]] = True
    return int(np.count_nonzero(~covered))


def _greedy(edges: Edges, winner: np.ndarray, apart: np.ndarray) -> None:
    from filters.keep_kernels import greedy

    for start, end, (better, worse, far) in edges.chunks():
        greedy(better, worse, far, start, end, winner, apart)


def _local(edges: Edges, winner: np.ndarray, apart: np.ndarray) -> None:
    from filters.keep_kernels import best_neighbour

    for better, worse, far in edges.blocks():
        best_neighbour(better, worse, far, winner, apart)


_RULES: dict[str, Callable[[Edges, np.ndarray, np.ndarray], None]] = {
    "greedy": _greedy,
    "local": _local,
    "reference": _local,
}


def _component(edges: Edges, generation: np.ndarray) -> Choice:
    """Generation by generation. The best node of a component is never one that went before: that one yielded to a
    better node of the same component. So who stayed stays, and a new node yields to the best of its component."""
    label = winner = np.empty(0, np.int32)
    starts = np.flatnonzero(np.diff(generation, prepend=generation[:1] - 1))
    for start, end in pairwise([*starts.tolist(), edges.n]):
        label = _labels(edges, start, end, label)
        winner = np.concatenate([winner, label[start:]])
    apart = np.where(winner == np.arange(edges.n), 0, UNKNOWN).astype(np.int32)
    for better, worse, far in edges.blocks():
        direct = winner[worse] == better
        apart[worse[direct]] = far[direct]
    return Choice(winner, apart, label)


def _labels(edges: Edges, start: int, end: int, before: np.ndarray) -> np.ndarray:
    """int32 (end,): the best node of each component among the first `end`, from those among the first `start`."""
    label = np.concatenate([before, np.arange(start, end, dtype=np.int32)])
    for better, worse, _ in edges.blocks():
        new = (worse >= start) & (worse < end)
        i = np.concatenate([np.arange(end, dtype=np.int32), better[new]])
        label = component_labels(end, i, np.concatenate([label, worse[new]])).astype(np.int32)
    return label
