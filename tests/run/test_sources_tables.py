"""Lists of urls and parquet with bytes: every format, hostile text, columns that are guessed, missing or at odds."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import UserError
from curate.pool.lists import Findings, claims, listed, register
from curate.pool.storage import Storage
from curate.run.sources import SourceSpec, open_source

NASTY = 'two\nlines, a "quote", a\ttab, \x07 bell, \u202e and 日本 🐈'
RECORDS = [
    {"url": "http://x/1", "caption": "plain", "score": "1", "note": "007"},
    {"url": "http://x/2", "caption": NASTY, "score": "2.5", "note": ""},
    {"url": "http://x/3", "caption": "y" * 1_000_000, "score": "", "note": "x"},
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))


def write(path: Path, data: bytes | str) -> Path:
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def encoded(form: str, records: list[dict]) -> bytes:
    if form == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(records), sink)
        return sink.getvalue()
    if form == "jsonl":
        return "".join(json.dumps(r) + "\n" for r in records).encode()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), delimiter="\t" if form == "tsv" else ",")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def read(spec: SourceSpec) -> tuple[list[dict], Findings]:
    """Rows of the second reading, and what the first one found."""
    source, found = open_source(spec), Findings()
    surveyed = [row for rows in source.survey(found) for row in rows.table.to_pylist()]
    rows = [row for rows in source.rows(found) for row in rows.table.to_pylist()]
    assert [(r["url"], r["text"], r["given"]) for r in surveyed] == [(r["url"], r["text"], r["given"]) for r in rows]
    return rows, found


def error(spec: SourceSpec) -> str:
    with pytest.raises(UserError) as e:
        read(spec)
    return str(e.value)


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("form", ["parquet", "csv", "tsv", "jsonl"])
def test_every_format_plain_and_gzip(tmp_path, form, packed):
    file = write(tmp_path / f"a.{form}{packed}", encoded(form, RECORDS))
    rows, found = read(SourceSpec(path=str(file)))
    assert [r["url"] for r in rows] == [r["url"] for r in RECORDS]
    assert [r["text"] for r in rows] == [r["caption"] for r in RECORDS]
    assert [r["note"] for r in rows] == ["007", "", "x"]
    typed = form in ("csv", "tsv")
    assert [r["score"] for r in rows] == ([1.0, 2.5, None] if typed else ["1", "2.5", ""])
    assert found.refused()["count"] == found.invalid_utf8 == 0


def test_types_of_untyped_columns(tmp_path):
    lines = [
        {
            "url": "a",
            "text": None,
            "i": 1,
            "d": 1,
            "b": True,
            "mixed": 1,
            "tags": ["x"],
            "deep": {"k": [1]},
            "big": 2**64,
        },
        {"url": "b", "text": "t", "i": None, "d": 0.5, "b": False, "mixed": "one", "tags": [], "late": 3},
    ]
    rows, found = read(SourceSpec(path=str(write(tmp_path / "a.jsonl", encoded("jsonl", lines)))))
    types = {n: str(f.type) for n, f in found.columns.items()}
    assert types == {
        "i": "int64", "d": "double", "b": "bool", "mixed": "string", "tags": "list<item: string>",
        "deep": "string", "big": "string", "late": "int64",
    }  # fmt: skip
    assert [r["mixed"] for r in rows] == ["1", "one"]
    assert [r["deep"] for r in rows] == ['{"k":[1]}', None]
    assert [r["big"] for r in rows] == [str(2**64), None]
    assert [r["late"] for r in rows] == [None, 3]
    assert [r["text"] for r in rows] == [None, "t"]


def test_numbers_in_a_csv_are_numbers_only_where_nothing_is_lost(tmp_path):
    text = "url,int,zeros,double,long,plus\nu,1,01,1.5,12345678901234567890,+1\nv,-20,02,2e-3,1,2\n"
    rows, found = read(SourceSpec(path=str(write(tmp_path / "a.csv", text)), text=None))
    types = [str(f.type) for f in found.columns.values()]
    assert types == ["int64", "string", "double", "string", "string"]
    assert rows[1]["double"] == 0.002


def test_a_type_that_changes_late_in_a_long_file_is_seen(tmp_path):
    body = "".join(f"http://x/{i},{i}\n" for i in range(70_000)) + "http://x/last,none\n"
    rows, found = read(SourceSpec(path=str(write(tmp_path / "a.csv", "url,n\n" + body)), text=None))
    assert found.columns["n"].type == pa.string()
    assert (rows[0]["n"], rows[-1]["n"]) == ("0", "none")


def test_invalid_utf8_is_replaced_and_counted(tmp_path):
    file = write(tmp_path / "a.csv", b"url,text\nhttp://x,caf\xe9 \xef\xbf\xbd\nhttp://y,fine\n")
    rows, found = read(SourceSpec(path=str(file)))
    assert [r["text"] for r in rows] == ["caf\ufffd \ufffd", "fine"]
    assert found.invalid_utf8 == 1
    lines = write(tmp_path / "a.jsonl", b'{"url": "http://x", "text": "caf\xe9"}\n{"url": "b", "text": "\\ud800"}\n')
    rows, found = read(SourceSpec(path=str(lines)))
    assert [r["text"] for r in rows] == ["caf\ufffd", "\ufffd"]
    assert found.invalid_utf8 == 2


def test_parquet_text_that_is_binary_and_broken(tmp_path):
    table = pa.table(
        {"url": pa.array([b"http://x", b"http://y"]), "text": pa.array([b"caf\xe9", None], pa.large_binary())}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    rows, found = read(SourceSpec(path=str(tmp_path / "a.parquet"), kind="urls"))
    assert [r["text"] for r in rows] == ["caf\ufffd", None]
    assert found.invalid_utf8 == 1


# ---------------------------------------------------------------- columns


def test_reserved_names_of_further_columns_get_a_prefix(tmp_path):
    text = "url,text,WIDTH,source_id,source_width\nu,t,1,a,2\n"
    rows, found = read(SourceSpec(path=str(write(tmp_path / "a.csv", text))))
    assert {n: f.name for n, f in found.columns.items()} == {
        "WIDTH": "source_source_WIDTH", "source_id": "source_source_id", "source_width": "source_width",
    }  # fmt: skip
    assert rows[0]["source_source_WIDTH"] == 1


def test_keep_carries_only_what_it_names(tmp_path):
    file = str(write(tmp_path / "a.csv", "url,text,a,b\nu,t,1,2\n"))
    _, found = read(SourceSpec(path=file, keep=("b",)))
    assert list(found.columns) == ["b"]
    assert "no column 'bb' to keep" in error(SourceSpec(path=file, keep=("bb",)))


def test_missing_column_names_file_columns_and_nearest(tmp_path):
    file = str(write(tmp_path / "a.csv", "URL,captoin\nu,t\n"))
    message = error(SourceSpec(path=file, text="caption"))
    assert file in message
    assert "'URL', 'captoin'; did you mean 'captoin'?" in message
    assert "text: null" in error(SourceSpec(path=file))


def test_ambiguous_columns_are_not_guessed(tmp_path):
    file = str(write(tmp_path / "a.csv", "url,text,caption\nu,t,c\n"))
    assert "'text', 'caption' could each be the text; say which: `text: text`" in error(SourceSpec(path=file))
    rows, _ = read(SourceSpec(path=file, text="caption"))
    assert (rows[0]["text"], rows[0]["source_text"]) == ("c", "t")


def test_of_a_list_of_captions_the_first_is_the_text_and_all_stay(tmp_path):
    for form in ("parquet", "jsonl"):
        data = encoded(form, [{"url": "a", "captions": ["one", "two"]}, {"url": "b", "captions": []}])
        rows, _ = read(SourceSpec(path=str(write(tmp_path / f"a.{form}", data))))
        assert [r["text"] for r in rows] == ["one", None]
        assert [r["captions"] for r in rows] == [["one", "two"], []]


def test_uid_and_expected_digest(tmp_path):
    digest = "A" * 64
    text = f"url,text,uid,sha256\nu,t,00ff,{digest}\nv,t,,\nw,t,3,nonsense\n"
    rows, found = read(SourceSpec(path=str(write(tmp_path / "a.csv", text))))
    assert [(r["given"], r["sha256"]) for r in rows] == [("00ff", digest.lower()), ("", None)]
    assert found.examples == [{"file": str(tmp_path / "a.csv"), "name": "4", "reason": "sha256 is not 64 hex digits"}]
    table = pa.table({"url": ["a"], "uid": pa.array([b"\x01" * 16], pa.binary(16)), "text": ["x"]})
    pq.write_table(table, tmp_path / "b.parquet")
    assert read(SourceSpec(path=str(tmp_path / "b.parquet")))[0][0]["given"] == "01" * 16
    pq.write_table(table.set_column(1, "uid", pa.array([12])), tmp_path / "c.parquet")
    assert read(SourceSpec(path=str(tmp_path / "c.parquet")))[0][0]["given"] == "12"


def test_a_row_without_url_is_refused_by_its_line(tmp_path):
    rows, found = read(SourceSpec(path=str(write(tmp_path / "a.csv", 'url,text\n"u",t\n,"no\nurl"\nv,t\n'))))
    assert [r["url"] for r in rows] == ["u", "v"]
    assert found.refused()["reasons"] == {"no url": 1}
    assert found.examples[0]["name"] == "3"


def test_files_with_other_columns_are_unified(tmp_path):
    write(tmp_path / "a.csv", "url,text,n\nu,t,1\n")
    write(tmp_path / "b.csv", "text,url,n,m\nt,v,half,x\n")
    rows, _ = read(SourceSpec(path=str(tmp_path / "*.csv")))
    assert [(r["url"], r["n"], r["m"]) for r in rows] == [("u", "1", None), ("v", "half", "x")]


def test_typed_columns_that_disagree_name_both_files(tmp_path):
    pq.write_table(pa.table({"url": ["u"], "text": ["t"], "n": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"url": ["v"], "text": ["t"], "n": pa.array([1.5])}), tmp_path / "b.parquet")
    rows, found = read(SourceSpec(path=str(tmp_path / "*.parquet")))
    assert (found.columns["n"].type, [r["n"] for r in rows]) == (pa.float64(), [1.0, 1.5])
    pq.write_table(pa.table({"url": ["v"], "text": ["t"], "n": ["x"]}), tmp_path / "c.parquet")
    message = error(SourceSpec(path=str(tmp_path / "*.parquet")))
    assert "'n' is double" in message
    assert "a.parquet" in message
    assert "c.parquet" in message


# ---------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.csv", "url,text\nu,t\nv,t,extra\n", "a.csv:3: 3 fields where the header has 2"),
        ("a.csv", 'url,text\nu,"a\nb"\nv\n', "a.csv:4: 1 fields"),
        ("a.csv", 'url,text\nu,t\nv,"never closed\nw,t\n', "a.csv:3: unexpected end of data"),
        ("a.csv", 'url,text\nu,"x"y\n', "quotes: false"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.csv: which column is the url?"),
        ("a.csv", b"a\0b,c\n", "is no text file"),
        ("a.csv", "", "a.csv: is empty"),
        ("a.csv", "url,text,text\nu,t,t\n", "'text' is there twice"),
        ("a.jsonl", '{"url": "u", "text": "t"}\n{"url": \n', "a.jsonl:2: not a JSON object"),
        ("a.jsonl", '[{"url": "u"}]\n', "a.jsonl:1: not a JSON object: an object was expected, this is list"),
        ("a.jsonl", "[" * 100_000 + "\n", "a.jsonl:1: not a JSON object"),
        ("a.parquet", "not parquet", "a.parquet: cannot be read"),
        ("a.xyz", "?", "cannot tell its kind by its name"),
    ],
)
def test_bad_files_are_named(tmp_path, name, data, says):
    assert says in error(SourceSpec(path=str(write(tmp_path / name, data))))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz"])
def test_cut_off_gzip_is_named(tmp_path, name):
    file = write(tmp_path / name, encoded(name.split(".")[1], RECORDS))
    file.write_bytes(file.read_bytes()[:-30])
    assert f"{file}: damaged or cut-off gzip" in error(SourceSpec(path=str(file)))


def test_cut_off_parquet_is_named(tmp_path):
    file = write(tmp_path / "a.parquet", encoded("parquet", RECORDS)[:-20])
    assert f"{file}: cannot be read" in error(SourceSpec(path=str(file)))


def test_quotes_may_mean_nothing(tmp_path):
    file = write(tmp_path / "a.tsv", 'text\turl\n"half a quote\tu\n5" disk\tv\n')
    rows, _ = read(SourceSpec(path=str(file), quotes=False))
    assert [r["text"] for r in rows] == ['"half a quote', '5" disk']


def test_no_file_and_mixed_kinds(tmp_path):
    assert "no such file" in error(SourceSpec(path=str(tmp_path / "*.csv")))
    write(tmp_path / "a.csv", "url,text\nu,t\n")
    (tmp_path / "b.tar").write_bytes(b"")
    assert "give them as two sources" in error(SourceSpec(path=str(tmp_path / "*.*")))


# ---------------------------------------------------------------- bytes in parquet


def test_bytes_in_parquet(tmp_path):
    images = [b"one", None, b"three", b""]
    table = pa.table({"image": [{"bytes": b, "path": "p"} for b in images], "text": ["a", "b", "c", "d"]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    rows, found = read(SourceSpec(path=str(tmp_path / "a.parquet")))
    assert found.bytes_column == "image.bytes"
    assert [r["place"]["row"] for r in rows] == [0, 2, 3]
    assert found.refused()["reasons"] == {"no image bytes": 1}
    content = [
        r["content"]
        for s in open_source(SourceSpec(path=str(tmp_path / "a.parquet"))).survey(Findings())
        for r in s.table.to_pylist()
    ]
    assert content == ["sha256:" + hashlib.sha256(b).hexdigest() for b in (b"one", b"three", b"")]


def test_bytes_of_real_photos(tmp_path, shared_data):
    file = shared_data / "images" / "pairs_flickr8k-00000.parquet"
    storage = Storage.at(tmp_path / "pool")
    claim = register(storage, open_source(SourceSpec(path=str(file))), 1000)
    assert (claim.rows, claim.shards, claim.bytes_column, claim.refused["count"]) == (3295, 4, "image", 0)
    table = pa.concat_tables([listed(storage, claim, n) for n in claim.numbers])
    truth = pq.read_table(file, columns=["image", "captions", "sha256"]).to_pylist()
    for row, true in zip(table.to_pylist(), truth, strict=True):
        assert (row["text"], row["captions"], row["sha256"]) == (true["captions"][0], true["captions"], true["sha256"])
        key = (true["captions"][0] + "sha256:" + true["sha256"]).encode()
        assert row["uid"] == hashlib.md5(key).digest()
        assert truth[row["place"]["row"]]["sha256"] == row["sha256"]


def test_real_urls(tmp_path, shared_data):
    file = shared_data / "text" / "laion_urls_10k.parquet"
    storage = Storage.at(tmp_path / "pool")
    claim = register(storage, open_source(SourceSpec(path=str(file))), 3000)
    truth = pq.read_table(file).to_pylist()
    table = pa.concat_tables([listed(storage, claim, n) for n in claim.numbers])
    assert claim.rows + claim.duplicate_uid + claim.refused["count"] == len(truth) == 7953
    uids = [hashlib.md5(((t["text"] or "") + t["url"]).encode()).digest() for t in truth]
    assert table.column("uid").to_pylist() == list(dict.fromkeys(uids))
    assert [(r["url"], r["text"]) for r in table.to_pylist()] == [(t["url"], t["text"]) for t in truth]


def test_a_clash_of_given_uids_names_the_lines(tmp_path):
    file = write(tmp_path / "a.csv", 'uid,url,text\n1,u,"two\nlines"\n2,v,t\n01,w,t\n')
    storage = Storage.at(tmp_path / "pool")
    with pytest.raises(UserError) as e:
        register(storage, open_source(SourceSpec(path=str(file))), 10)
    assert f"{file}:2: url 'u'" in str(e.value)
    assert f"{file}:5: url 'w'" in str(e.value)
    assert claims(storage) == []
    claim = register(storage, open_source(SourceSpec(path=str(file), uid=None)), 10)
    assert (claim.rows, claim.columns) == (3, {"source_uid": "string"})
