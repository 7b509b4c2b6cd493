"""Clusters that hold a target picture, against nearest centroids by hand."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import stages.target_vectors as target_vectors
from stages.base import Shape
from stages.cluster_match import ClusterMatch
from stages.kmeans import Clusters, KMeans
from stages.kmeans_training import centroids
from tests.phase_runner import PhaseRunner
from tests.stages.vector_parts import CUTS, answers, as_stored, by_number, clumps, directions, pool_of, vectors


@pytest.fixture
def target(tmp_path: Path) -> str:
    np.save(tmp_path / "target.npy", directions(6, 8, 77).astype(np.float32))
    return str(tmp_path / "target.npy")


def match(target: str, **clusters: Any) -> ClusterMatch:
    return ClusterMatch(vectors="v", clusters=Clusters(**{"k": 12, **clusters}), target=target)


def pool(shards: int = 1, seed: int | None = None) -> dict[int, pa.Table]:
    return pool_of({"v": vectors(clumps(9, 10, 8, 0.9), null=[4])}, shards, seed)


@pytest.mark.parametrize("assign", ["nearest", "dot"])
def test_the_clusters_of_the_targets_are_kept(target: str, assign: str) -> None:
    chosen = match(target, assign=assign)
    runner = PhaseRunner(pool())
    found = [m for (m,) in by_number(pool(), runner.run(chosen))]
    (output,) = runner.files[chosen.kmeans()]["centroids"].values()
    centre = centroids(output.tables).astype(float)

    def nearest(x: np.ndarray) -> np.ndarray:
        return np.asarray((x @ centre.T - (0 if assign == "dot" else (centre**2).sum(axis=1) / 2)).argmax(axis=1))

    marked = set(nearest(directions(6, 8, 77)).tolist())
    expected: list[bool | None] = [c in marked for c in nearest(as_stored(clumps(9, 10, 8, 0.9))).tolist()]
    expected[4] = None
    assert found == expected
    assert 0 < sum(m is True for m in found) < 89
    (stats,) = runner.stats(chosen, "targets").values()
    assert stats == {"clusters": 12, "marked": len(marked), "targets": 6}


def test_members_of_the_pool_match_themselves(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", clumps(9, 10, 8, 0.9).astype(np.float16))
    found = answers(pool(), match(str(tmp_path / "all.npy")))
    assert found == [(None,) if i == 4 else (True,) for i in range(90)]


def test_no_cut_shows(target: str) -> None:
    first, *others = (answers(pool(shards, seed), match(target, k="n/8"), seed) for shards, seed in CUTS)
    assert all(other == first for other in others)


def test_targets_come_in_blocks_and_their_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "long.npy")
    np.save(path, clumps(900, 10, 8, 0.9).astype(np.float32))
    chosen = match(path)
    first = answers(pool(), chosen)
    monkeypatch.setattr(target_vectors, "MANY", 100)
    runner = PhaseRunner(pool())
    assert by_number(pool(), runner.run(chosen)) == first
    assert runner.stats(chosen, "targets")["all"]["targets"] == 9000
    (output,) = runner.files[chosen]["targets"].values()
    assert sum(output.tables.column("targets").to_pylist()) == 9000
    found = centroids(runner.files[chosen.kmeans()]["centroids"]["all"].tables)
    tracemalloc.start()
    chosen._targets(found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150_000  # the file in float64 is 576 kB


def test_what_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1_281_167, 768)})
    with path.open("wb") as file:  # holes: it takes no room on disk
        file.write(header.getvalue())
        file.truncate(len(header.getvalue()) + 1_281_167 * 768 * 4)
    shape = Shape(tuple(range(1280)), (10_000,) * 1280)

    def need(k: Any, target: str) -> float:
        (phase,) = (p for p in match(target, k=k).phases(shape) if p.name == "targets")
        return phase.need.memory_gb

    few, many = need(12, str(path)), need("min(max(n/128, 1000), 100000)", str(path))
    assert few == pytest.approx(4 + 3.9, abs=0.1)
    assert many == pytest.approx(few + 100_000 * 1024 * 32e-9, abs=0.2)
    assert match(str(path)).files() == (str(path),)


def test_equal_clusters_are_shared(target: str) -> None:
    assert match(target, spherical=True).kmeans() == KMeans(vectors="v", k=12, spherical=True)
    named = match(target, only="ok").kmeans()
    assert named == KMeans(vectors="v", k=12, only="ok")
    assert match(target, device="cuda").identity() == match(target).identity()


def test_what_cannot_be_is_said(target: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cluster_match: no target vectors at"):
        match(str(tmp_path / "none.npy")).files()
    assert match(target).files() == (target,)
    with pytest.raises(ValueError, match=r"v has 4 dimensions and .* has 8; take vectors of one model"):
        answers(pool_of({"v": vectors(directions(20, 4))}), match(target))
    with pytest.raises(ValueError, match="no vector was there to cluster"):
        answers(pool_of({"v": vectors(directions(2, 8), null=range(2))}), match(target, k="n/4"))
