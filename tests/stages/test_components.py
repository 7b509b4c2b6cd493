"""Components: the smallest node names each, whatever the order, direction or split of the edges."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import stages.components
from stages.components import component_labels, components, merged

EDGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60)


def arrays(edges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array(edges, np.uint64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def walked(edges: list[tuple[int, int]]) -> dict[int, int]:
    """Smallest reachable node of each node, by walking."""
    near: dict[int, set[int]] = {}
    for a, b in edges:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    label: dict[int, int] = {}
    for start in sorted(near):
        queue = [start]
        while queue:
            node = queue.pop()
            if node not in label:
                label[node] = start
                queue += near[node]
    return label


@settings(deadline=None)
@given(edges=EDGES)
@example([])
@example([(7, 7)])
def test_label_is_the_smallest_reachable_node(edges: list[tuple[int, int]]) -> None:
    nodes, label = components(*arrays(edges))
    assert list(nodes) == sorted(set(nodes.tolist()))
    assert dict(zip(nodes.tolist(), label.tolist(), strict=True)) == walked(edges)


@settings(deadline=None)
@given(edges=EDGES, seed=st.integers(0, 1000), parts=st.integers(1, 5))
def test_order_direction_doubles_and_split_change_nothing(edges: list[tuple[int, int]], seed: int, parts: int) -> None:
    whole = components(*arrays(edges))
    rng = np.random.default_rng(seed)
    mixed = [(a, b) if rng.random() < 0.5 else (b, a) for a, b in edges + edges[: len(edges) // 2]]
    rng.shuffle(mixed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.components, "WAIT", seed % 5)
        split = merged(components(*arrays(mixed[p::parts])) for p in range(parts))
    assert all(np.array_equal(x, y) for x, y in zip(whole, split, strict=True))


@settings(deadline=None)
@given(edges=EDGES, bucket=st.integers(1, 9), most=st.integers(1, 9), spread=st.sampled_from([1, 3, 2**40, 2**58]))
def test_buckets_change_nothing(edges: list[tuple[int, int]], bucket: int, most: int, spread: int) -> None:
    """Nodes close together and far apart, in one bucket and in many."""
    edges = [(a * spread, b * spread) for a, b in edges]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.components, "BUCKET", bucket)
        patch.setattr(stages.components, "MOST_BUCKETS", most)
        nodes, label = components(*arrays(edges))
    assert dict(zip(nodes.tolist(), label.tolist(), strict=True)) == walked(edges)


@pytest.mark.parametrize("nodes", [1_000, 100_000, 300_000])
@pytest.mark.parametrize("bits", [20, 64])
def test_the_same_as_scipy(nodes: int, bits: int) -> None:
    """100,000 random edges: from one large component to many small ones; numbers crowded and spread out."""
    rng = np.random.default_rng(nodes)
    names = rng.integers(0, 2**bits, nodes, dtype=np.uint64)
    a, b = (names[rng.integers(0, nodes, 100_000)] for _ in range(2))
    found, label = components(a, b)
    known, dense = np.unique(np.concatenate([a, b]), return_inverse=True)
    graph = coo_array((np.ones(len(a)), (dense[: len(a)], dense[len(a) :])), shape=(len(known), len(known)))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    assert np.array_equal(found, known)
    assert np.array_equal(label, known[first[component]])


@pytest.mark.parametrize("order", ["along", "back", "random"])
def test_a_chain_of_a_million_nodes(order: str) -> None:
    """Whatever the order of its nodes and of its links, and in time that goes with its length."""
    rng = np.random.default_rng(0)

    def seconds(n: int) -> float:
        nodes = {"along": np.arange(n), "back": np.arange(n)[::-1], "random": rng.permutation(n)}[order]
        at = rng.permutation(n - 1)
        i, j = nodes[:-1][at], nodes[1:][at]
        began = time.process_time()
        assert not component_labels(n, i, j).any()
        return time.process_time() - began

    assert seconds(1_000_000) < 2


def test_too_many_nodes_are_said() -> None:
    with pytest.raises(ValueError, match="at most 4,294,967,295"):
        component_labels(2**32, np.zeros(1, np.int64), np.zeros(1, np.int64))


def test_too_many_edges_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.components, "MOST_NODES", 6)
    with pytest.raises(ValueError, match="3 edges at once"):
        components(*arrays([(1, 2), (2, 3), (3, 4)]))


def test_read_only_edges() -> None:
    """As they come out of Arrow tables."""
    a, b = arrays([(5, 3), (3, 9)])
    for side in (a, b):
        side.setflags(write=False)
    assert components(a, b)[1].tolist() == [3, 3, 3]


def test_nodes_may_use_all_64_bits() -> None:
    top = 2**64 - 1
    nodes, label = components(np.array([top], np.uint64), np.array([2**63], np.uint64))
    assert nodes.tolist() == [2**63, top]
    assert label.tolist() == [2**63, 2**63]
