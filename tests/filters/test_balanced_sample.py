"""Balanced sampling of a hierarchy: values of the specification, the reference's recursion, any cut into shards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from filters.balanced_sample import BalancedSample, draws, spread
from tests.stages.vector_parts import CUTS, answers, kept, pool_of


def drawn(k: int, level: int = 0) -> np.ndarray:
    return draws(0, level, np.arange(k))


def test_the_values_of_the_specification() -> None:
    assert spread(np.array([100, 10, 5, 2]), 40, drawn(4)).tolist() == [23, 10, 5, 2]
    assert spread(np.array([100, 10, 5, 2]), 117, drawn(4)).tolist() == [100, 10, 5, 2]
    assert spread(np.array([100, 10, 5, 2]), 999, drawn(4)).tolist() == [100, 10, 5, 2]
    assert spread(np.array([100, 10, 5, 2]), 0, drawn(4)).tolist() == [0, 0, 0, 0]


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=20), wanted=st.integers(0, 400))
def test_the_cut_is_the_largest_that_fits(sizes: list[int], wanted: int) -> None:
    array = np.array(sizes)
    found = spread(array, wanted, drawn(len(sizes)))
    assert found.sum() == min(wanted, sum(sizes))
    assert (found <= array).all()
    if wanted < sum(sizes):
        cut = max(c for c in range(31) if np.minimum(array, c).sum() <= wanted)
        assert set((found - np.minimum(array, cut)).tolist()) <= {0, 1}
        more = np.flatnonzero(found > np.minimum(array, cut))
        others = [i for i in np.flatnonzero(array > cut) if i not in more]
        assert all(drawn(len(sizes))[i] < drawn(len(sizes))[j] for i in more for j in others)


LEAVES = np.random.default_rng(3).choice(12, 200, p=np.arange(12, 0, -1) / 78)
PARENT = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 4])
TOP = np.array([0, 0, 0, 1, 1])
FAR = np.round(np.random.default_rng(4).uniform(0, 0.05, 200), 3).astype(np.float32)


def pool(
    shards: int = 1, seed: int | None = None, null: tuple[int, ...] = (), asked: bool = False
) -> dict[int, pa.Table]:
    gone = np.isin(np.arange(200), null)
    columns = {
        "h_1": pa.array(LEAVES, pa.int32(), mask=gone),
        "h_2": pa.array(PARENT[LEAVES], pa.int32(), mask=gone),
        "h_3": pa.array(TOP[PARENT[LEAVES]], pa.int32(), mask=gone),
        "h_distance": pa.array(FAR, mask=gone),
    }
    if asked:
        columns["asked"] = pa.array([i % 3 > 0 for i in range(200)])
    return pool_of(columns, shards, seed)


def sample(**more: Any) -> BalancedSample:
    return BalancedSample(**{"levels": ("h_1", "h_2", "h_3"), "samples": 60, "over": "pool", **more})


def by_recursion(rows: np.ndarray, level: int, wanted: int) -> list[int]:
    """As the reference goes down, with the same draws."""
    ids = [LEAVES, PARENT[LEAVES], TOP[PARENT[LEAVES]]]
    if level < 0:
        return rows[np.lexsort((rows, FAR[rows]))][:wanted].tolist()
    here = ids[level][rows]
    clusters, sizes = np.unique(here, return_counts=True)
    given = spread(sizes, wanted, draws(0, level, clusters))
    return [n for c, w in zip(clusters, given, strict=True) for n in by_recursion(rows[here == c], level - 1, int(w))]


@pytest.mark.parametrize("samples", [1, 7, 60, 199, 200, 500])
def test_as_the_reference_goes_down(samples: int) -> None:
    found = answers(pool(), sample(samples=1.5 if samples == 1 else samples))
    assert kept(found) == sorted(by_recursion(np.arange(200), 2, samples))
    assert len(kept(found)) == min(samples, 200)


def test_one_level_evens_out() -> None:
    found = kept(answers(pool(), sample(levels=("h_1",), samples=0.3)))
    sizes = np.bincount(LEAVES[found], minlength=12)
    assert len(found) == 60
    whole = np.bincount(LEAVES, minlength=12)
    assert np.ptp(sizes[whole > sizes]) <= 1


@pytest.mark.parametrize("rows", [1 << 21, 17])
def test_no_cut_shows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "ROWS", rows)
    for chosen in (
        sample(over="survivors", on_missing="drop"),
        sample(pick="random", on_missing="drop", seed=5),
        sample(repeats=3, samples=400, on_missing="drop"),
    ):
        first, *others = (answers(pool(shards, seed, (5, 7), asked=True), chosen, seed) for shards, seed in CUTS)
        assert all(other == first for other in others)
        assert first != answers(pool(null=(5, 7), asked=True), chosen.model_copy(update={"seed": 6}))


def test_rows_are_repeated_evenly() -> None:
    found = answers(pool(), sample(repeats=4, samples=500))
    copies = np.array([c or 0 for *_, c in found])
    assert copies.sum() == 500
    assert copies.max() <= 4
    assert [keep for keep, *_ in found] == (copies > 0).tolist()
    for leaf in range(12):
        assert np.ptp(copies[leaf == LEAVES]) <= 1
    assert np.array([c for *_, c in answers(pool(), sample(repeats=4, samples=10_000))]).tolist() == [4] * 200


@pytest.mark.parametrize(("policy", "expected"), [("drop", (False, "missing")), ("keep", (True, None))])
def test_missing_clusters_follow_the_policy(policy: Any, expected: tuple[bool, str | None]) -> None:
    assert answers(pool(2, 1, (7,)), sample(on_missing=policy))[7] == expected


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match=r"sample 0{31}7 has no 'h_1', 'h_2', 'h_3', 'h_distance'"):
        answers(pool(2, 1, (7,)), sample())
    with pytest.raises(ValueError, match="cluster 0 of 'h_2' lies in two clusters of 'h_1'; name levels"):
        answers(pool(), sample(levels=("h_2", "h_1"), distance="h_distance"))
    with pytest.raises(ValidationError, match="distance: name the column of distances to the centroids of 'cluster'"):
        sample(levels=("cluster",))
    assert sample(levels=("cluster",), pick="random").reads() == ("cluster",)
    assert sample().reads() == ("h_1", "h_2", "h_3", "h_distance")
