"""Tars that everybody reads, byte for byte the same, and cut ones that are told apart from whole ones."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pool.tar import BLOCK, MAX_SIZE, Member, TarError, TarWriter, header, headers, members

SAFE = st.text(st.sampled_from("abcxyz0189-_.é/"), min_size=1, max_size=60).filter(
    lambda n: n[0] != "/" and n[-1] != "/" and ".." not in n.split("/")
)


def written(files: list[tuple[str, bytes]]) -> tuple[bytes, list[int]]:
    out = io.BytesIO()
    with TarWriter(out) as tar:
        offsets = [tar.add(name, data) for name, data in files]
    assert tar.size == len(out.getvalue())
    return out.getvalue(), offsets


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SAFE, st.binary(max_size=1200)), max_size=8))
def test_tarfile_and_our_scan_read_back_what_was_written(files: list[tuple[str, bytes]]) -> None:
    raw, offsets = written(files)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert [(m.name, m.size, m.mtime, m.uid, m.mode) for m in tar] == [(n, len(d), 0, 0, 0o644) for n, d in files]
    found = list(members(io.BytesIO(raw)))
    assert found == [Member(n, at, len(d)) for (n, d), at in zip(files, offsets, strict=True)]
    assert all(raw[m.offset : m.offset + m.size] == d for m, (_, d) in zip(found, files, strict=True))
    assert written(files)[0] == raw


def test_the_header_is_the_one_that_tarfile_writes() -> None:
    info = tarfile.TarInfo("some/name.jpg")
    info.size = 123_456
    ours, theirs = header("some/name.jpg", 123_456), info.tobuf(tarfile.USTAR_FORMAT)
    assert ours == theirs


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(SAFE, st.integers(0, MAX_SIZE)), max_size=20))
def test_many_headers_at_once_are_the_same_as_one_by_one(wanted: list[tuple[str, int]]) -> None:
    names, sizes = [n.encode() for n, _ in wanted], np.array([s for _, s in wanted], np.int64)
    together = headers(names, sizes)
    assert together.shape == (len(wanted), BLOCK)
    assert together.tobytes() == b"".join(header(n, s) for n, s in wanted)


def test_gnu_tar_and_webdataset_read_it(tmp_path: Path) -> None:
    import webdataset

    files = [("000a.jpg", b"J" * 700), ("000a.txt", b"a cat"), ("000b.jpg", b"K" * 512), ("000b.txt", b"")]
    path = tmp_path / "x.tar"
    path.write_bytes(written(files)[0])
    listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True)
    assert (listed.stdout.split(), listed.stderr) == ([n for n, _ in files], "")
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [(s["__key__"], s["jpg"], s["txt"]) for s in samples] == [
        ("000a", b"J" * 700, b"a cat"),
        ("000b", b"K" * 512, b""),
    ]


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../x", "a/", "a\nb", "a\0b", "é" * 51])
def test_dangerous_names_are_not_written(name: str) -> None:
    with pytest.raises(TarError, match="member name"):
        TarWriter(io.BytesIO()).add(name, b"")


def test_sizes_and_names_that_a_header_cannot_hold_are_refused() -> None:
    with pytest.raises(TarError, match="at most"):
        header("a", MAX_SIZE + 1)
    for names, sizes in (([b"a" * 101], [1]), ([b"a"], [MAX_SIZE + 1]), ([b""], [0]), ([b"a"], [1, 2])):
        with pytest.raises(TarError):
            headers(names, np.array(sizes))


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_tars_of_others_are_read(format: int, tmp_path: Path) -> None:
    long = ("long/" * (24 if format == tarfile.USTAR_FORMAT else 60)) + "name.jpg"
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=format) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name, data in ((long, b"one"), ("Zürich.txt", b"two"), ("../x", b"three")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    raw = path.read_bytes()
    found = [(m.name, raw[m.offset : m.offset + m.size]) for m in members(path)]
    assert found == [(long, b"one"), ("Zürich.txt", b"two"), ("../x", b"three")]


def test_base_256_size_and_pax_size() -> None:
    block = bytearray(header("big", 0))
    block[124:136] = b"\x80" + (600).to_bytes(11, "big")
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
    assert list(members(io.BytesIO(bytes(block) + bytes(1024) + bytes(1024)))) == [Member("big", 512, 600)]
    record = b"12 size=600\n"
    pax = bytearray(header("pax", len(record)))
    pax[156] = ord("x")
    pax[148:156] = b"%06o\0 " % (sum(pax) - sum(pax[148:156]) + 8 * 32)
    raw = bytes(pax) + record.ljust(512, b"\0") + header("big", 0) + bytes(1024) + bytes(1024)
    assert list(members(io.BytesIO(raw))) == [Member("big", 1536, 600)]


def test_a_cut_tar_gives_its_whole_members_and_then_an_error() -> None:
    raw, offsets = written([("a", b"x" * 700), ("b", b"y" * 700)])
    ends = {len(raw) - 1024: "no end blocks", offsets[1] + 10: "says 700 bytes", offsets[1] - 100: "inside a header"}
    for cut, message in ends.items():
        found, seen = members(io.BytesIO(raw[:cut])), []
        with pytest.raises(TarError, match=message):
            seen.extend(m.name for m in found)
        assert seen == (["a", "b"] if "no end" in message else ["a"])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 3071), st.integers(0, 255), st.integers(0, 3072))
def test_damaged_tars_end_in_a_tar_error_or_in_members_inside_the_file(at: int, value: int, cut: int) -> None:
    raw = bytearray(written([("a", b"x" * 700), ("b", b"y")])[0])
    raw[at] = value
    data = bytes(raw[:cut])
    try:
        found = list(members(io.BytesIO(data)))
    except TarError:
        return
    assert all(m.offset + m.size <= len(data) for m in found)


def test_what_is_no_tar_is_said_to_be_none(tmp_path: Path) -> None:
    for content, message in ((b"", "empty file"), (b"hello" * 300, "no tar header at byte 0")):
        path = tmp_path / "x.tar"
        path.write_bytes(content)
        with pytest.raises(TarError, match=f"x.tar: {message}"):
            list(members(path))


def test_a_failed_body_leaves_no_end_of_tar() -> None:
    out = io.BytesIO()
    with pytest.raises(TarError, match="plain relative path"), TarWriter(out) as tar:
        tar.add("../a", tar.add("a", b"").to_bytes(2, "big"))
    assert len(out.getvalue()) == BLOCK
