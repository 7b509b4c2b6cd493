"""What workers tell of their work: seconds by method, rows, and the bytes of files that they read and wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from run.parts import Brightness, Captioner, Doubled
from run.plan_parts import Weighed
from tiny import tiny_pool

from curate.pool.storage import Storage
from curate.run.account import Account, called
from curate.run.describe import Describe, DescribeSparse, describe, describe_sparse
from curate.run.prints import Prints
from stages.base import Stage

FOLDERS: dict[Stage, str] = {s: Prints().stage_folder(s) for s in (Brightness(), Doubled(), Captioner())}


def sizes(folder: Path, *globs: str) -> int:
    return sum(p.stat().st_size for g in globs for p in folder.glob(g))


def test_a_pass_tells_each_stage_and_the_bytes_of_its_files(tmp_path: Path) -> None:
    pool = tiny_pool(str(tmp_path), shards=1)
    result = describe(Describe(pool.storage.url, (Brightness(), Doubled()), FOLDERS), "00000000")
    assert result["seconds"].keys() >= {"brightness", "doubled", "files"}
    assert all(s >= 0 for s in result["seconds"].values())
    assert {n: result["parts_rows"][n] for n in ("brightness", "doubled", "files")} == dict.fromkeys(
        ("brightness", "doubled", "files"), 20
    )
    assert result["bytes_written"] == sizes(tmp_path, "columns/*/*.parquet")
    images = sum(pool.facts(0, ["bytes"])[0].column("bytes").to_pylist())
    assert result["bytes_read"] == images + 3 * sizes(tmp_path, "pixels/*.parquet"), "uids, again, and offsets"
    again = describe(Describe(pool.storage.url, (Brightness(), Doubled()), FOLDERS), "00000000")
    assert "seconds" not in again, "what was not done takes no part in a rate"


def test_rows_of_a_method_are_those_that_it_was_asked_about(tmp_path: Path) -> None:
    pool = tiny_pool(str(tmp_path), shards=1)
    work = DescribeSparse(pool.storage.url, Captioner(), FOLDERS, ())
    assert describe_sparse(work, "00000000")["parts_rows"]["captioner"] == 20
    assert describe_sparse(work, "00000000")["parts_rows"].get("captioner", 0) == 0


def test_seconds_add_up_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 4.0, 4.5, 10.0])
    monkeypatch.setattr("curate.run.account.time.perf_counter", lambda: next(clock))
    account = Account(Storage.at(tmp_path))
    for _ in range(2):
        with account.spent("a", rows=5):
            pass
    told = account.told(rows=7)
    assert told["seconds"] == {"a": 2.5, "files": 7.5}
    assert told["parts_rows"] == {"a": 10, "files": 7}


def test_a_file_read_in_pieces_counts_by_the_piece(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"0123456789")
    (tmp_path / "x.parquet").write_bytes(b"01234")
    account = Account(Storage.at(tmp_path))
    with account.storage.open("x.tar") as f:
        f.seek(4)
        assert f.read(3) == b"456"
    account.storage.local("x.tar")
    assert account.storage.bytes_read == 3
    account.storage.local("x.parquet")
    assert account.storage.bytes_read == 8
    assert account.storage.commit("y", b"123")
    assert not account.storage.commit("y", b"4567")
    assert account.storage.bytes_written == 3, "what somebody else had written first is not ours"


def test_names_say_parameters_and_no_place_on_this_machine() -> None:
    assert called(Weighed(weights="/home/somebody/w.txt", power=2.0)) == "weighed(weights=w.txt, power=2.0)"
    assert called(Doubled()) == "doubled"
