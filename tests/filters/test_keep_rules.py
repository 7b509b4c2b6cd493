"""Keep rules on graphs: who stays, who goes for whom, however the edges come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from filters.keep_edges import Edges
from filters.keep_rules import UNKNOWN, Choice, Rule, choose, orphans

Pairs = list[tuple[int, int]]
RULES: tuple[Rule, ...] = ("greedy", "component", "local")


def edges_of(n: int, pairs: Pairs, held: int | None = None, seed: int = 0) -> Edges:
    """Edges in any order and either way round, in files of three; how far: 1 + a + b."""
    draw = np.random.default_rng(seed)
    ends = draw.permuted(np.array(pairs, np.int64).reshape(-1, 2), axis=1)[draw.permutation(len(pairs))]
    whole = Edges.listed(n, ends[:, 0], ends[:, 1], 1 + ends.sum(axis=1))
    ((better, worse, apart),) = whole.blocks()
    files = [(better[i : i + 3], worse[i : i + 3], apart[i : i + 3]) for i in range(0, len(better), 3)]
    return Edges(n, lambda: files, held)


def stay(choice: Choice) -> set[int]:
    return set(np.flatnonzero(choice.stays).tolist())


def neighbours(n: int, pairs: Pairs) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in range(n)]
    for a, b in pairs:
        found[a].add(b)
        found[b].add(a)
    return found


def parts(n: int, pairs: Pairs) -> np.ndarray:
    """The component of each node, as a number."""
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    return connected_components(coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (n, n)))[1]


GRAPHS = st.integers(1, 25).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] < p[1]), max_size=60),
        st.lists(st.integers(0, 3), min_size=n, max_size=n).map(sorted),
    )
)


@settings(max_examples=150, deadline=None)
@given(graph=GRAPHS, held=st.sampled_from([1, 2, 7, 1000]), seed=st.integers(0, 2**32 - 1))
def test_rules_are_what_they_say(graph: Any, held: int, seed: int) -> None:
    """Also with so few edges held that files are read again for every chunk."""
    n, drawn, generation = graph
    pairs = sorted(drawn)
    near = neighbours(n, pairs)
    found = {rule: choose(rule, edges_of(n, pairs, held, seed)) for rule in RULES}
    for rule, choice in found.items():
        whole = choose(rule, edges_of(n, pairs))
        assert all((getattr(choice, f) == getattr(whole, f)).all() for f in ("winner", "apart", "label"))

    expected: set[int] = set()
    for node in range(n):
        if not near[node] & expected:
            expected.add(node)
    assert stay(found["greedy"]) == expected  # independent, and dominating: it is the first such set by rank
    part = parts(n, pairs)
    first = {p: int(np.flatnonzero(part == p)[0]) for p in set(part.tolist())}
    assert found["component"].winner.tolist() == [first[p] for p in part]
    assert stay(found["local"]) == {v for v in range(n) if not any(u < v for u in near[v])}
    assert stay(found["component"]) <= stay(found["local"]) <= stay(found["greedy"])

    for rule, choice in found.items():
        assert choice.label.tolist() == [first[p] for p in part]
        for v, (winner, apart) in enumerate(zip(choice.winner.tolist(), choice.apart.tolist(), strict=True)):
            if rule == "greedy" and winner != v:
                assert winner == min(near[v] & expected)
            if rule == "local":
                assert winner == min({u for u in near[v] if u < v} | {v})
            assert apart == (0 if winner == v else 1 + v + winner if winner in near[v] else UNKNOWN)
        lonely = [v for v in range(n) if v not in stay(choice) and not near[v] & stay(choice)]
        assert orphans(choice, edges_of(n, pairs, held)) == len(lonely)
    assert orphans(found["greedy"], edges_of(n, pairs)) == 0

    grown = choose("component", edges_of(n, pairs, held, seed), np.array(generation))
    for last in set(generation):  # each list as if it were the newest
        m = generation.index(last), len(generation) - generation[::-1].index(last)
        inside = [p for p in pairs if max(p) < m[1]]
        _, part = connected_components(
            coo_array((np.ones(len(inside)), np.array(inside).reshape(-1, 2).T), (m[1],) * 2)
        )
        best = [int(np.flatnonzero(part == p)[0]) for p in part]
        assert grown.winner[m[0] : m[1]].tolist() == best[m[0] :]
    assert stay(grown) >= stay(found["component"])
    assert stay(grown) <= stay(found["local"])


@pytest.mark.parametrize(
    ("order", "kept", "alone", "about"),
    [("time", (1000, 1, 1), (0, 1998, 1998), 0), ("random", (854, 657, 1), (0, 276, 1997), 40)],
)
def test_the_drift_chain(order: str, kept: tuple[int, ...], alone: tuple[int, ...], about: int) -> None:
    """Two thousand frames, each near to the next only: the specification's numbers (dedup.md, 3.2), by time to the
    frame, in random order about the same, for it is another draw."""
    n = 2000
    rank = np.arange(n) if order == "time" else np.random.default_rng(0).permutation(n)
    edges = Edges.listed(n, rank[:-1], rank[1:], np.full(n - 1, 30_000))
    choices = [choose(rule, edges) for rule in ("greedy", "local", "component")]
    assert tuple(len(stay(c)) for c in choices) == pytest.approx(kept, abs=about)
    assert tuple(orphans(c, edges) for c in choices) == pytest.approx(alone, abs=about)
    assert len(stay(choices[2])) == 1


def test_three_in_a_row() -> None:
    """filters.md, 10.7: A ~ B ~ C. The reference drops B and C, greedy B only."""
    assert [stay(choose(rule, edges_of(3, [(0, 1), (1, 2)]))) for rule in ("greedy", "reference")] == [{0, 2}, {0}]


def test_old_components_that_a_new_node_joins_keep_whom_they_kept() -> None:
    """0 - 2, 1 - 3 came first; 4 joins them, 5 is new and alone with 6."""
    edges, generation = edges_of(7, [(0, 2), (1, 3), (2, 4), (3, 4), (5, 6)]), np.array([0, 0, 0, 0, 1, 1, 1])
    found = choose("component", edges, generation)
    assert found.winner.tolist() == [0, 1, 0, 1, 0, 5, 5]
    assert found.label.tolist() == [0, 0, 0, 0, 0, 5, 5]
    assert found.apart.tolist() == [0, 0, 3, 5, UNKNOWN, 0, 12]
    assert choose("component", edges).winner.tolist() == [0, 0, 0, 0, 0, 5, 5]


def test_nothing_is_decided_of_nothing() -> None:
    for rule in RULES:
        choice = choose(rule, edges_of(0, []))
        assert len(choice.winner) == len(choice.label) == 0
        assert choose(rule, edges_of(3, [])).winner.tolist() == [0, 1, 2]


def test_a_star_of_half_a_million_edges_is_decided_by_its_best() -> None:
    """The best node is near to all others, each of which is near to the next."""
    n = 250_000
    i = np.concatenate([np.zeros(n - 1, np.int64), np.arange(1, n - 1)])
    j = np.concatenate([np.arange(1, n), np.arange(2, n)])
    found = choose("greedy", Edges.listed(n, i, j, np.ones(len(i)), held=100_000))
    assert stay(found) == {0}
    assert set(found.apart[1:].tolist()) == {1}
