"""Documents from strangers: damaged files, texts that are none, what is small in a file and large outside of it."""

from __future__ import annotations

import io
import json
import random
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import UserError
from curate.interchange import interleaved_give, interleaved_take
from curate.interchange.interleaved import DEEPEST, LONGEST
from curate.interchange.interleaved_give import SAID, find_documents
from curate.interchange.interleaved_take import import_documents
from curate.interchange.llava import import_llava
from curate.pool.storage import Storage
from tests.interchange.interleaved_parts import (
    DOCUMENTS,
    QUIET,
    SQUARE,
    given,
    made,
    measured,
    mmc4,
    obelics,
    pictures,
    read_zip,
    run,
    taken,
    write_parquet,
    write_zip,
)

NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999")


def lzma_zip() -> bytes:
    """A zip whose member is packed by LZMA, and damaged."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.jsonl", b"{}\n" * 1000)
    data = bytearray(out.getvalue())
    data[45:60] = b"\xff" * 15
    return bytes(data)


def zip_of_a_bad_name() -> bytes:
    """A zip that says that the name of its member is UTF-8, and it is none."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("ä.jsonl", b"{}\n")
    return out.getvalue().replace("ä".encode(), b"\xff\xfe")


def deflated_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", b"{}\n" * 1000)
    return out.getvalue()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def zip_that_says(value: int, *places: int) -> bytes:
    """A zip of one member, with another number at these places of its entry in the table."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jsonl", b"{}\n")
    data = bytearray(out.getvalue())
    for at in (data.index(b"PK\x01\x02") + place for place in places):
        data[at : at + 2] = value.to_bytes(2, "little")
    return bytes(data)


def parquet_of_a_bad_name() -> bytes:
    """Parquet with a column whose name is no UTF-8."""
    out = io.BytesIO()
    pq.write_table(pa.table({"naïf": ["a"]}), out, store_schema=False)
    return out.getvalue().replace("naïf".encode(), b"na\xff\xfef")


ZIP = "damaged, cut off or encrypted zip"
DEFLATED = deflated_zip()


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.zip", b"PK\x03\x04rest", ZIP),
        pytest.param("a.zip", DEFLATED[: len(DEFLATED) // 2], ZIP, id="cut within a member"),
        pytest.param("a.zip", flipped(DEFLATED, DEFLATED.index(b"a.jsonl") + 7), ZIP, id="another byte in deflate"),
        pytest.param("a.zip", lzma_zip(), ZIP, id="other bytes in LZMA"),
        pytest.param("a.zip", zip_that_says(60_000, 20, 24), ZIP, id="a member that the file ends in"),
        pytest.param("a.zip", zip_of_a_bad_name(), ZIP, id="the name of a member"),
        pytest.param("a.zip", zip_that_says(1, 8), ZIP, id="encrypted"),
        pytest.param("a.zip", zip_that_says(99, 10), ZIP, id="packed in an unknown way"),
        ("a.jsonl.gz", b"\x1f\x8bno", "damaged or cut-off gzip"),
        ("a.parquet", b"PAR1", "cannot be read as parquet"),
        pytest.param("a.parquet", parquet_of_a_bad_name(), "cannot be read as parquet: 'utf-8'", id="a column's name"),
        ("a.txt", b"", "cannot tell its format"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, data: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=why):
        import_documents([str(tmp_path / name)], str(tmp_path / "pool"), telling=QUIET)


def test_what_is_no_utf8_is_replaced_and_counted(tmp_path: Path) -> None:
    """One byte in one of 100,000 documents."""
    file = write_parquet(tmp_path / "train.parquet", [obelics([0]), obelics([1])])
    pq.write_table(pq.read_table(file), file, compression="none")
    data = file.read_bytes()
    assert b"Behind 1." in data
    file.write_bytes(data.replace(b"Behind 1.", b"Behind \xff."))
    told = import_documents([str(file)], str(tmp_path / "pool"), telling=QUIET)
    assert "2 documents with 2 pictures" in told[0]
    assert told[1] == "1 texts were no UTF-8: what was not is replaced by U+FFFD"
    (part,) = (tmp_path / "pool").glob("documents/*/parts/*.parquet")
    nodes = pq.read_table(part).column("nodes").to_pylist()
    assert [n["text"] for n in nodes[1] if n["text"]] == ["Once.", "Behind \ufffd.\n\nMore."]


def test_a_long_row_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """A text that stands 100,000 times is some kilobytes in a file, and 10 GB outside of it."""
    long = {**obelics([1]), "images": [None] * 100_000, "texts": ["x" * 100_000] * 100_000}
    few = {**obelics([2]), "metadata": json.dumps([{"about": "y" * LONGEST}, None, None])}
    strings = pa.list_(pa.dictionary(pa.int32(), pa.string()))
    schema = pq.read_schema(write_parquet(tmp_path / "x", [obelics([0])]))
    rows = [pa.Table.from_pylist([row], schema=schema.set(3, pa.field("texts", strings))) for row in (long, few)]
    usual = pa.Table.from_pylist([obelics([0])], schema=rows[0].schema)
    file = tmp_path / "train.parquet"
    pq.write_table(pa.concat_tables([*rows, usual]).unify_dictionaries(), file)
    assert file.stat().st_size < 1 << 20
    told, grown = measured(file, tmp_path / "pool")
    assert grown < 1024
    assert "1 documents with 1 pictures" in told[0]
    assert told[1].startswith("2 refused (a row of more than 4 MB 2)")


@pytest.mark.parametrize(("rows", "noise"), [(1, 0), (2_000, 0), (1, 9_000_000)])
def test_nor_is_one_of_many_nulls(tmp_path: Path, rows: int, noise: int) -> None:
    """They take no bytes in a file at all; neither other rows nor a long text beside them make them documents."""
    nulls = 8_000_000
    text = random.Random(0).randbytes(noise // 2).hex()
    texts = pa.concat_arrays([pa.array([text]), pa.nulls(nulls + rows - 2, pa.string())])
    lists = pa.ListArray.from_arrays(pa.array([0, *range(nulls, nulls + rows)], pa.int32()), texts)
    none = pa.nulls(rows, pa.string())
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"images": lists, "metadata": none, "general_metadata": none, "texts": lists}), file)
    assert file.stat().st_size < 1 << 14 or noise
    told, grown = measured(file, tmp_path / "pool")
    assert grown < 128  # unpacked: 400
    assert f"lists of {nulls + rows - 1:,} entries in {rows:,} rows and " in told[0]
    assert told[0].endswith("these are no documents; is it OBELICS?")


def test_a_footer_at_which_pyarrow_ends_the_process(tmp_path: Path) -> None:
    """It checks a column's numbers against the schema with an exception that only its readers catch."""
    file = write_parquet(tmp_path / "train.parquet", [obelics([0])])
    optional, required = (b"\x15\x0c\x25" + how + b"\x18\x08metadata" for how in (b"\x02", b"\x00"))  # in the schema
    data = file.read_bytes()
    assert data.count(optional) == 1
    file.write_bytes(data.replace(optional, required))
    told, _ = measured(file, tmp_path / "pool")
    assert "cannot be read as parquet: Definition level histogram size mismatch" in told[0]


