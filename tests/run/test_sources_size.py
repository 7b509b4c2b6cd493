"""Sources of any size, in any place: bounded batches, remote globs, hashes and names of lists."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import UserError
from curate.pool.lists import Findings
from curate.run.sources import SourceSpec, open_source, tables


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))


def write(path: Path, data: bytes | str) -> Path:
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def long_list(tmp_path) -> Path:
    file = tmp_path / "a.csv"
    with file.open("w") as f:
        f.write("url,text,score\n")
        f.writelines(f"http://example.org/pictures/{i}.jpg,a caption number {i},{i / 7}\n" for i in range(300_000))
    return file


def test_a_long_list_comes_in_batches(long_list):
    source, found = open_source(SourceSpec(path=str(long_list))), Findings()
    before = pa.total_allocated_bytes()
    for reading in (source.survey, source.rows):
        total = 0
        for rows in reading(found):
            total += rows.table.num_rows
            assert rows.table.num_rows <= 1 << 16
            assert pa.total_allocated_bytes() - before < 40 << 20
        assert total == 300_000


def test_memory_is_that_of_a_batch(long_list, monkeypatch):
    monkeypatch.setattr(tables, "ROWS", 2048)
    tracemalloc.start()
    try:
        rows = open_source(SourceSpec(path=str(long_list))).survey(Findings())
        seen = sum(next(rows).table.num_rows for _ in range(25))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == 25 * 2048
    assert peak < 6 << 20  # 51,200 rows as Python strings would be some 20 MB


def test_huge_captions_make_small_batches(tmp_path):
    lines = ({"url": f"u{i}", "text": "z" * 1_000_000} for i in range(40))
    file = write(tmp_path / "a.jsonl", "".join(json.dumps(x) + "\n" for x in lines))
    found = Findings()
    sizes = [(r.table.num_rows, r.table.nbytes) for r in open_source(SourceSpec(path=str(file))).survey(found)]
    assert sum(n for n, _ in sizes) == 40
    assert max(b for _, b in sizes) < 64 << 20
    pq.write_table(
        pa.table({"url": [f"u{i}" for i in range(30)], "text": ["z" * 4_000_000] * 30}),
        tmp_path / "b.parquet",
        use_dictionary=False,
    )
    spec = SourceSpec(path=str(tmp_path / "b.parquet"))
    assert max(r.table.nbytes for r in open_source(spec).survey(Findings())) < 64 << 20


def test_remote_paths_and_globs(tmp_path):
    fs = fsspec.filesystem("memory")
    fs.pipe("/lists/b.csv", b"url,text\nv,t\n")
    fs.pipe("/lists/a.csv.gz", gzip.compress(b"url,text\nu,t\n"))
    found = Findings()
    source = open_source(SourceSpec(path="memory://lists/*"))
    for reading in (source.survey, source.rows):
        assert [u for r in reading(found) for u in r.table.column("url").to_pylist()] == ["u", "v"]
    with pytest.raises(UserError, match="no such file"):
        open_source(SourceSpec(path="memory://lists/c.csv"))


def test_hash_is_of_contents_and_columns_not_of_places(tmp_path):
    (tmp_path / "sub").mkdir()
    a, b = (write(p / "a.csv", "url,text\nu,t\n") for p in (tmp_path, tmp_path / "sub"))
    first = open_source(SourceSpec(path=str(a))).hash
    assert open_source(SourceSpec(path=str(b), name="other")).hash == first
    assert open_source(SourceSpec(path=str(a), text=None)).hash != first
    assert (tmp_path / "cache" / "digests.json").exists()
    write(a, "url,text\nu,T\n")
    assert open_source(SourceSpec(path=str(a))).hash != first
    (tmp_path / "cache" / "digests.json").write_text("{torn")
    assert open_source(SourceSpec(path=str(b))).hash == first


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/My List.csv.gz", "my_list"),
        ("s3://bucket/laion/*.parquet", "laion"),
        ("/data/{0..9}.tar", "0_9"),
        ("photos/", "photos"),
        ("/", "list"),
    ],
)
def test_names_of_lists(path, name):
    assert SourceSpec(path=path).list_name == name


def test_a_gzipped_parquet_with_image_bytes_is_refused_with_the_remedy(tmp_path: Path) -> None:
    whole = tmp_path / "photos.parquet"
    pq.write_table(pa.table({"image": pa.array([b"\xff\xd8\xff"], pa.binary()), "text": ["one"]}), whole)
    packed = tmp_path / "photos.parquet.gz"
    packed.write_bytes(gzip.compress(whole.read_bytes()))
    source = open_source(SourceSpec(path=str(packed), kind="parquet", url=None))
    with pytest.raises(UserError, match=r"photos.parquet.gz: a gzipped parquet .* gunzip it first"):
        list(source.survey(Findings()))
