"""Roots of components: of few buckets from forests, of many from numbers; the same components, whatever the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import stages.near_forest as near_forest
from stages.base import Inputs, Output, Phase, PhaseFile, Shape
from stages.components import spanning, united
from stages.near_forest import ALONE, forest_phases, node_bucket, root_files, roots
from stages.near_steps import pairs_output
from stages.shuffle import Layout

WORK = {
    "links": near_forest.links,
    "numbers": near_forest.numbers,
    "joins": near_forest.joins,
    "forest": near_forest.numbered_forest,
}
PAIRS = ("one", "two", "three")


class Run:
    """The phases between `pairs` and `members`, in memory; pairs lie in three parts, as they come."""

    def __init__(self, layout: Layout, a: np.ndarray, b: np.ndarray) -> None:
        self.layout = layout
        zeros = np.zeros(len(a), np.int64)
        cut = [pairs_output(a[p::3], b[p::3], zeros[p::3], layout.buckets) for p in range(3)]
        self.files: dict[str, dict[str, Output]] = {"pairs": dict(zip(PAIRS, cut, strict=True))}
        self.phases = forest_phases(layout, PAIRS)
        for phase in self.phases:
            self.files[phase.name] = {part: self.done(phase, part) for part in self.parts(phase)}

    def parts(self, phase: Phase) -> Sequence[str]:
        assert not callable(phase.parts)
        return phase.parts

    def done(self, phase: Phase, part: str) -> Output:
        return WORK.get(phase.name, near_forest.forest)(part, self.inputs(phase.inputs(part)))

    def inputs(self, keys: Sequence[object]) -> Inputs:
        return Inputs(keys, self.load)  # type: ignore[arg-type]

    def load(self, key: object) -> pa.Table:
        assert isinstance(key, PhaseFile)
        found = self.files[key.phase][key.part].tables
        if isinstance(found, pa.Table):
            return found
        return pa.concat_tables(found) if key.bucket is None else found[key.bucket]

    def named(self, nodes: np.ndarray) -> dict[int, int]:
        """node -> smallest node of its component, of all that are near another; asked bucket by bucket."""
        members: dict[int, list[int]] = {}
        into = node_bucket(nodes, self.layout.buckets)
        for number, part in enumerate(self.layout.bucket_parts):
            here = nodes[into == number]
            near, root = roots(part, self.inputs(root_files(self.layout, PAIRS, part)), here)
            alone = root[~near]
            assert len(set(alone.tolist()) | members.keys()) == len(alone) + len(members)  # no root twice
            for node, name in zip(here[near].tolist(), root[near].tolist(), strict=True):
                members.setdefault(name, []).append(node)
        return {node: smallest for found in members.values() for smallest in [min(found)] for node in found}


def layout_of(buckets: int) -> Layout:
    return Layout(Shape((0,), (buckets,)), rows=1)


def expected(a: np.ndarray, b: np.ndarray) -> dict[int, int]:
    nodes, dense = np.unique(np.concatenate([a, b]), return_inverse=True)
    ends = (dense[: len(a)], dense[len(a) :])
    _, part = connected_components(coo_array((np.ones(len(a)), ends), shape=(len(nodes),) * 2), directed=False)
    _, first = np.unique(part, return_index=True)
    return dict(zip(nodes.tolist(), nodes[first[part]].tolist(), strict=True))


def unlike(edges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    found = np.array([e for e in edges if e[0] != e[1]], np.uint64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


EDGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=80)


@settings(deadline=None)
@given(edges=EDGES, buckets=st.sampled_from([1, 4, 8, 64]))
@example([], 16)
@example([(0, 2**64 - 1)], 16)
def test_any_cut_gives_the_components(edges: list[tuple[int, int]], buckets: int) -> None:
    """All nodes are asked for, those near no other too, and edges come twice."""
    a, b = unlike(edges + edges[::2])
    run = Run(layout_of(buckets), a, b)
    assert run.named(np.unique(np.append(np.arange(50, dtype=np.uint64), [*a, *b]).astype(np.uint64))) == expected(a, b)


@pytest.mark.parametrize("buckets", [4, 32])
@pytest.mark.parametrize("shape", ["chain", "star", "random", "cliques"])
def test_graphs_of_many_nodes(shape: str, buckets: int) -> None:
    rng = np.random.default_rng(1)
    nodes = rng.integers(0, 2**64, 50_000, dtype=np.uint64)
    ends = {
        "chain": (nodes[:-1], nodes[1:]),
        "star": (nodes[1:], np.full(len(nodes) - 1, nodes[0])),
        "random": (nodes[rng.integers(0, 50_000, 30_000)], nodes[rng.integers(0, 25_000, 30_000)]),
        "cliques": (np.repeat(nodes, 20), nodes[(np.arange(1_000_000) // 400 * 20 + np.arange(1_000_000) % 20)]),
    }
    a, b = ends[shape]
    a, b = a[a != b], b[a != b]
    run = Run(layout_of(buckets), a, b)
    assert run.named(np.unique(nodes)) == expected(a, b)


def test_links_are_fewer_than_the_nodes_of_a_bucket() -> None:
    """Of a clique of 1000 nodes no part hands on more than a link a node."""
    i, j = np.triu_indices(1000, 1)
    nodes = np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64)
    run = Run(layout_of(16), nodes[i], nodes[j])
    told = [output.stats["links"] for output in run.files["links"].values() if output.stats]
    assert len(told) == 16
    assert max(told) < 1000
    assert set(run.named(np.sort(nodes)).values()) == {int(nodes.min())}


def test_few_buckets_have_the_phases_of_a_tree_and_many_have_four() -> None:
    assert [p.name for p in forest_phases(layout_of(4), PAIRS)] == ["forest-0"]
    many = forest_phases(layout_of(8), PAIRS)
    assert [p.name for p in many] == ["links", "numbers", "joins", "forest"]
    assert [len(list(p.parts)) for p in many] == [8, 8, 8, 1]  # type: ignore[arg-type]


def test_the_top_asks_for_the_memory_of_its_numbers() -> None:
    """9 bytes a node, were all samples different and each near another."""
    shape = Shape((0, 1), (500_000_000,) * 2)
    *below, top = forest_phases(Layout(shape), PAIRS)
    assert {p.need.memory_gb for p in below} == {2}
    assert top.need.memory_gb == pytest.approx(9.5)
    assert forest_phases(layout_of(16), PAIRS)[-1].need.memory_gb == 2


def test_numbers_of_those_alone_are_no_numbers_of_nodes() -> None:
    """A hash that is 3 and near no other is not of the component numbered 3."""
    a, b = np.array([100], np.uint64), np.array([200], np.uint64)
    run, asked = Run(layout_of(16), a, b), np.arange(50, dtype=np.uint64)
    into = node_bucket(asked, 16)
    for number, part in enumerate(run.layout.bucket_parts):
        near, root = roots(part, run.inputs(root_files(run.layout, PAIRS, part)), asked[into == number])
        assert not near.any()
        assert (root >= ALONE).all()


# ---------------------------------------------------------------- what they are made of


@settings(deadline=None)
@given(edges=EDGES)
def test_spanning_edges_hang_together_what_all_do(edges: list[tuple[int, int]]) -> None:
    a, b = unlike(edges)
    kept = spanning(a, b)
    found = expected(a, b)
    assert expected(a[kept], b[kept]) == found
    assert kept.sum() == len(found) - len(set(found.values()))


@pytest.mark.parametrize("wide", [False, True])
def test_edges_come_piece_by_piece(wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In numbers of 32 bits and, beyond, of 64."""
    if wide:
        monkeypatch.setattr("stages.components.MOST_NODES", 100)
    rng = np.random.default_rng(0)
    i, j = rng.integers(0, 3000, (2, 2000))
    label = united(3000, ((i[p : p + 100], j[p : p + 100]) for p in range(0, 2000, 100)))
    assert label.dtype == (np.uint64 if wide else np.uint32)
    _, part = connected_components(coo_array((np.ones(2000), (i, j)), shape=(3000, 3000)), directed=False)
    _, first = np.unique(part, return_index=True)
    assert np.array_equal(label, first[part])