@pytest.mark.parametrize("rows", [3, 5, 20])
def test_row_groups_of_any_length(tmp_path: Path, rows: int) -> None:
    """pyarrow does not join lists of texts out of two of them, and a batch is of 16 rows."""
    file = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([obelics([n]) for n in range(40)]), file, row_group_size=rows)
    told = import_documents([str(file)], str(tmp_path / "pool"), telling=QUIET)
    assert "40 documents with 40 pictures" in told[0]


def test_reasons_are_few(tmp_path: Path) -> None:
    """What is of one document alone stands in the examples, not in what is counted."""
    lengths = [{**obelics([n]), "texts": [None] * (n + 4)} for n in range(30)]
    about = [{**obelics([n]), "images": [None] * n, "texts": ["a"] * n} for n in range(4, 34)]
    file = write_parquet(tmp_path / "a.parquet", [*lengths, *about, obelics([0])])
    told = import_documents([str(file)], str(tmp_path / "pool"), telling=QUIET)
    assert "1 documents" in told[0]
    why = "images and texts differ in length 30, metadata is no list with an object or null for each image 30"
    assert told[1].startswith(f"60 refused ({why}); the first: ")
    (said,) = (tmp_path / "pool").glob("documents/*/about.json")
    assert json.loads(said.read_text())["refused"]["examples"][0]["reason"].endswith("differ in length: 3 and 4")


@pytest.mark.parametrize("form", ["mmc4", "obelics"])
def test_what_was_taken_can_be_given_however_deep_it_is(tmp_path: Path, form: str) -> None:
    """Python reads JSON as deep as its stack has room: what an import still took ended every export."""
    pictures(tmp_path / "files", range(6))
    plain = json.dumps(mmc4([0]))[:-1]
    deep = [f'{plain}, "more": {"[" * n}{"]" * n}}}'.encode() for n in (DEEPEST - 1, DEEPEST, 900)]
    told = taken(tmp_path, [*deep, *DOCUMENTS])
    assert "4 documents" in told[0]
    assert told[1].startswith("2 refused (lists within lists within lists 2)")
    run(tmp_path, told, SQUARE)
    assert "3 of 4 documents" in given(tmp_path, form=form)[0]


def test_a_part_is_of_bounded_size_whatever_its_documents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(interleaved_take, "BYTES", 100_000)
    monkeypatch.setattr(interleaved_take, "CHUNK", 30_000)
    long = [{**mmc4([n], page=f"http://h.test/{n}"), "more": "z" * 20_000} for n in range(12)]
    assert "12 documents with 12 pictures" in taken(tmp_path, [*long, *DOCUMENTS][:12], images=None)[0]
    parts = sorted((tmp_path / "pool").glob("documents/*/parts/*.parquet"))
    assert [pq.read_metadata(p).num_rows for p in parts] == [5, 5, 2]  # 20 kB each
    pages = [url for p in parts for url in pq.read_table(p).column("url").to_pylist()]
    assert pages == [one["url"] for one in long]


