"""Parquet files of a pool: one bucket of a file is read without the others, also from an object store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.pool.columns import read_footer, read_table, write_groups
from curate.pool.storage import Storage


def buckets(count: int = 5, rows: int = 3000) -> list[pa.Table]:
    rng = np.random.default_rng(0)
    return [
        pa.table(
            {
                "n": rng.integers(0, 2**60, rows if b != 2 else 0),
                "word": pa.array([f"w{i % 7}" for i in range(rows if b != 2 else 0)], pa.string()),
                "vector": pa.FixedSizeListArray.from_arrays(
                    pa.array(rng.standard_normal(8 * (rows if b != 2 else 0)).astype(np.float16)), 8
                ),
            }
        )
        for b in range(count)
    ]


@pytest.mark.parametrize("where", ["local", "s3"])
@pytest.mark.parametrize("columns", [None, ["word"], ["vector", "n"]])
def test_a_bucket_is_what_was_written(
    where: str, columns: list[str] | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    storage = Storage.at(str(tmp_path) if where == "local" else request.getfixturevalue("s3_root"))
    written = buckets()
    storage.commit("a/b.parquet", write_groups(written, {"rows": 1}))
    for number, table in enumerate(written):
        found, footer = read_table(storage, "a/b.parquet", columns, group=number)
        expected = table if columns is None else table.select([c for c in table.column_names if c in columns])
        assert found.select(expected.column_names).equals(expected)
        assert found.num_columns == expected.num_columns
        assert footer["rows"] == 1
    whole, _ = read_table(storage, "a/b.parquet")
    assert whole.equals(pa.concat_tables(written))
    assert read_footer(storage, "a/b.parquet")["groups"] == [0, 1, None, 2, 3]


def test_no_more_than_the_bucket_travels(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.at(s3_root)
    written = buckets(16, 20_000)
    data = write_groups(written, {})
    storage.commit("a.parquet", data)
    travelled: list[int] = []
    ranges, tail = storage.read_range, storage.tail

    def counted(rel: str, offset: int, size: int) -> bytes:
        travelled.append(size)
        return ranges(rel, offset, size)

    def no(rel: str) -> bytes:
        raise AssertionError(f"all of {rel} was read")

    monkeypatch.setattr(storage, "read_range", counted)
    monkeypatch.setattr(storage, "tail", lambda rel, size: tail(rel, size))
    monkeypatch.setattr(storage, "read", no)
    found, _ = read_table(storage, "a.parquet", group=7)
    assert found.equals(written[7])
    assert sum(travelled) < len(data) / 8
