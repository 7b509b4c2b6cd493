"""Commits: whole or not at all, the first wins, on POSIX, on S3 and in memory alike."""

from __future__ import annotations

import errno
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from curate.errors import UserError
from curate.pool.posix import PosixStorage
from curate.pool.storage import Storage


@pytest.fixture(params=["posix", "s3", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "posix":
        return Storage.at(tmp_path / "pool")
    if request.param == "s3":
        return Storage.at(request.getfixturevalue("s3_root"))
    return Storage.at(f"memory://{tmp_path.name}/pool")


def test_the_first_commit_wins_and_stays(storage: Storage) -> None:
    assert storage.commit("a/b.bin", b"first") is True
    assert storage.commit("a/b.bin", b"second") is False
    assert storage.read("a/b.bin") == b"first"
    assert storage.read_range("a/b.bin", 1, 3) == b"irs"
    assert storage.tail("a/b.bin", 2) == (b"st", 5)
    assert storage.tail("a/b.bin", 100) == (b"first", 5)


def test_a_file_is_consumed_whoever_wins(storage: Storage) -> None:
    for expected in (True, False):
        path = storage.scratch()
        path.write_bytes(b"x" * 100_000)
        assert storage.commit("big", path) is expected
        assert not path.exists()
    assert storage.read("big") == b"x" * 100_000


def test_of_many_writers_one_wins_whole(storage: Storage) -> None:
    def write(i: int) -> bool:
        mine = pickle.loads(pickle.dumps(storage))
        return mine.commit("claims/0", f"{i}".encode() * 1000)

    if not storage.is_local and storage.url.startswith("s3"):
        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(write, range(8)))
    else:
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(32)))
    assert sum(won) == 1
    assert storage.read("claims/0") == f"{won.index(True)}".encode() * 1000


def test_lists_files_and_folders_by_name(storage: Storage) -> None:
    for rel in ("f/2.x", "f/1.x", "f/sub/3.x", "f/10.y"):
        storage.commit(rel, rel.encode())
    assert [(e.name, e.size) for e in storage.list("f")] == [("1.x", 5), ("10.y", 6), ("2.x", 5)]
    assert [e.name for e in storage.list("f", "1")] == ["1.x", "10.y"]
    assert storage.folders("f") == ["sub"]
    assert storage.list("nowhere") == []
    assert storage.folders("nowhere") == []


def test_missing_files_are_missing(storage: Storage) -> None:
    assert not storage.exists("no")
    with pytest.raises(FileNotFoundError):
        storage.read("no")
    storage.delete("no")


def test_put_overwrites_and_delete_removes(storage: Storage) -> None:
    storage.put("status", b"1")
    storage.put("status", b"22")
    assert storage.read("status") == b"22"
    storage.delete("status")
    assert not storage.exists("status")


def test_local_copy_has_the_bytes_and_blank_is_seen_through_it(storage: Storage) -> None:
    storage.commit("p/1.tar", b"0123456789")
    assert storage.local("p/1.tar").read_bytes() == b"0123456789"
    storage.blank("p/1.tar", [(2, 3), (9, 1)])
    assert storage.local("p/1.tar").read_bytes() == b"01\0\0\x005678\0"


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.at(tmp_path)
    storage.commit("kept", b"kept")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        storage.commit("x/y", b"1")
    assert not storage.exists("x/y")
    assert storage.read("kept") == b"kept"
    assert [f for f in (tmp_path / "tmp").rglob("*") if f.is_file()] == []


def test_a_scheme_that_would_overwrite_is_refused() -> None:
    with pytest.raises(UserError, match=r"ftp://.* cannot be committed without overwriting; use one of s3://"):
        Storage.at("ftp://host/pool")


def test_a_killed_writer_leaves_no_name(tmp_path: Path) -> None:
    storage = PosixStorage(str(tmp_path))
    pid = os.fork()
    if pid == 0:
        storage.scratch().write_bytes(b"half")
        os._exit(9)
    os.waitpid(pid, 0)
    assert storage.list("") == []
    assert len([f for f in (tmp_path / "tmp").rglob("*") if f.is_file()]) == 1
