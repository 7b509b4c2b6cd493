"""NormSim against its definition, for both norms, by every way of searching."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

import stages.target_vectors as target_vectors
from stages.base import Batch
from stages.norm_sim import NormSim, norm_sim_2
from stages.vectors import on_grid
from tests.stages.vector_parts import as_stored, blind_torch, directions, vectors

DIM = 10


@pytest.fixture
def target(tmp_path: Path) -> str:
    np.save(tmp_path / "target.npy", (3 * directions(70, DIM, 9)).astype(np.float32))
    return str(tmp_path / "target.npy")


def run(target: str, x: np.ndarray, null: tuple[int, ...] = (), **more: Any) -> list[float | None]:
    stage = NormSim(vectors="v", target=target, **more)
    found = stage.run(Batch.of(pa.table({"v": vectors(x, null=null)})))
    assert found.schema == stage.writes()
    return list(found.column(0).to_pylist())


def test_the_largest_cosine(target: str) -> None:
    x = directions(40, DIM)
    found = run(target, x, null=(3,))
    expected = (as_stored(x) @ directions(70, DIM, 9).T).max(axis=1)
    assert found[3] is None
    assert [f for i, f in enumerate(found) if i != 3] == pytest.approx(np.delete(expected, 3), abs=6e-5)


def test_a_member_of_the_target_is_at_one(target: str) -> None:
    assert run(target, directions(70, DIM, 9)[:5]) == [1.0] * 5


@pytest.mark.parametrize("squared", [False, True])
def test_the_second_norm(target: str, squared: bool) -> None:
    x, goal = directions(40, DIM), directions(70, DIM, 9)
    expected = np.linalg.norm(as_stored(x) @ goal.T, axis=1)
    found = run(target, x, p=2, squared=squared)
    assert found == pytest.approx(expected**2 if squared else expected, abs=1e-4)
    v = as_stored(x)[0]
    assert expected[0] ** 2 == pytest.approx(v @ (goal.T @ goal) @ v)
    assert norm_sim_2(on_grid(as_stored(x)), on_grid(goal)) == pytest.approx(expected, abs=1e-6)


def test_the_batch_does_not_show(target: str) -> None:
    x = directions(50, DIM)
    for p in ("inf", 2):
        whole = run(target, x, p=p)
        assert [run(target, x[i : i + 1], p=p)[0] for i in range(50)] == whole


def test_plain_lists_without_a_vector_have_no_score(target: str) -> None:
    for p in ("inf", 2):
        stage = NormSim(vectors="v", target=target, p=p)
        for rows in (0, 3):
            found = stage.run(Batch.of(pa.table({"v": pa.array([None] * rows, pa.list_(pa.float32()))})))
            assert found.column(0).to_pylist() == [None] * rows


def test_the_second_norm_holds_no_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix (dim, dim) is all that it needs of them."""
    path = str(tmp_path / "long.npy")
    np.save(path, directions(20_000, 16).astype(np.float32))
    monkeypatch.setattr(target_vectors, "MANY", 256)
    stage = NormSim(vectors="v", target=path, p=2)
    tracemalloc.start()
    stage.open()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # the targets are 1.3 MB
    assert stage.need().memory_gb == 1.5


def test_what_cannot_be_is_said_first(target: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="squared goes with p: 2"):
        NormSim(vectors="v", target=target, squared=True)
    with pytest.raises(ValueError, match="norm_sim: no target vectors at"):
        NormSim(vectors="v", target=str(tmp_path / "none.npy")).files()
    with pytest.raises(ValueError, match=r"the column has 4 dimensions and .* has 10; take vectors of one model"):
        run(target, directions(3, 4))


def test_a_gpu_that_is_not_there_is_said_when_it_is_opened(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    blind_torch(monkeypatch)
    with pytest.raises(ValueError, match="norm_sim: device: cuda, but torch finds no GPU here; write device: cpu"):
        NormSim(vectors="v", target=target, device="cuda").open()


def test_equal_parameters_are_one_stage(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(target).parent)
    near = NormSim(vectors="v", target="target.npy", p=float("inf"), device="cuda")
    assert near.identity() == NormSim(vectors="v", target=target).identity()
    assert near.files() == (target,)
    assert near.need().gpus == 1
