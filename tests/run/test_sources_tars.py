"""WebDataset tars and folders: captions, hostile members, damage, and that every place holds the picture it says."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import UserError
from curate.pool.lists import Findings, listed, register
from curate.pool.storage import Storage
from curate.run.sources import SourceSpec, open_source

PICTURE = b"\xff\xd8 not really a picture " * 40
Member = tuple[str, bytes] | tarfile.TarInfo


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))


def tar(path: Path, members: list[Member], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def read(spec: SourceSpec) -> tuple[list[dict], Findings]:
    """Rows of the second reading (with the first one's content), and what the first one found."""
    source, found = open_source(spec), Findings()
    surveyed = [row for rows in source.survey(found) for row in rows.table.to_pylist()]
    rows = [row for rows in source.rows(found) for row in rows.table.to_pylist()]
    assert [(r["url"], r["text"], r["given"]) for r in surveyed] == [(r["url"], r["text"], r["given"]) for r in rows]
    return [{**r, "content": s["content"]} for r, s in zip(rows, surveyed, strict=True)], found


def stored(row: dict) -> bytes:
    with open(row["place"]["path"], "rb") as f:
        f.seek(row["place"]["offset"] or 0)
        return f.read(row["place"]["size"])


def test_captions_of_every_kind(tmp_path):
    long = "日" * 400_000
    members: list[Member] = [
        ("d/000.jpg", PICTURE), ("d/000.txt", b"plain\n\x07"),
        ("d/001.json", b'{"caption": "from json", "url": "http://x/1", "score": 0.5}'), ("d/001.png", b"1"),
        ("d/002.caption", long.encode()), ("d/002.webp", b"2"),
        ("d/003.JPG", b"3"),
        ("d/004.jpg", b"4"), ("d/004.txt", b"same"),
        ("d/004.json", b'{"caption": "same", "text": "other", "uid": "f0"}'),
        ("d/005.jpg", b"5"), ("d/005.txt", b"caf\xe9"), ("d/005.seg.png", b"mask"),
    ]  # fmt: skip
    rows, found = read(SourceSpec(path=str(tar(tmp_path / "a.tar", members))))
    assert [r["text"] for r in rows] == ["plain\n\x07", "from json", long, None, "same", "caf\ufffd"]
    assert [r["url"] for r in rows] == [None, "http://x/1", None, None, None, None]
    assert [r["given"] for r in rows] == [None, None, None, None, "f0", None]
    assert [r["member"] for r in rows][:2] == ["d/000.jpg", "d/001.png"]
    assert [r["score"] for r in rows] == [None, 0.5, None, None, None, None]
    assert rows[4]["source_text"] == "other"
    assert [stored(r) for r in rows] == [PICTURE, b"1", b"2", b"3", b"4", b"5"]
    hashes = [None if r["url"] else "sha256:" + hashlib.sha256(stored(r)).hexdigest() for r in rows]
    assert [r["content"] for r in rows] == hashes
    assert (found.invalid_utf8, found.refused()["count"], found.damaged) == (1, 0, [])


def test_the_recipe_names_keys_and_null_means_none(tmp_path):
    data = json.dumps({"alt": "alternative", "link": "http://x", "id": "ab", "sha256": "c" * 64, "hash": "d" * 64})
    path = str(tar(tmp_path / "a.tar", [("0.jpg", b"0"), ("0.txt", b"text"), ("0.json", data.encode())]))
    (row,), _ = read(SourceSpec(path=path, text="alt", url="link", uid="id", sha256="hash"))
    assert (row["text"], row["url"], row["given"], row["sha256"]) == ("alternative", "http://x", "ab", "d" * 64)
    assert row["source_sha256"] == "c" * 64
    (row,), _ = read(SourceSpec(path=path, text=None))
    assert (row["text"], row["sha256"]) == (None, None)  # a downloader's digest is not of the stored bytes
    with pytest.raises(UserError, match=r"no \.json has a key 'captoin'.*'alt', 'hash'"):
        read(SourceSpec(path=path, text="captoin"))


@pytest.mark.parametrize(
    ("bad", "name", "reason"),
    [
        ([("../x.jpg", PICTURE)], "../x", "member name leaves the folder: ../x.jpg"),
        ([("/etc/x", PICTURE)], "/etc/x", "member name leaves the folder: /etc/x"),
        ([("/etc/x.jpg", PICTURE)], "/etc/x", "member name leaves the folder: /etc/x.jpg"),
        ([("a/../../x.jpg", PICTURE)], "a/../../x", "member name leaves the folder: a/../../x.jpg"),
        ([("..\\x.jpg", PICTURE)], "..\\x.jpg", "member name leaves the folder: ..\\x.jpg"),
        ([("C:\\x.jpg", PICTURE)], "C:\\x", "member name leaves the folder: C:\\x.jpg"),
        ([special("l.jpg", tarfile.SYMTYPE, "/etc/passwd")], "l", "member is no plain file: l.jpg, symbolic link"),
        ([special("l.jpg", tarfile.LNKTYPE, "a.jpg")], "l", "member is no plain file: l.jpg, hard link"),
        ([special("l.jpg", tarfile.CHRTYPE)], "l", "member is no plain file: l.jpg, device"),
        ([("l.jpg", b"1"), special("l.txt", tarfile.FIFOTYPE)], "l", "member is no plain file: l.txt, pipe"),
        ([("l.txt", b"no picture")], "l", "no image"),
        ([("l.jpg", b"1"), ("l.png", b"2")], "l", "several images: l.jpg, l.png"),
        ([("l.txt", b"1"), ("l.jpg", b"1"), ("l.txt", b"2")], "l", "member is there twice: l.txt"),
        ([("l.jpg", b"1"), ("l.json", b"[1]")], "l", "bad json: an object was expected, this is list"),
        ([("l.jpg", b"1"), ("l.txt", b"x" * (17 << 20))], "l", f"caption too big: l.txt, {17 << 20} bytes"),
        ([("README", b"1")], "README", "hidden, or without a suffix"),
        ([("._l.jpg", b"1")], "._l.jpg", "hidden, or without a suffix"),
    ],
)  # fmt: skip
def test_hostile_samples_are_refused_by_name_and_the_others_taken(tmp_path, bad, name, reason):
    members: list[Member] = [("a.jpg", b"a"), ("a.txt", b"A"), *bad, ("z.jpg", b"z"), ("z.txt", b"Z")]
    path = tar(tmp_path / "a.tar", members)
    rows, found = read(SourceSpec(path=str(path)))
    assert [(r["text"], stored(r)) for r in rows] == [("A", b"a"), ("Z", b"z")]
    assert found.examples == [{"file": str(path), "name": name, "reason": reason}]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar"]


def test_folders_and_notes_about_the_tar_are_no_samples(tmp_path):
    members: list[Member] = [special("d", tarfile.DIRTYPE), ("__meta__.json", b"{}"), ("d/0.jpg", b"0")]
    rows, found = read(SourceSpec(path=str(tar(tmp_path / "a.tar", members))))
    assert ([r["member"] for r in rows], found.refused()["count"]) == (["d/0.jpg"], 0)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_foreign_names(tmp_path, form):
    name = "日本/" * 60 + "x" * 200 + ".jpg"
    rows, _ = read(SourceSpec(path=str(tar(tmp_path / "a.tar", [(name, b"0")], form))))
    assert (rows[0]["member"], stored(rows[0])) == (name, b"0")


# ---------------------------------------------------------------- damage


def three(tmp_path: Path) -> Path:
    return tar(tmp_path / "a.tar", [(f"{i}.{s}", bytes([65 + i]) * 700) for i in range(3) for s in ("jpg", "txt")])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(512, 6 * 1536 + 1024))
