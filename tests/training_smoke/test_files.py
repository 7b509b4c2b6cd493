"""Packs from afar: copied once for all readers, whole or not at all, in a cache of bounded size."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.training_smoke.pack_parts import check_same, put, thirty
from training_smoke.errors import TrainingError
from training_smoke.packs import Pack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return thirty(tmp_path_factory.mktemp("packs"))


@pytest.fixture
def remote(folder: Path, tmp_path: Path) -> str:
    """The same pack behind a URL."""
    url = f"memory://{tmp_path.name}-{time.time_ns()}"
    put(folder, url)
    return url


class Fetches:
    """Counts what is brought from a file system, and can spoil it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.spoil: dict[str, int] = {}  # how often a file comes damaged
        real = fsspec.get_filesystem_class("memory").get_file

        def get_file(fs: Any, source: str, target: str, **options: Any) -> None:
            name = source.rsplit("/", 1)[-1]
            self.names.append(name)
            real(fs, source, target, **options)
            if self.spoil.get(name, 0) > 0:
                self.spoil[name] -= 1
                Path(target).write_bytes(b"damaged")

        monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "get_file", get_file)
        monkeypatch.setattr("training_smoke.files.time.sleep", lambda _: None)


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> Fetches:
    return Fetches(monkeypatch)


def test_a_remote_pack_is_copied_once_by_however_many_readers(
    remote: str, folder: Path, tmp_path: Path, fetches: Fetches
) -> None:
    packs = [Pack.open(remote, tmp_path / "cache") for _ in range(3)]
    assert fetches.names == []
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: packs[i % 3].read(i % 30), range(120)))
    assert sorted(fetches.names) == sorted(p.name for p in [*folder.glob("*.tar"), *folder.glob("samples/*")])
    check_same(packs[0], folder)


def test_a_pack_on_s3_is_read_by_many_threads(s3_root: str, folder: Path, tmp_path: Path) -> None:
    put(folder, s3_root)
    pack = Pack.open(s3_root, tmp_path / "cache")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(pack.read, range(30)))
    assert found == [Pack.open(folder).read(i) for i in range(30)]


def test_the_cache_is_held_under_its_bytes_and_what_was_dropped_comes_again(
    remote: str, folder: Path, tmp_path: Path, fetches: Fetches, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = {p.name: p.stat().st_size for p in folder.glob("*.tar")}
    limit = 2 * max(tars.values()) + 40_000
    monkeypatch.setenv("CURATE_CACHE_GB", str(limit / 1e9))
    monkeypatch.setattr("training_smoke.packs.OPEN", 1)
    stranger = tmp_path / "cache" / "mine.txt"
    stranger.parent.mkdir()
    stranger.write_text("of somebody else")
    pack = Pack.open(remote, tmp_path / "cache")
    for _ in range(2):
        check_same(pack, folder)
        kept = [p for p in (tmp_path / "cache" / "packs").rglob("*.*") if p.suffix in (".tar", ".parquet")]
        assert sum(p.stat().st_size for p in kept) <= limit
    assert len([n for n in fetches.names if n.endswith(".tar")]) > len(tars)
    assert stranger.exists()


def test_damage_on_the_way_is_mended_and_damage_that_stays_is_named(
    remote: str, folder: Path, tmp_path: Path, fetches: Fetches
) -> None:
    fetches.spoil = {"00000000.tar": 2, "00000001.tar": 99}
    pack = Pack.open(remote, tmp_path / "cache")
    assert pack.read(0) == Pack.open(folder).read(0)
    with pytest.raises(TrainingError, match=r"00000001\.tar: its sha256 is not the one in manifest\.json.*\(4 times\)"):
        pack.read(8)
    assert {p.suffix for p in (tmp_path / "cache").rglob("00000001.tar*")} == {".lock"}


def test_a_broken_line_is_tried_again(
    remote: str, folder: Path, tmp_path: Path, fetches: Fetches, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = fsspec.get_filesystem_class("memory")
    whole, left = kind.get_file, [3]

    def broken(fs: Any, source: str, target: str, **options: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionResetError("the line broke")
        whole(fs, source, target, **options)

    monkeypatch.setattr(kind, "get_file", broken)
    assert Pack.open(remote, tmp_path / "cache").read(0) == Pack.open(folder).read(0)
    left[0] = 99
    with pytest.raises(TrainingError, match=r"00000003\.parquet: the line broke \(4 times\)"):
        Pack.open(remote, tmp_path / "other").read(29)


def test_a_remote_tar_that_is_not_there_is_named_at_once(remote: str, tmp_path: Path, fetches: Fetches) -> None:
    fs, root = fsspec.core.url_to_fs(remote)
    fs.rm_file(f"{root}/00000002.tar")
    with pytest.raises(TrainingError, match=r"00000002\.tar: there is no such file"):
        Pack.open(remote, tmp_path / "cache").read(16)


def test_a_url_of_an_unknown_kind_or_without_a_pack(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nowhere://"):
        Pack.open("nowhere://bucket/pack")
    with pytest.raises(TrainingError, match=r"manifest\.json: there is no such file"):
        Pack.open("memory://empty/pack", tmp_path)


def test_the_cache_is_where_the_environment_says(remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "said"))
    pack = Pack.open(remote)
    pack.read(0)
    assert (tmp_path / "said" / "packs" / pack.digest[:16] / "00000000.tar").is_file()
    assert pack.remote
