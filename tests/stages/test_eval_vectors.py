"""The nearest of an evaluation set's vectors, against all products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stages.eval_vectors as eval_vectors
from stages.eval_vectors import NONE, UNIT, nearest_vectors
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
    blocks = ((start, y[start : start + tile]) for start in range(0, 300, tile))
    for source in (blocks, eval_vectors.eval_vectors(str(tmp_path / "set.npy"), "", "a test")):
        level, row, rows = nearest_vectors(x, source, 0.7, "a test")
        assert row.tolist() == wanted.tolist()
        assert rows == 300
        assert (level[row >= 0] == cosines.max(axis=1)[row >= 0]).all()
    assert 60 < (wanted >= 0).sum() < 140
    assert set(wanted[100:110]) == set(range(10)), "of equal vectors the first is named"


def test_above_is_not_equal() -> None:
    x = grid(np.array([[1.0, 0.0], [0.8, 0.6]]))
    level, row, _ = nearest_vectors(x, iter([(0, x[:1])]), 0.8, "a test")
    assert (level[0], row.tolist()) == (UNIT, [0, NONE])
    assert nearest_vectors(x, iter([(0, x[:1])]), 0.799998, "a test")[1].tolist() == [0, 0]


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
    found = [
        nearest_vectors(asked, iter([(0, of_set[:170]), (170, of_set[170:])]), 0.7, "a test", device)
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
    monkeypatch.setattr(eval_vectors, "MANY", 41)
    found = [
        nearest_vectors(grid(asked), eval_vectors.eval_vectors(str(tmp_path / f), "isc", "a test"), 0.7, "a test")
        for f in ("set.npy", "set.parquet")
    ]
    assert found[0][1].tolist() == found[1][1].tolist()
    assert found[0][0].tolist() == found[1][0].tolist()


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": as_column(np.zeros((2, 4), np.float32))}), tmp_path / "set.parquet")
    path = str(tmp_path / "set.parquet")
    with pytest.raises(ValueError, match="no column 'w', but v"):
        eval_vectors.checked_vectors(path, "w", "a set")
    with pytest.raises(ValueError, match="row 0: null, zeros, or not finite"):
        list(eval_vectors.eval_vectors(path, "v", "a set"))
    for missing in ("none.npy", "none.parquet"):
        with pytest.raises(ValueError, match=r"vectors at .*none"):
            eval_vectors.checked_vectors(str(tmp_path / missing), "v", "a set")
    with pytest.raises(ValueError, match="2 dimensions and the set's vectors 3"):
        nearest_vectors(grid(np.ones((1, 2))), iter([(0, grid(np.ones((1, 3))))]), 0.5, "a set")