def test_of_a_cut_tar_the_whole_samples_are_taken(tmp_path, cut):
    path = three(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    rows, found = read(SourceSpec(path=str(path)))
    expected = min(3, max(0, cut - 512) // 3072)  # whole is what is followed by another header, or by the end mark
    assert [r["text"] for r in rows] == [chr(65 + i) * 700 for i in range(expected)]
    if expected < 3:
        (damage,) = found.damaged
        assert damage["file"] == str(path)
        assert "byte" in damage["reason"]


def test_damage_says_where_and_what_is_left_out(tmp_path):
    path = three(tmp_path)
    path.write_bytes(path.read_bytes()[:4000])
    rows, found = read(SourceSpec(path=str(path)))
    assert [r["member"] for r in rows] == ["0.jpg"]
    reason = "cut off at byte 4000, inside '1.jpg'; sample '1' was being read and is left out"
    assert found.damaged == [{"file": str(path), "reason": reason}]


def test_a_broken_header_in_the_middle_is_damage_not_the_end(tmp_path):
    path = three(tmp_path)
    data = bytearray(path.read_bytes())
    data[3072:3100] = b"garbage garbage garbage gar!"
    path.write_bytes(data)
    rows, found = read(SourceSpec(path=str(path)))
    assert len(rows) <= 1
    assert "broken header at byte 3072" in found.damaged[0]["reason"]


def test_joined_tars_are_reported(tmp_path):
    path = three(tmp_path)
    path.write_bytes(path.read_bytes() + path.read_bytes())
    rows, found = read(SourceSpec(path=str(path)))
    assert len(rows) == 3
    assert "more data after its end mark" in found.damaged[0]["reason"]


def test_an_extended_header_of_a_gigabyte_is_not_read(tmp_path):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    path = tar(tmp_path / "a.tar", [("0.jpg", b"0"), ("0.txt", b"t")])
    data = path.read_bytes()[: 4 * 512] + info.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(data + bytes(2048))
    _, found = read(SourceSpec(path=str(path)))
    assert "an extended header of 1073741824 bytes" in found.damaged[0]["reason"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(512, 9700), junk=st.binary(min_size=1, max_size=400))
def test_random_damage_never_crashes_or_invents(tmp_path, at, junk):
    path = three(tmp_path)
    data = bytearray(path.read_bytes())
    data[at : at + len(junk)] = junk
    path.write_bytes(data)
    rows, found = read(SourceSpec(path=str(path)))
    assert len(rows) <= 3
    assert len(rows) == 3 or found.damaged or found.refused()["count"]
    for row in rows:
        assert row["place"]["offset"] + row["place"]["size"] <= len(data)


@pytest.mark.parametrize("data", [b"", b"not a tar at all", b"\x89PNG\r\n\x1a\n" + bytes(2000), b"x" * 5000])
def test_what_is_no_tar_is_named(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.tar: is not a tar"):
        read(SourceSpec(path=str(tmp_path / "a.tar")))


def test_compressed_tar_and_empty_tar(tmp_path):
    path = three(tmp_path)
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UserError, match=r"is compressed.*unzip it first"):
        read(SourceSpec(path=str(tmp_path / "b.tar.gz")))
    empty = tar(tmp_path / "c.tar", [])
    with pytest.raises(UserError, match="empty list"):
        register(Storage.at(tmp_path / "pool"), open_source(SourceSpec(path=str(empty))), 10)


def test_a_list_that_is_all_refused_says_why(tmp_path):
    path = tar(tmp_path / "a.tar", [("../x.jpg", b"0")])
    with pytest.raises(UserError, match="member name leaves the folder"):
        register(Storage.at(tmp_path / "pool"), open_source(SourceSpec(path=str(path))), 10)


def test_remote_tars(tmp_path):
    fsspec.filesystem("memory").pipe("/tars/a.tar", three(tmp_path).read_bytes())
    rows, _ = read(SourceSpec(path="memory://tars/*.tar"))
    assert [r["content"] for r in rows] == [
        "sha256:" + hashlib.sha256(bytes([65 + i]) * 700).hexdigest() for i in range(3)
    ]
    assert rows[0]["place"] == {"path": "memory:///tars/a.tar", "offset": 512, "size": 700, "row": None}


def test_claims_report_refusals_and_damage(tmp_path):
    path = tar(tmp_path / "a.tar", [("../x.jpg", b"0"), *[(f"{i}.jpg", b"%d" % i) for i in range(9)]])
    path.write_bytes(path.read_bytes()[: 9 * 1024 + 100])
    claim = register(Storage.at(tmp_path / "pool"), open_source(SourceSpec(path=str(path))), 10)
    assert claim.rows == 7
    assert claim.refused["reasons"] == {"member name leaves the folder": 1}
    assert claim.damaged[0]["file"] == str(path)


def test_real_tars(tmp_path, shared_data):
    storage = Storage.at(tmp_path / "pool")
    spec = SourceSpec(path=str(shared_data / "hostile" / "wds_image*.tar"), name="wds")
    claim = register(storage, open_source(spec), 5)
    assert (claim.rows, claim.duplicate_uid, claim.shards) == (7, 4, 2)  # tars 3 and 4 repeat tar 1
    truth = []
    for name in ("wds_image1.tar", "wds_image2.tar"):
        with tarfile.open(shared_data / "hostile" / name) as archive:
            truth += [(m.name, archive.extractfile(m).read()) for m in archive]
    rows = [r for n in claim.numbers for r in listed(storage, claim, n).to_pylist()]
    assert [(r["member"], stored(r)) for r in rows] == truth
    for row, (_, data) in zip(rows, truth, strict=True):
        assert row["uid"] == hashlib.md5(b"sha256:" + hashlib.sha256(data).hexdigest().encode()).digest()


def test_hostile_pictures_all_have_their_place(tmp_path, shared_data):
    rows, found = read(SourceSpec(path=str(shared_data / "hostile" / "hostile_images.tar")))
    manifest = (shared_data / "hostile" / "manifest.jsonl").read_text().splitlines()
    truth = {m["file"]: m["sha256"] for m in map(json.loads, manifest)}
    assert len(rows) + found.refused()["count"] == len(truth) == 277
    assert {r["member"]: hashlib.sha256(stored(r)).hexdigest() for r in rows}.items() <= truth.items()
    assert set(found.reasons) <= {"no image", "hidden, or without a suffix"}


# ---------------------------------------------------------------- folders


def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    for name, data in {
        "z.jpg": b"z", "z.txt": b"Z", "a.PNG": b"a", "a.json": b'{"caption": "A", "url": "http://x/a", "n": 1}',
        "b/c.webp": b"c", "b/c.caption": b"C", "b/d.jpeg": b"d", "notes.md": b"no sample",
    }.items():  # fmt: skip
        (root / name).write_bytes(data)
    return root


def test_a_folder_with_sidecars(tmp_path):
    root = folder(tmp_path)
    rows, found = read(SourceSpec(path=str(root)))
    assert [(Path(r["place"]["path"]).relative_to(root).as_posix(), r["text"]) for r in rows] == [
        ("a.PNG", "A"), ("z.jpg", "Z"), ("b/c.webp", "C"), ("b/d.jpeg", None),
    ]  # fmt: skip
    assert [stored(r) for r in rows] == [b"a", b"z", b"c", b"d"]
    assert [r["content"] is None for r in rows] == [True, False, False, False]
    assert ([r["n"] for r in rows], found.refused()["count"]) == ([1, None, None, None], 0)


def test_unreadable_pictures_of_a_folder_are_counted(tmp_path):
    root = folder(tmp_path)
    os.symlink("/nowhere/x.jpg", root / "y.jpg")
    (root / "z.json").write_bytes(b"{")
    rows, found = read(SourceSpec(path=str(root)))
    assert [r["text"] for r in rows] == ["A", "C", None]
    assert found.refused()["reasons"] == {"cannot be read": 1, "bad sidecar": 1}
    assert {e["name"] for e in found.examples} == {str(root / "y.jpg"), str(root / "z.jpg")}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_folder_with_a_table(tmp_path, form):
    root = folder(tmp_path)
    records = [("b/c.webp", "one"), ("a.PNG", "two"), ("gone.jpg", "x"), ("../secret.jpg", "x"), ("/etc/passwd", "x")]
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    lines = [json.dumps({"file_name": f, "caption": t}) for f, t in records]
    if form == "csv":
        lines = ["file_name,caption", *(f"{f},{t}" for f, t in records)]
    (root / f"list.{form}").write_text("\n".join(lines))
    rows, found = read(SourceSpec(path=str(root), table=f"list.{form}"))
    assert [(r["text"], stored(r)) for r in rows] == [("one", b"c"), ("two", b"a")]
    assert [r["content"] for r in rows] == ["sha256:" + hashlib.sha256(b).hexdigest() for b in (b"c", b"a")]
    assert found.refused()["count"] == 3


def test_a_folder_hash_follows_contents(tmp_path):
    root = folder(tmp_path)
    first = open_source(SourceSpec(path=str(root))).hash
    moved = root.rename(tmp_path / "elsewhere")
    assert open_source(SourceSpec(path=str(moved))).hash == first
    (moved / "z.txt").write_bytes(b"other")
    assert open_source(SourceSpec(path=str(moved))).hash != first


def test_a_folder_without_pictures_says_what_to_give(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="empty list"):
        register(Storage.at(tmp_path / "pool"), open_source(SourceSpec(path=str(tmp_path / "photos"))), 10)


def test_a_remote_folder(tmp_path):
    fs = fsspec.filesystem("memory")
    fs.pipe({"/photos/b/1.jpg": b"1", "/photos/b/1.txt": b"one", "/photos/a/2.jpg": b"2", "/photos/0.jpg": b"0"})
    rows, _ = read(SourceSpec(path="memory://photos"))
    assert [(r["place"]["path"], r["text"]) for r in rows] == [
        ("memory:///photos/0.jpg", None), ("memory:///photos/a/2.jpg", None), ("memory:///photos/b/1.jpg", "one"),
    ]  # fmt: skip
    assert open_source(SourceSpec(path="memory://photos")).hash == open_source(SourceSpec(path="memory://photos")).hash
