"""Where vectors meet: each pair that should is compared once, whatever visits, tiles and lists there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.near_vector_cells as module
import stages.near_vector_visits as visits_module
from stages.kmeans_training import Training
from stages.near_vector_cells import cells, groups_of, meetings, ordered
from stages.near_vector_rows import batches, node_of, packed, unpacked
from stages.near_vector_visits import Visits
from stages.vectors import dots, on_grid, unit
from tests.stages.test_near_vector_tiles import torch_without_gpu
from tests.stages.vector_parts import clumps, directions, vectors


def some_visits(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """int32 (n, 8): up to three different clusters of each row."""
    out = np.full((n, 8), -1, np.int32)
    for row in range(n):
        chosen = rng.permutation(k)[: rng.integers(1, min(3, k) + 1)]
        out[row, : len(chosen)] = chosen
    return out


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20), n=st.integers(0, 30), k=st.integers(1, 5), cut=st.integers(1, 4), old=st.integers(0, 30)
)
def test_who_meets_meets_in_each_common_home_once(seed: int, n: int, k: int, cut: int, old: int) -> None:
    rng = np.random.default_rng(seed)
    node = rng.choice(1000, n, replace=False).astype(np.uint64)
    visits = some_visits(rng, n, k)
    rows = meetings(node, visits, rng.integers(1, cut + 1, k))
    rows["node"] = node[rows["row"]]
    fresh = rows["row"] >= old
    order, segment = ordered(rows, fresh)
    seen: dict[tuple[int, int], set[int]] = {}
    for cell in cells(rows["cluster"][order], rows["tile"][order], segment):
        for a, b, c, d in cell.jobs:
            for i in range(a, b):
                for j in range(c if (a, b) != (c, d) else i + 1, d):
                    pair = tuple(sorted(rows["row"][order[[i, j]]].tolist()))
                    cluster = int(rows["cluster"][order[i]])
                    assert cluster not in seen.setdefault(pair, set()), "compared twice in one cluster"
                    seen[pair].add(cluster)
    expected = {}
    for i in range(n):
        for j in range(max(i + 1, old), n):
            homes = {int(visits[i, 0])} & set(visits[j].tolist()) | {int(visits[j, 0])} & set(visits[i].tolist())
            if homes:
                expected[i, j] = homes
    assert seen == expected


def test_equal_vectors_are_looked_at_once_and_the_old_one_stays() -> None:
    node = np.array([5, 5, 5, 7], np.uint64)
    rows = meetings(node, np.zeros((4, 1), np.int32), np.ones(1, np.int64)) | {"node": node}
    order, segment = ordered(rows, np.array([True, False, True, True]))
    assert [(int(node[i]), int(s)) for i, s in zip(order, segment, strict=True)] == [(7, 0), (5, 1)]


def test_large_clusters_are_cut_by_their_share_of_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAP", 100)
    assert groups_of(np.array([10, 1, 0, 89]), 1000).tolist() == [1, 1, 1, 9]
    assert groups_of(np.zeros(2, np.int64), 0).tolist() == [1, 1]
    assert groups_of(np.array([1]), 10**9).tolist() == [module.MOST]


# ---------------------------------------------------------------- which clusters


def plain_visits(x: np.ndarray, found: np.ndarray, penalty: np.ndarray, reach: float, most: int) -> np.ndarray:
    out = np.full((len(x), visits_module.MOST), -1, np.int32)
    for row, scores in enumerate(dots(x, found) - penalty):
        best = [at for at in np.lexsort((np.arange(len(found)), -scores)) if scores[at] >= scores.max() - reach]
        out[row, : len(best[:most])] = best[:most]
    return out


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    k=st.integers(1, 40),
    reach=st.sampled_from([0.0, 0.01, 0.1, 3.0]),
    most=st.sampled_from([1, 2, 8]),
    spherical=st.booleans(),
)
def test_clusters_within_reach_the_best_first(seed: int, k: int, reach: float, most: int, spherical: bool) -> None:
    """Also of centroids that are equal, or as good as: float32 does not tell them apart."""
    rng = np.random.default_rng(seed)
    x = unit(vectors(directions(30, 8, seed)), "test")[0]
    found = on_grid(directions(k, 8, seed + 1) * (1 if spherical else rng.uniform(0.2, 1, (k, 1))))
    found[k // 2 :] = found[: k - k // 2]
    by = Training(k=k, spherical=spherical)
    search = Visits(found, by, reach, most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visits_module, "ROWS", 7)
        assert np.array_equal(search.of(x), plain_visits(x, found, search.penalty, reach, most))


def test_the_way_of_a_gpu_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_without_gpu(monkeypatch, visits_module)
    x, found = (unit(vectors(directions(n, 8, n)), "test")[0] for n in (300, 40))
    cpu, gpu = (Visits(found, Training(k=40, device=d), 0.1).of(x) for d in ("cpu", "cuda"))  # type: ignore[arg-type]
    assert np.array_equal(cpu, gpu)
    assert (cpu[:, 1] >= 0).any()


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="4 dimensions, but centroids of 8"):
        Visits(on_grid(directions(3, 8)), Training(k=3), 0.1).of(on_grid(directions(2, 4)))


# ---------------------------------------------------------------- rows


def test_nodes_are_of_the_values() -> None:
    x = on_grid(clumps(3, 3, 4))
    node = node_of(np.concatenate([x, x[::-1], x * -0.0, x * 0.0]))
    assert node[:9].tolist() == node[9:18][::-1].tolist()
    assert len(set(node.tolist())) == 10
    assert node_of(np.zeros((0, 4), np.float32)).tolist() == []


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_vectors_are_packed_as_they_are(kind: Any) -> None:
    import pyarrow as pa

    x = directions(10, 3).astype(kind)
    table = pa.table(packed(x)).slice(4, 5)
    back = unpacked(table)
    assert back.dtype == kind
    assert np.array_equal(back, x[4:9])


@pytest.mark.parametrize(
    ("sizes", "expected"), [([], []), ([9], [(0, 1)]), ([2, 2, 2, 9, 1], [(0, 2), (2, 3), (3, 4), (4, 5)])]
)
def test_batches(sizes: list[int], expected: list[tuple[int, int]]) -> None:
    assert list(batches(sizes, 5)) == expected