def test_a_part_is_of_bounded_size_whatever_its_pictures_repeat(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pictures of one sentence have it each."""
    monkeypatch.setattr(interleaved_take, "BYTES", 100_000)
    pages = [mmc4(range(20), sentences=1, page=f"http://h.test/{n}") for n in range(6)]
    for page in pages:
        page["text_list"] = ["z" * 1_500]
    taken(tmp_path, pages, rule="matched", images=None)
    parts = sorted((tmp_path / "pool").glob("documents/*/parts/*.parquet"))
    assert [pq.read_metadata(p).num_rows for p in parts] == [3, 3]  # 30 kB and some each


def test_of_a_part_few_documents_are_pythons_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lists of lists take sixteen times as much there as in JSON."""
    many = [{**mmc4([0]), "more": [[]] * 100_000} for _ in range(20)]
    file = write_zip(tmp_path / "docs.jsonl.zip", many)  # 0.4 MB each
    monkeypatch.setattr(interleaved_take, "CHUNK", 1 << 20)
    tracemalloc.start()
    try:
        import_documents([str(file)], str(tmp_path / "pool"), telling=QUIET)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 << 20  # all of them: 130 MB


@pytest.mark.parametrize("name", [None, "of none"])
def test_pictures_of_a_folder_need_names(tmp_path: Path, name: str | None) -> None:
    """OBELICS gives none, nor need documents of MMC4: no sample would find its picture."""
    without = mmc4([0])
    without["image_info"][0]["image_name"] = None
    file = write_zip(tmp_path / "a.jsonl.zip", [without])
    if name is None:
        file = write_parquet(tmp_path / "a.parquet", [obelics([0])])
    with pytest.raises(UserError, match=r"--images: pictures of a folder are found by the names .*leave --images out"):
        import_documents([str(file)], str(tmp_path / "pool"), images=str(tmp_path), telling=QUIET)


def test_examples_of_many_files_are_few(tmp_path: Path) -> None:
    files = [str(write_zip(tmp_path / f"{n}.jsonl.zip", [mmc4([n]), *[b"{"] * 15])) for n in range(4)]
    import_documents(files, str(tmp_path / "pool"), telling=QUIET)
    (about,) = (tmp_path / "pool").glob("documents/*/about.json")
    refused = json.loads(about.read_text())["refused"]
    assert (refused["count"], len(refused["examples"])) == (60, 20)


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    """Python reads them, and would write what no other reader takes."""
    line = json.dumps(mmc4([0]))
    bad = [line.replace('"could_have_url_duplicate": 0', f'"could_have_url_duplicate": {n}').encode() for n in NUMBERS]
    assert len({*bad, line.encode()}) == 5
    told = taken(tmp_path, [*bad, line.encode()])
    assert "1 documents" in told[0]
    assert told[1].startswith("4 refused (no JSON 4)")
    metadata = '[null, {"alt_text": "a", "clip": NaN}, null]'
    file = write_parquet(tmp_path / "a.parquet", [{**obelics([0]), "metadata": metadata}, obelics([0])])
    told = import_documents([str(file)], str(tmp_path / "pool"), telling=QUIET)
    assert told[1].startswith("1 refused (metadata has no JSON 1)")


def test_llavas_lists_are_no_documents(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]
    (tmp_path / "llava.json").write_text(json.dumps([{"id": "0", "image": "0.jpg", "conversations": turns}]))
    files = pictures(tmp_path / "files", range(6))
    told = import_llava(str(tmp_path / "llava.json"), str(tmp_path / "pool"), images=str(files))
    run(tmp_path, told, SQUARE)
    with pytest.raises(UserError, match="no documents; there are: none; `curate import-documents`"):
        given(tmp_path)
    assert not (tmp_path / "out" / SAID).exists()
    taken(tmp_path, DOCUMENTS)
    assert find_documents(Storage.at(str(tmp_path / "pool")), None).startswith("documents/docs@")


def test_a_document_without_similarities_stays_as_it_is(tmp_path: Path) -> None:
    pictures(tmp_path / "files", range(6))
    without = {k: v for k, v in DOCUMENTS[0].items() if k != "similarity_matrix"}
    run(tmp_path, taken(tmp_path, [without, *DOCUMENTS[1:]]), SQUARE)
    told = given(tmp_path, assign="stored")
    assert "2 of 3 documents" in told[0]
    assert told[2] == "1 documents came without similarities: their pictures stay in place"
    first, last = read_zip(tmp_path / "out")
    assert [i["matched_text_index"] for i in first["image_info"]] == [0, 2]
    assert last["similarity_matrix"]


def test_an_export_that_began_nothing_may_be_asked_for_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made(tmp_path)

    def failing(*_: object) -> None:
        raise UserError("clip_image: the kept picture has no vector")

    with monkeypatch.context() as patch:
        patch.setattr(interleaved_give, "assigned", failing)
        with pytest.raises(UserError, match="no vector"):
            given(tmp_path, assign="stored")
    assert "2 of 3 documents" in given(tmp_path)[0]
