"""An index says what a listing would say, without listing; it is a cache, and may be stale or gone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.pool import index as index_module
from curate.pool.columns import read_table, write_parquet
from curate.pool.index import FolderIndex
from curate.pool.storage import Storage

FOLDER = "columns/x@0123456789ab"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index from 4 shards on, compacted copies of 3 from 8 on."""
    for name, value in (("INDEX_FROM", 4), ("COMPACT_FROM", 8), ("COMPACT", 3)):
        monkeypatch.setattr(index_module, name, value)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "p")


def write(storage: Storage, shards: Sequence[int], rows: int = 2) -> None:
    """Files of `rows` rows plus the shard's number, whose values tell the shard."""
    for s in shards:
        n = rows + s % 3
        table = pa.table({"v": pa.array([s + i / 10 for i in range(n)], pa.float64()), "name": ["a"] * n})
        data = write_parquet(table, {"rows": n, "uid_digest": f"digest of {s}"})
        if storage.is_local:
            path = Path(storage.url) / FOLDER / f"{s:08d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        else:
            storage.put(f"{FOLDER}/{s:08d}.parquet", data)


def spied(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every folder that is listed and every file whose end is read, from now on."""
    seen: list[str] = []
    kind = type(storage)
    real_list, real_tail = kind.list, kind.tail

    def listing(self: Storage, folder: str, prefix: str = "") -> Any:
        seen.append(f"list {folder}")
        return real_list(self, folder, prefix)

    def tail(self: Storage, rel: str, size: int) -> Any:
        seen.append(f"tail {rel}")
        return real_tail(self, rel, size)

    monkeypatch.setattr(kind, "list", listing)
    monkeypatch.setattr(kind, "tail", tail)
    return seen


def load(storage: Storage) -> FolderIndex:
    return FolderIndex.load(storage, FOLDER)


# ---------------------------------------------------------------- without an index


def test_an_empty_folder_lacks_everything(storage: Storage) -> None:
    assert load(storage).missing([3, 1]) == [3, 1]
    assert load(storage).finished([]) == set()
    assert load(storage).known == {}


def test_only_whole_files_of_shards_count(storage: Storage) -> None:
    write(storage, [1])
    for name in ("00000002.failed.json", "00000003.0000abcd.parquet", "about.json", "00000004.parquet.part"):
        storage.commit(f"{FOLDER}/{name}", b"{}")
    assert load(storage).missing([1, 2, 3, 4]) == [2, 3, 4]


def test_missing_keeps_the_order_asked_for(storage: Storage) -> None:
    write(storage, [0, 2])
    assert load(storage).missing([5, 2, 4, 0, 1]) == [5, 4, 1]


def test_describe_reads_ends_of_files_once(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    write(storage, range(5))
    index, seen = load(storage), spied(storage, monkeypatch)
    sizes = {s: (Path(storage.url) / FOLDER / f"{s:08d}.parquet").stat().st_size for s in range(5)}
    assert index.describe([4, 1]) == {s: (2 + s % 3, f"digest of {s}", sizes[s]) for s in (4, 1)}
    assert sorted(seen) == [f"tail {FOLDER}/{s:08d}.parquet" for s in (1, 4)]
    index.describe([1, 4, 2])
    assert len(seen) == 3


def test_few_shards_get_no_index(storage: Storage) -> None:
    write(storage, range(63))
    load(storage).save(range(63))
    assert storage.list(f"{FOLDER}/_index") == []


# ---------------------------------------------------------------- with one


def test_sixty_four_shards_are_looked_up_without_listing_them(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(storage, range(64))
    load(storage).save(range(64))
    seen = spied(storage, monkeypatch)
    index = load(storage)
    assert index.missing(range(64)) == []
    assert index.describe([63])[63][:2] == (2, "digest of 63")
    assert seen == [f"list {FOLDER}/_index"]


@pytest.mark.usefixtures("few")
def test_an_index_knows_bounds_of_numbers(storage: Storage) -> None:
    write(storage, range(4))
    load(storage).save(range(4))
    (entry,) = storage.list(f"{FOLDER}/_index")
    rows = read_table(storage, f"{FOLDER}/_index/{entry.name}")[0].to_pylist()
    assert [r["shard"] for r in rows] == [0, 1, 2, 3]
    assert [json.loads(r["low"]) for r in rows] == [{"v": float(s)} for s in range(4)]
    assert [json.loads(r["high"])["v"] for r in rows] == pytest.approx([s + (1 + s % 3) / 10 for s in range(4)])


@pytest.mark.usefixtures("few")
def test_bounds_leave_out_nulls_and_not_a_number(storage: Storage) -> None:
    values = [[1.0, math.nan, 3.0], [None, None, None], [math.nan] * 3, [-1.0, None, 2.0]]
    for s, v in enumerate(values):
        data = write_parquet(pa.table({"v": pa.array(v, pa.float32())}), {"rows": 3, "uid_digest": str(s)})
        storage.commit(f"{FOLDER}/{s:08d}.parquet", data)
    load(storage).save(range(4))
    (entry,) = storage.list(f"{FOLDER}/_index")
    low = read_table(storage, f"{FOLDER}/_index/{entry.name}")[0].column("low").to_pylist()
    assert [json.loads(v) for v in low] == [{"v": 1.0}, {}, {}, {"v": -1.0}]


@pytest.mark.usefixtures("few")
def test_a_grown_folder_is_listed_and_then_indexed_anew(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    write(storage, range(5))
    load(storage).save(range(5))
    write(storage, [5, 6])
    index = load(storage)
    assert index.known.keys() == set(range(5)), "stale, as it must be"
    assert index.missing(range(8)) == [7]
    assert index.describe([6])[6][1] == "digest of 6"
    index.save(range(7))
    assert len(storage.list(f"{FOLDER}/_index")) == 2
    seen = spied(storage, monkeypatch)
    assert load(storage).missing(range(7)) == [], "the newest index is the one with the most shards"
    assert f"list {FOLDER}" not in seen


@pytest.mark.usefixtures("few")
def test_of_ten_and_nine_shards_ten_are_newer(storage: Storage) -> None:
    write(storage, range(10))
    for n in (9, 10):
        load(storage).save(range(n))
    assert len(load(storage).known) == 10


@pytest.mark.usefixtures("few")
def test_an_index_that_was_deleted_is_made_anew_with_the_same_bytes(storage: Storage) -> None:
    write(storage, range(5))
    load(storage).save(range(5))
    (entry,) = storage.list(f"{FOLDER}/_index")
    before = storage.read(f"{FOLDER}/_index/{entry.name}")
    storage.delete(f"{FOLDER}/_index/{entry.name}")
    assert load(storage).missing(range(5)) == []
    load(storage).save(range(5))
    assert [e.name for e in storage.list(f"{FOLDER}/_index")] == [entry.name]
    assert storage.read(f"{FOLDER}/_index/{entry.name}") == before


@pytest.mark.usefixtures("few")
def test_two_drivers_write_one_index(storage: Storage) -> None:
    write(storage, range(5))
    for index in (load(storage), load(storage)):
        index.save(range(5))
    assert len(storage.list(f"{FOLDER}/_index")) == 1


@pytest.mark.usefixtures("few")
def test_shards_that_failed_for_good_are_no_gap_in_the_index(storage: Storage) -> None:
    kept = [0, 1, 3, 5, 6]
    write(storage, kept)
    load(storage).save(kept)
    assert load(storage).finished(range(7)) == set(kept)
    assert load(storage).missing(range(7)) == [2, 4]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.lists(st.integers(0, 30), unique=True))
def test_an_index_of_any_age_answers_as_a_listing_does(
    tmp_path_factory: pytest.TempPathFactory, old: set[int], new: set[int], asked: list[int]
) -> None:
    storage = Storage.at(tmp_path_factory.mktemp("p"))
    write(storage, sorted(old))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(index_module, "INDEX_FROM", 1)
        load(storage).save(sorted(old))
    write(storage, sorted(new - old))
    assert load(storage).missing(asked) == [s for s in asked if s not in old | new]


# ---------------------------------------------------------------- compacted copies


def compact(storage: Storage, shards: Sequence[int]) -> FolderIndex:
    index = load(storage)
    index.save(shards)
    for group in index.uncompacted(shards):
        index.compact(group)
    return load(storage)


@pytest.mark.usefixtures("few")
def test_compacted_copies_hold_each_shard_as_a_row_group(storage: Storage) -> None:
    write(storage, range(8))
    index = compact(storage, range(8))
    names = index.compacted(range(8))
    assert list(names.values()) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    for name, shards in names.items():
        table, footer = read_table(storage, name)
        parts = [read_table(storage, f"{FOLDER}/{s:08d}.parquet")[0] for s in shards]
        assert table.to_pylist() == [row for part in parts for row in part.to_pylist()]
        assert footer["shards"] == shards
        assert footer["rows"] == table.num_rows
        assert footer["uid_digests"] == {str(s): f"digest of {s}" for s in shards}
        for i, part in enumerate(parts):
            assert read_table(storage, name, None, i)[0].to_pylist() == part.to_pylist()
    assert index.uncompacted(range(8)) == []


@pytest.mark.usefixtures("few")
def test_seven_shards_are_too_few_to_compact(storage: Storage) -> None:
    write(storage, range(7))
    index = compact(storage, range(7))
    assert index.compacted(range(7)) == {}
    assert storage.list(f"{FOLDER}/_compact") == []


@pytest.mark.usefixtures("few")
def test_a_grown_folder_compacts_only_what_is_new(storage: Storage) -> None:
    write(storage, range(8))
    compact(storage, range(8))
    write(storage, [8, 9])
    index = load(storage)
    index.save(range(10))
    assert index.uncompacted(range(10)) == [[6, 7, 8], [9]]
    assert list(load(storage).compacted(range(10)).values()) == [[0, 1, 2], [3, 4, 5]], "what is there is used"


@pytest.mark.usefixtures("few")
def test_a_copy_that_was_deleted_is_not_used_and_is_made_again(storage: Storage) -> None:
    write(storage, range(8))
    index = compact(storage, range(8))
    first = next(iter(index.compacted(range(8))))
    before = storage.read(first)
    storage.delete(first)
    assert list(load(storage).compacted(range(8)).values()) == [[3, 4, 5], [6, 7]]
    compact(storage, range(8))
    assert storage.read(first) == before


@pytest.mark.usefixtures("few")
def test_copies_of_other_shards_or_of_other_rows_are_not_used(storage: Storage) -> None:
    write(storage, range(9))
    index = compact(storage, range(9))
    assert index.compacted([*range(1, 9)]) == {}, "other runs of shards"
    assert list(index.compacted([0, 1, 2, 4, 5, 6, 7, 8]).values()) == [[0, 1, 2]]
    assert FolderIndex(storage, FOLDER).compacted(range(9)) == index.compacted(range(9)), (
        "digests come from footers too"
    )
    other = write_parquet(pa.table({"v": [4.0], "name": ["b"]}), {"rows": 1, "uid_digest": "digest of others"})
    storage.put(f"{FOLDER}/00000004.parquet", other)
    assert list(FolderIndex(storage, FOLDER).compacted(range(9)).values()) == [[0, 1, 2], [6, 7, 8]]


@pytest.mark.usefixtures("few")
def test_a_copy_with_an_empty_shard(storage: Storage) -> None:
    write(storage, range(1, 8))
    empty = pa.table({"v": pa.array([], pa.float64()), "name": pa.array([], pa.string())})
    storage.commit(f"{FOLDER}/00000000.parquet", write_parquet(empty, {"rows": 0, "uid_digest": "none"}))
    index = compact(storage, range(8))
    name = next(iter(index.compacted(range(8))))
    assert read_table(storage, name, None, 0)[0].num_rows == 0
    assert read_table(storage, name, None, 1)[0].num_rows == 3


def test_an_index_on_an_object_store(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("INDEX_FROM", 4), ("COMPACT_FROM", 8), ("COMPACT", 3)):
        monkeypatch.setattr(index_module, name, value)
    storage = Storage.at(s3_root)
    write(storage, range(8))
    index = compact(storage, range(8))
    assert list(index.compacted(range(8)).values()) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    size = len(storage.read(f"{FOLDER}/00000003.parquet"))
    assert index.describe([3]) == {3: (2, "digest of 3", size)}
    seen = spied(storage, monkeypatch)
    assert load(storage).missing(range(8)) == []
    assert seen == [f"list {FOLDER}/_index"]
