"""The nearest of an evaluation set's vectors, against all products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stages.eval_vectors as eval_vectors
import stages.query_vectors as query_vectors
from stages.eval_sets import EvalSet
from stages.eval_vectors import NONE, UNIT, counted, nearest_vectors
from stages.query_vectors import VectorFile
from stages.vectors import as_column, dots, lengths, unit


def grid(x: np.ndarray) -> np.ndarray:
    return unit(as_column(x.astype(np.float32)), "a test")[0]


def some(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(vectors asked about, vectors of a set): copies at all distances, and equal ones of any length."""
    of_set = rng.normal(size=(300, 24))
    of_set[200:230] = 3 * of_set[:30]
    asked = rng.normal(size=(160, 24))
    asked[:100] = of_set[100:200] + rng.normal(size=(100, 24)) * np.linspace(0, 1.5, 100)[:, None]
    asked[100:110] = of_set[200:210]
    return asked, of_set


@pytest.mark.parametrize("tile", [7, 64, 1024])
def test_as_all_products_say_whatever_the_tiles(tile: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, of_set = some(np.random.default_rng(3))
    np.save(tmp_path / "set.npy", of_set)
    monkeypatch.setattr(eval_vectors, "TILE", tile)
    monkeypatch.setattr(eval_vectors, "CLOSER", 5)
    x, y = grid(asked), grid(of_set)
    cosines = np.rint(dots(x, y) / (lengths(x)[:, None] * lengths(y)) * UNIT).astype(np.int64)
    wanted = np.where(cosines.max(axis=1) > 700_000, cosines.argmax(axis=1), NONE)
    blocks = ((np.arange(300)[start : start + tile], y[start : start + tile]) for start in range(0, 300, tile))
    for source in (blocks, VectorFile(str(tmp_path / "set.npy"), "", "a test").blocks()):
        level, row = nearest_vectors(x, source, 0.7, "a test")
        assert row.tolist() == wanted.tolist()
        assert (level[row >= 0] == cosines.max(axis=1)[row >= 0]).all()
    assert 60 < (wanted >= 0).sum() < 140
    assert set(wanted[100:110]) == set(range(10)), "of equal vectors the first is named"


def test_above_is_not_equal() -> None:
    x = grid(np.array([[1.0, 0.0], [0.8, 0.6]]))
    level, row = nearest_vectors(x, iter([(np.arange(1), x[:1])]), 0.8, "a test")
    assert (level[0], row.tolist()) == (UNIT, [0, NONE])
    assert nearest_vectors(x, iter([(np.arange(1), x[:1])]), 0.799998, "a test")[1].tolist() == [0, 0]


@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_products_of_torch_give_the_same(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on a GPU, where there is one; and the same lines on the CPU."""
    torch = pytest.importorskip("torch", reason="torch is not installed: no products on a GPU")
    if place == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU on this machine: products on one are not compared")
    monkeypatch.setattr(eval_vectors, "gpu_torch", lambda what: torch)
    monkeypatch.setattr(eval_vectors, "GPU", place)
    monkeypatch.setattr(eval_vectors, "TILE", 50)
    asked, of_set = map(grid, some(np.random.default_rng(5)))
    number = np.arange(300)
    found = [
        nearest_vectors(
            asked, iter([(number[:170], of_set[:170]), (number[170:], of_set[170:])]), 0.7, "a test", device
        )
        for device in ("cpu", "cuda")
    ]
    assert found[0][1].tolist() == found[1][1].tolist()
    assert found[0][0].tolist() == found[1][0].tolist()
    assert (found[0][1] != NONE).sum() > 50


def test_without_a_gpu_it_is_said() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="torch finds no GPU here"):
        nearest_vectors(grid(np.ones((1, 2))), iter([]), 0.5, "a set", "cuda")


def test_parquet_gives_what_npy_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, of_set = (a.astype(np.float16) for a in some(np.random.default_rng(4)))
    np.save(tmp_path / "set.npy", of_set)
    pq.write_table(pa.table({"isc": as_column(of_set)}), tmp_path / "set.parquet")
    monkeypatch.setattr(query_vectors, "MANY", 41)
    found = [
        nearest_vectors(grid(asked), VectorFile(str(tmp_path / f), "isc", "a test").blocks(), 0.7, "a test")
        for f in ("set.npy", "set.parquet")
    ]
    assert found[0][1].tolist() == found[1][1].tolist()
    assert found[0][0].tolist() == found[1][0].tolist()


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": as_column(np.zeros((2, 4), np.float32))}), tmp_path / "set.parquet")
    chosen = EvalSet(name="a", vectors=str(tmp_path / "set.parquet"), vectors_column="w").vector_file()
    assert chosen is not None
    with pytest.raises(ValueError, match=r"evaluation set a: .* no column 'w'; say `vectors_column:`, one of v"):
        chosen.checked()
    with pytest.raises(ValueError, match="2 dimensions and the set's vectors 3"):
        nearest_vectors(grid(np.ones((1, 2))), iter([(np.arange(1), grid(np.ones((1, 3))))]), 0.5, "a set")


def test_vectors_are_counted_and_those_that_say_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.vstack([np.zeros(4), np.eye(4), np.full(4, np.nan)]))
    file = VectorFile(str(tmp_path / "v.npy"), "", "a set")
    assert counted(file, 6) == counted(file, None) == {"vectors": 6, "without_vector": 2}
    with pytest.raises(ValueError, match="a set: 5 pictures and 6 vectors"):
        counted(file, 5)
    np.save(tmp_path / "v.npy", np.zeros((3, 4)))
    with pytest.raises(ValueError, match="all 3 rows are null, zeros"):
        counted(VectorFile(str(tmp_path / "v.npy"), "", "a set"), None)


def test_rows_without_a_direction_are_near_to_nobody() -> None:
    """Whatever the bound: also where a cosine of nothing would be above it."""
    blocks = iter([(np.array([3, 7]), grid(np.array([[0.0, 1.0], [1.0, 0.0]])))])
    level, row = nearest_vectors(grid(np.array([[1.0, 0.1]])), blocks, -1, "a set")
    assert (row.tolist(), level[0] > 990_000) == ([7], True)
