"""Evaluation sets on disk: folders, tars, tables; what is not there is said before anything runs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from stages.eval_sets import EvalSet, checked_files, pictures, some_pictures


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix.lower(), "w")
    with tarfile.open(path, kind) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def found(path: Path, **more: str) -> dict[str, bytes]:
    return {p.item: p.data for p in pictures(EvalSet(name="a", path=str(path), **more))}


def test_a_folder_of_pictures_however_deep(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/1.PNG", "a/2.webp", "a/classes.txt", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert found(tmp_path) == {n: n.encode() for n in ("a/1.PNG", "a/2.webp", "b.jpg")}
    assert found(tmp_path / "b.jpg") == {"b.jpg": b"b.jpg"}


def test_webdataset_tars_as_the_judge_has_them(tmp_path: Path) -> None:
    write_tar(tmp_path / "test/0.tar", {"s0.webp": b"one", "s0.cls": b"3", "s1.jpg": b"two"})
    write_tar(tmp_path / "train/0.tar", {"s0.png": b"three"})
    (tmp_path / "test/nshards.txt").write_text("1\n")
    both = {"test/0.tar:s0.webp": b"one", "test/0.tar:s1.jpg": b"two", "train/0.tar:s0.png": b"three"}
    assert found(tmp_path) == both
    assert list(found(tmp_path / "test").values()) == [b"one", b"two"]
    assert found(tmp_path / "train/0.tar") == {"0.tar:s0.png": b"three"}


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".TAR.GZ", ".tar.bz2", ".tar.xz"])
def test_compressed_tars_are_read(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "b.jpg").write_bytes(b"beside")
    tar = write_tar(tmp_path / f"a{suffix}", {"s0.png": b"one", "s0.txt": b"a dog"})
    assert found(tmp_path) == {f"a{suffix}:s0.png": b"one", "b.jpg": b"beside"}
    assert found(tar) == {f"a{suffix}:s0.png": b"one"}
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="a broken tar"):
        found(tmp_path)


def test_a_tar_that_is_not_read_is_refused_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"beside")
    (tmp_path / "a.tar.zst").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.tar\.zst is not read, .* make it a \.tar or"):
        checked_files(EvalSet(name="a", path=str(tmp_path)))


def test_names_that_are_not_utf8_become_names(tmp_path: Path) -> None:
    odd = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    write_tar(tmp_path / "0.tar", {odd: b"in a tar"})
    (tmp_path / odd).write_bytes(b"beside")
    one = EvalSet(name="a", path=str(tmp_path))
    wanted = {r"0.tar:caf\xe9.jpg": b"in a tar", r"caf\xe9.jpg": b"beside"}
    assert found(tmp_path) == wanted
    assert pa.array(wanted, pa.string()).to_pylist() == list(wanted)
    assert some_pictures(one, list(wanted)) == wanted


def test_parquet_with_bytes_and_what_hugging_face_writes(tmp_path: Path) -> None:
    held = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    one = {"bytes": b"one", "path": "1.jpg"}
    pq.write_table(pa.table({"image": [b"a", None, b"b"]}), tmp_path / "0.parquet")
    table = pa.table({"image": pa.array([one], held), "several": pa.array([[one, one]], pa.list_(held))})
    with pa.OSFile(str(tmp_path / "1.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    assert found(tmp_path) == {"0.parquet:0": b"a", "0.parquet:2": b"b", "1.arrow:0": b"one"}
    several = found(tmp_path / "1.arrow", column="several")
    assert several == {"1.arrow:0.0": b"one", "1.arrow:0.1": b"one"}


def test_some_pictures_are_read_from_their_files_alone(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"a.png": b"a", "b.png": b"b"})
    (tmp_path / "1.tar").write_bytes(b"no tar at all")
    one = EvalSet(name="a", path=str(tmp_path))
    assert some_pictures(one, ["0.tar:b.png"]) == {"0.tar:b.png": b"b"}
    with pytest.raises(ValueError, match=r"1\.tar: a broken tar"):
        list(pictures(one))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("a dog")
    with pytest.raises(ValueError, match=r"evaluation set a: nothing at .*nowhere"):
        checked_files(EvalSet(name="a", path=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"has no pictures \(\.jpg"):
        checked_files(EvalSet(name="a", path=str(tmp_path)))
    with pytest.raises(ValidationError, match="give `path`"):
        EvalSet(name="a")
    with pytest.raises(ValidationError, match="read from files"):
        EvalSet(name="a", path="s3://bucket/set")
    with pytest.raises(ValidationError, match="name"):
        EvalSet(name="<script>", path=str(tmp_path))


@pytest.mark.parametrize("column", ["text", "label"])
def test_a_table_without_the_pictures_says_what_it_has(tmp_path: Path, column: str) -> None:
    pq.write_table(pa.table({"picture": [b"a"], "label": [3]}), tmp_path / "0.parquet")
    with pytest.raises(ValueError, match="column"):
        found(tmp_path, column=column)
