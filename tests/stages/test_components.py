"""Components: the smallest node names each, whatever the order, direction or split of the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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


def test_a_chain_of_a_million_nodes() -> None:
    order = np.random.default_rng(0).permutation(1_000_000)
    assert not component_labels(1_000_000, order[:-1], order[1:]).any()


def test_nodes_may_use_all_64_bits() -> None:
    top = 2**64 - 1
    nodes, label = components(np.array([top], np.uint64), np.array([2**63], np.uint64))
    assert nodes.tolist() == [2**63, top]
    assert label.tolist() == [2**63, 2**63]
