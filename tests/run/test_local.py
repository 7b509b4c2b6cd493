"""Bytes of local rows: ranges, files and rows of parquet, each read once, and what cannot be read is said."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.run.fetch.local import LocalReader, Unreadable


def place(path: Path, offset: int | None = None, size: int | None = None, row: int | None = None) -> dict[str, object]:
    return {"path": str(path), "offset": offset, "size": size, "row": row}


def test_ranges_files_and_rows_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"0123456789")
    values = [f"image {i}".encode() for i in range(1000)]
    table = pa.table({"other": range(1000), "image": pa.array([{"bytes": v, "path": None} for v in values])})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=300)
    with LocalReader("image.bytes", 1000) as files:
        assert files.read(place(tmp_path / "a.bin", 2, 5)) == b"23456"
        assert files.read(place(tmp_path / "a.bin")) == b"0123456789"
        for row in (0, 1, 299, 300, 700, 999, 5):
            assert files.read(place(tmp_path / "a.parquet", row=row)) == values[row]
        assert files.read(place(tmp_path / "a.bin", 0, 1)) == b"0"
    with LocalReader("image", 1000) as files:
        assert files.read(place(tmp_path / "a.parquet", row=42)) == values[42]


def test_rising_rows_read_each_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": [bytes([i % 256]) for i in range(1000)]}), tmp_path / "a", row_group_size=100)
    groups: list[int] = []
    original = pq.ParquetFile.iter_batches

    def counted(self: pq.ParquetFile, *args: object, **options: list[int]) -> object:
        groups.extend(options["row_groups"])
        return original(self, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    with LocalReader("image", 10) as files:
        for row in range(0, 1000, 7):
            assert files.read(place(tmp_path / "a", row=row)) == bytes([row % 256])
    assert groups == list(range(10))


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"0123456789")
    (tmp_path / "big").write_bytes(bytes(2000))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    pq.write_table(pa.table({"image": [b"x", None], "n": [1, 2]}), tmp_path / "a.parquet")
    no_text = pa.StringArray.from_buffers(1, pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0])), pa.py_buffer(b"\xff\xd8"))
    pq.write_table(pa.table({"image": no_text}), tmp_path / "text.parquet")
    cases = [
        (place(tmp_path / "gone"), "unreadable", "No such file"),
        (place(tmp_path), "unreadable", "Is a directory"),
        (place(tmp_path / "a.bin", 8, 5), "unreadable", "ends 3 bytes early"),
        (place(tmp_path / "a.bin", 0, 1001), "too_big", "1001 bytes"),
        (place(tmp_path / "big"), "too_big", "bytes, 1000 allowed"),
        (place(tmp_path / "broken.parquet", row=0), "unreadable", "broken.parquet"),
        (place(tmp_path / "a.parquet", row=1), "unreadable", "row 1 holds null"),
        (place(tmp_path / "a.parquet", row=2), "unreadable", "no row 2"),
        (place(tmp_path / "text.parquet", row=0), "unreadable", "can't decode byte 0xff"),
    ]
    with LocalReader("image", 1000) as files:
        for where, outcome, detail in cases:
            with pytest.raises(Unreadable, match=detail) as caught:
                files.read(where)
            assert caught.value.outcome == outcome
        assert files.read(place(tmp_path / "a.parquet", row=0)) == b"x"
    for column, detail in (
        ("n", "holds int"),
        ("nope", "no column 'nope'; there are: image, n"),
        (None, "no column of"),
    ):
        with LocalReader(column, 1000) as files, pytest.raises(Unreadable, match=detail):
            files.read(place(tmp_path / "a.parquet", row=0))


def test_paths_of_other_file_systems_are_opened_by_fsspec() -> None:
    import fsspec

    with fsspec.open("memory://images/a.bin", "wb") as file:
        file.write(b"0123456789")
    where = {"path": "memory://images/a.bin", "offset": 2, "size": 3, "row": None}
    with LocalReader(None, 1000) as files:
        assert files.read(where) == b"234"
        with pytest.raises(Unreadable, match="gone"):
            files.read(where | {"path": "memory://images/gone.bin"})
