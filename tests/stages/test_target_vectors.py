"""Files of targets: read in blocks, and refused where they are none."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import stages.target_vectors as module
from stages.target_vectors import checked_npy, target_blocks, target_shape, targets
from tests.stages.vector_parts import directions


def test_targets(tmp_path: Any) -> None:
    np.save(tmp_path / "t.npy", (2 * directions(5, 3)).astype(np.float16))
    found = targets(str(tmp_path / "t.npy"), "test")
    assert found.shape == (5, 3)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6


def test_files_that_are_no_targets_are_refused(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"norm_sim: no target vectors at .*give a \.npy file"):
        checked_npy(str(tmp_path / "none.npy"), "norm_sim")
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"is no \.npy file of numbers"):
        checked_npy(str(tmp_path / "text.npy"), "norm_sim")
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"must hold floats of shape \(n, dim\)"):
        checked_npy(str(tmp_path / "flat.npy"), "norm_sim")
    np.save(tmp_path / "zero.npy", np.array([[1.0, 0], [0, 0]]))
    with pytest.raises(ValueError, match="row 1: zeros, or not finite"):
        targets(str(tmp_path / "zero.npy"), "norm_sim")


def test_a_file_is_read_in_blocks(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never as a whole: the memory is a block's, however long the file is."""
    monkeypatch.setattr(module, "MANY", 256)
    path = str(tmp_path / "long.npy")
    np.save(path, directions(20_000, 32).astype(np.float16))
    tracemalloc.start()
    found = [(start, block.shape) for start, block in target_blocks(path, "test")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
    assert [start for start, _ in found] == list(range(0, 20_000, 256))
    assert sum(rows for _, (rows, _) in found) == 20_000
    assert target_shape(path, "test") == (20_000, 32)
    assert np.array_equal(np.vstack([block for _, block in target_blocks(path, "test")]), targets(path, "test"))
