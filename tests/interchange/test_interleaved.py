"""Documents into a pool, a recipe over their pictures, and documents out again with those that it kept."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

import curate
from curate.cli import app
from curate.errors import UserError
from curate.interchange.interleaved import LONGEST
from curate.interchange.interleaved_give import SAID, export_documents
from curate.interchange.interleaved_take import LIST, import_documents, label_of
from curate.pool.lists import Findings
from curate.pool.pool import Pool
from curate.run.sources.source import open_source
from curate.run.sources.spec import SourceSpec
from tests.interchange.interleaved_parts import (
    DOCUMENTS,
    QUIET,
    SQUARE,
    given,
    made,
    mmc4,
    obelics,
    picture,
    pictures,
    read_zip,
    run,
    taken,
    url,
    write_parquet,
    write_zip,
)


def test_in_and_out_as_mmc4(tmp_path: Path) -> None:
    made(tmp_path)
    told = given(tmp_path)
    assert told[0].endswith("out: 2 of 3 documents, with 4 of 7 pictures")
    first, last = read_zip(tmp_path / "out")
    assert (first["text_list"], first["could_have_url_duplicate"]) == (DOCUMENTS[0]["text_list"], 0)
    assert [i["raw_url"] for i in first["image_info"]] == [url(0), url(2)]
    assert [i["matched_text_index"] for i in first["image_info"]] == [0, 2]
    assert first["similarity_matrix"] == [DOCUMENTS[0]["similarity_matrix"][i] for i in (0, 2)]
    assert last["url"] == "http://h.test/even"
    uids = {i["uid"] for d in (first, last) for i in d["image_info"]}
    kept = curate.open(str(tmp_path / "pool"), "docs").sql("SELECT uid FROM picks WHERE times > 0 ORDER BY uid")
    assert sorted(uids) == [u for (u,) in kept.fetchall()]
    assert len(uids) == 3


def test_out_as_obelics(tmp_path: Path) -> None:
    made(tmp_path)
    given(tmp_path, form="obelics")
    (path,) = (tmp_path / "out").glob("*.parquet")
    first, last = pq.read_table(path).to_pylist()
    texts = DOCUMENTS[0]["text_list"]
    assert first["images"] == [url(0), None, None, url(2), None]
    assert first["texts"] == [None, texts[0], texts[1], None, texts[2]]
    assert len(json.loads(last["metadata"])) == len(last["images"])


def test_how_many_pictures_a_document_has(tmp_path: Path) -> None:
    made(tmp_path)
    assert "3 of 3 documents, with 4 of 7" in given(tmp_path, "all", least=0)[0]
    assert "0 of 3 documents, with 0 of 7" in given(tmp_path, "few", most=1)[0]
    assert "0 of 3 documents, with 0 of 7" in given(tmp_path, "many", least=3)[0]


def test_run_again_it_writes_the_same(tmp_path: Path) -> None:
    made(tmp_path)
    given(tmp_path)
    files = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.is_file()}
    assert set(files) == {SAID, "docs_shard_00000-00000.jsonl.zip"}
    before = (tmp_path / "out" / SAID).stat().st_mtime_ns
    assert "2 of 3 documents" in given(tmp_path)[0]
    assert (tmp_path / "out" / SAID).stat().st_mtime_ns == before
    given(tmp_path, "again")
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir() if p.is_file()} == files
    with pytest.raises(UserError, match="another least"):
        given(tmp_path, least=2)


def test_what_was_taken_down_is_in_no_document(tmp_path: Path) -> None:
    made(tmp_path)
    pool = Pool.open(str(tmp_path / "pool"))
    uid = next(i["uid"] for d in (given(tmp_path), read_zip(tmp_path / "out"))[1] for i in d["image_info"])
    pool.remove(pa.array([bytes.fromhex(uid)], pa.binary(16)), "asked for")
    given(tmp_path, "after")
    there = [i["uid"] for d in read_zip(tmp_path / "after") for i in d["image_info"]]
    assert there
    assert uid not in there
    with pytest.raises(UserError, match="another removed"):
        given(tmp_path)


def test_a_picture_of_the_same_bytes_stands_for_one_that_was_dropped(tmp_path: Path) -> None:
    pictures(tmp_path / "files", [0, 2])
    (tmp_path / "files/9.jpg").write_bytes(picture(0))  # the bytes of 0 at another address
    told = taken(tmp_path, [mmc4([0]), mmc4([9], page="http://h.test/copy"), mmc4([2])])
    run(tmp_path, told, f"  - {{id: one, where: \"url <> '{url(9)}'\"}}\n")
    assert "2 of 3 documents" in given(tmp_path)[0]
    assert "3 of 3 documents" in given(tmp_path, "bytes", by="sha256")[0]
    first, copy, _ = read_zip(tmp_path / "bytes")
    assert copy["image_info"][0]["raw_url"] == url(9)
    assert copy["image_info"][0]["uid"] == first["image_info"][0]["uid"]
    removed = hashlib.md5(url(9).encode()).digest()
    Pool.open(str(tmp_path / "pool")).remove(pa.array([removed], pa.binary(16)), "asked for")
    assert "2 of 3 documents" in given(tmp_path, "removed", by="sha256")[0]


def test_obelics_there_and_back(tmp_path: Path) -> None:
    """By a folder of pictures, whose table gives the urls; with texts: the alternative ones."""
    documents = [obelics([0, 1]), obelics([1, 3], page="http://h.test/odd")]
    file = write_parquet(tmp_path / "train-0.parquet", documents)
    told = import_documents([str(file)], str(tmp_path / "pool"), rule="alt", telling=QUIET)
    (images,) = (tmp_path / "pool").glob("documents/*/images/*.parquet")
    listed = pq.read_table(images)
    assert listed.schema.equals(LIST)
    assert listed.column("text").to_pylist() == ["picture 0", "picture 1", "picture 3"]  # each once
    names = pa.array([f"{n}.jpg" for n in (0, 1, 3)])
    pq.write_table(listed.set_column(2, "file", names), tmp_path / "list.parquet")
    pictures(tmp_path / "files", [0, 1, 3])
    source = f'{{path: "{tmp_path}/files", table: "{tmp_path}/list.parquet", file: file, url: url, text: text}}'
    run(tmp_path, [told[-2], f"  source: {source}"], SQUARE)
    assert "1 of 2 documents, with 1 of 4 pictures" in given(tmp_path)[0]
    (out,) = (tmp_path / "out").glob("*.parquet")
    (row,) = pq.read_table(out).to_pylist()
    assert row["images"] == [None, url(0), None, None]
    assert row["texts"] == ["Once.", None, "Behind 0.\n\nMore.", "Behind 1.\n\nMore."]
    assert json.loads(row["metadata"])[1]["alt_text"] == "picture 0"
    assert row["general_metadata"] == documents[0]["general_metadata"]


def test_a_list_of_urls_is_what_a_recipe_can_fetch(tmp_path: Path) -> None:
    told = taken(tmp_path, DOCUMENTS, images=None)
    said = yaml.safe_load("\n".join(line.strip() for line in told[-2:]))
    source = open_source(SourceSpec(**said["source"]))
    rows = [row for rows in source.survey(Findings()) for row in rows.table.to_pylist()]
    assert source.kind == "urls"
    assert [(row["url"], row["text"]) for row in rows] == [(url(n), "") for n in (0, 1, 2, 3, 5, 4)]


def test_what_is_no_document_is_counted(tmp_path: Path) -> None:
    broken = [b"{", b'{"text_list": 1}', b"\xff", b"[" * 100_000, b"", b" " * LONGEST + b"[]", *DOCUMENTS]
    told = taken(tmp_path, broken)
    assert "3 documents with 7 pictures of 1 files" in told[0]
    assert told[1].startswith("5 refused (a line of more than 4 MB 1, ")
    for reason in ("lists within lists within lists 1", "no JSON 2", "text_list is no list 1"):
        assert reason in told[1]
    assert told[1].endswith("docs_shard_0_v2.jsonl.zip:1")
    with pytest.raises(UserError, match="no document in it"):
        taken(tmp_path, [b"{"], name="none")


def test_killed_between_two_files_it_goes_on(tmp_path: Path) -> None:
    files = [str(write_zip(tmp_path / f"{n}.jsonl.zip", [mmc4([n]), mmc4([n, 7])])) for n in range(3)]

    def take(pool: str) -> list[str]:
        return import_documents(files, str(tmp_path / pool), name="docs", part=1, telling=QUIET)

    take("whole")
    take("pool")
    (folder,) = (tmp_path / "pool/documents").iterdir()
    for gone in ("about.json", "done/00001.json", "done/00002.json", "parts/00001-00001.parquet"):
        os.unlink(folder / gone)
    stamp = (folder / "parts/00000-00000.parquet").stat().st_mtime_ns
    assert "6 documents with 9 pictures of 3 files" in take("pool")[0]
    assert (folder / "parts/00000-00000.parquet").stat().st_mtime_ns == stamp
    whole = {p.name: p.read_bytes() for p in (tmp_path / "whole").glob("documents/*/parts/*")}
    assert {p.name: p.read_bytes() for p in folder.glob("parts/*")} == whole
    assert len(whole) == 6


def test_which_documents_are_meant(tmp_path: Path) -> None:
    made(tmp_path)
    taken(tmp_path, DOCUMENTS, name="others", rule="matched", images=None)
    with pytest.raises(UserError, match=r"which documents\? say --documents NAME; there are: docs@.*, others@"):
        given(tmp_path)
    pool, out = str(tmp_path / "pool"), str(tmp_path / "out")
    with pytest.raises(UserError, match="no documents nothing; there are"):
        export_documents(pool, out, recipe="docs", documents="nothing", telling=QUIET)
    assert "2 of 3 documents" in export_documents(pool, out, recipe="docs", documents="docs", telling=QUIET)[0]


@pytest.mark.parametrize(
    ("paths", "label"),
    [
        (["mmc4/docs_shard_*.jsonl.zip"], "docs_shard"),
        (["s3://bucket/OBELICS/train-00000.parquet"], "train-00000"),
        (["a/docs.jsonl.gz"], "docs"),
        (["/.zip"], "documents"),
    ],
)
def test_what_documents_are_called(paths: list[str], label: str) -> None:
    assert label_of(paths, None) == label
    assert label_of(paths, "mine") == "mine"
    with pytest.raises(UserError, match="use a-z, 0-9, _ and -; for example 'mine'"):
        label_of(paths, "Mine!")


def test_the_commands(tmp_path: Path) -> None:
    pictures(tmp_path / "files", range(6))
    file = write_zip(tmp_path / "docs.jsonl.zip", DOCUMENTS)
    pool, out = str(tmp_path / "pool"), str(tmp_path / "out")
    cli = CliRunner()
    took = cli.invoke(app, ["import-documents", pool, str(file), "--images", str(tmp_path / "files"), "-q"])
    assert took.exit_code == 0, took.output
    assert "3 documents with 7 pictures" in took.output
    run(tmp_path, took.output.splitlines(), SQUARE)
    gave = cli.invoke(app, ["export-documents", pool, out, "--recipe", "docs", "--assign", "stored", "-q"])
    assert gave.exit_code == 0, gave.output
    assert "2 of 3 documents, with 4 of 7 pictures" in gave.output
    assert [len(d["image_info"]) for d in read_zip(tmp_path / "out")] == [2, 2]
    assert isinstance(cli.invoke(app, ["import-documents", pool, str(file), "--format", "x"]).exception, UserError)
