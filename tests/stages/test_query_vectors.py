"""Vectors in files are read a few rows at a time, of length one, and what is no such file is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.query_vectors as module
from stages.query_vectors import VectorFile
from tests.stages.vector_parts import as_stored, directions, vectors

X = 3 * directions(40, 6)


def of(path: Path, column: str = "v") -> VectorFile:
    return VectorFile(str(path), column, "retrieve")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[VectorFile]:
    folder = tmp_path_factory.mktemp("vectors")
    np.save(folder / "x.npy", X.astype(np.float16))
    fixed = vectors(X)
    pq.write_table(pa.table({"v": fixed}), folder / "fixed.parquet", row_group_size=7)
    pq.write_table(pa.table({"v": fixed.cast(pa.list_(pa.float16()))}), folder / "lists.parquet", row_group_size=13)
    return [of(folder / name) for name in ("x.npy", "fixed.parquet", "lists.parquet")]


@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, 45), count=st.integers(0, 45))
def test_any_rows_of_any_kind_of_file(files: list[VectorFile], start: int, count: int) -> None:
    for file in files:
        assert file.shape == (40, 6)
        number, found = file.rows(start, start + count)
        assert found.dtype == np.float32
        assert number.tolist() == list(range(start, max(start, min(40, start + count))))
        if len(found):
            np.testing.assert_allclose(found, as_stored(X)[start : start + count], atol=1e-7)


def test_only_row_groups_that_hold_them_are_read(files: list[VectorFile], monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    plain = pq.ParquetFile.read_row_group

    def noting(self: Any, number: int, **more: Any) -> pa.Table:
        read.append(number)
        return plain(self, number, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noting)
    files[1].rows(13, 22)
    assert read == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "made", "said"),
    [
        ("away.npy", None, r"no target vectors at .*away.npy"),
        ("away.parquet", None, r"retrieve: no vectors at .*away.parquet; give"),
        ("text.parquet", b"no parquet", "is no parquet file"),
        ("other.parquet", {"w": vectors(X)}, "has no column 'v'; say `column:`, one of w"),
        ("numbers.parquet", {"v": [1, 2]}, "expected a column of vectors"),
        ("none.parquet", {"v": vectors(X[:0])}, "has no rows"),
        ("uneven.npy", np.zeros(3), "must hold floats"),
    ],
)
def test_what_is_no_file_of_vectors_is_told(tmp_path: Path, name: str, made: Any, said: str) -> None:
    if isinstance(made, bytes):
        (tmp_path / name).write_bytes(made)
    elif isinstance(made, dict):
        pq.write_table(pa.table(made), tmp_path / name)
    elif made is not None:
        np.save(tmp_path / name, made)
    with pytest.raises(ValueError, match=said):
        of(tmp_path / name).checked()


@pytest.mark.parametrize("lists", [False, True])
def test_rows_without_a_direction_are_left_out(tmp_path: Path, lists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY", 9)
    gone = [0, *range(18, 27), 31]  # the first, a whole block, and one more
    x = X.copy()
    x[gone] = 0
    np.save(tmp_path / "x.npy", x.astype(np.float16))
    column = vectors(X, null=gone)
    pq.write_table(pa.table({"v": column.cast(pa.list_(pa.float16())) if lists else column}), tmp_path / "x.parquet")
    there = [i for i in range(40) if i not in gone]
    for name in ("x.npy", "x.parquet"):
        file = of(tmp_path / name)
        assert file.checked() == str(tmp_path / name)
        assert file.shape == (40, 6)
        assert file.rows(28, 34)[0].tolist() == [28, 29, 30, 32, 33]
        assert [len(a) for a in file.rows(18, 27)] == [0, 0]
        number, found = (np.concatenate(some) for some in zip(*file.blocks(), strict=True))
        assert number.tolist() == there
        np.testing.assert_allclose(found, as_stored(X)[there], atol=1e-7)
