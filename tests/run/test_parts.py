"""Parts of a stage for survivors: whoever commits first is read by everybody, and no sample has two answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run.caption_parts import Captioned, Length, captioned

from curate.pool.columns import read_table, write_parquet
from curate.pool.posix import PosixStorage
from curate.run.describe import DescribeSparse, describe_sparse
from curate.run.parts import Parts, part_files, parts_by_shard
from curate.run.reader import ShardReader
from stages.base import TEXT, UID, Batch, Column, Stage

FOLDER, SHARD = "columns/says@0", "00000000"


class NeverTheSame(Stage):
    """A captioner whose every answer is longer than the one before; while it thinks, another run may work."""

    sparse: ClassVar[bool] = True
    meanwhile: ClassVar[list[Any]] = []
    answers: ClassVar[list[int]] = [0]

    def reads(self) -> tuple[Column, ...]:
        return (TEXT, UID)

    def writes(self) -> pa.Schema:
        return pa.schema([("said", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        if self.meanwhile:
            self.meanwhile.pop()()
        self.answers[0] += 1
        return pa.table({"said": ["x" * self.answers[0]] * batch.num_rows})


def keeps(case: Captioned, name: str, rows: range) -> str:
    """A verdict folder that keeps these rows."""
    reader = ShardReader(case.pool.storage, 0, {})
    table = pa.table({"keep": [i in rows for i in range(reader.rows)]})
    case.pool.storage.commit(f"verdicts/{name}/{SHARD}.parquet", write_parquet(table, reader.footer))
    return f"verdicts/{name}"


def uids(case: Captioned, folder: str) -> list[bytes]:
    found = [read_table(case.pool.storage, p, ["uid"])[0] for p in part_files(case.pool.storage, folder, 0)]
    return [u for t in found for u in t.column("uid").to_pylist()]


def test_of_two_runs_that_ask_at_once_the_first_to_commit_counts_and_scores_are_of_its_captions(tmp_path: Path) -> None:
    case = captioned(tmp_path, [f"picture {i}" for i in range(20)])
    says, length = NeverTheSame(), Length(text=Column(NeverTheSame(), "said"), name="said_length")
    places = {says: FOLDER, length: "columns/length@0"}
    first, second = keeps(case, "a@0", range(12)), keeps(case, "b@0", range(4, 20))

    def another_run() -> None:
        """Begins later, ends earlier: captions and their scores."""
        describe_sparse(DescribeSparse(case.url, says, places, (first,)), SHARD)
        describe_sparse(DescribeSparse(case.url, length, places, (first,)), SHARD)

    NeverTheSame.meanwhile.append(another_run)
    told = describe_sparse(DescribeSparse(case.url, says, places, (second,)), SHARD)
    assert told["rows"] == 16, "it asked about eight that the other run asked about meanwhile"
    describe_sparse(DescribeSparse(case.url, length, places, (second,)), SHARD)
    reader = ShardReader(case.pool.storage, 0, places)
    said = reader.columns([Column(says, "said")])[Column(says, "said")].to_pylist()
    scores = reader.columns([Column(length, "said_length")])[Column(length, "said_length")].to_pylist()
    assert [len(s) for s in said] == scores == [1] * 12 + [2] * 8
    for folder in places.values():
        assert sorted(uids(case, folder)) == sorted(set(uids(case, folder))), folder
    assert [Path(p).name for p in part_files(case.pool.storage, FOLDER, 0)] == [
        "00000000.000000.parquet",
        "00000000.000001.parquet",
    ]


def test_parts_of_older_pools_are_read_and_the_first_by_name_counts(tmp_path: Path) -> None:
    case = captioned(tmp_path, [f"picture {i}" for i in range(4)])
    all_of_them = ShardReader(case.pool.storage, 0, {}).uid
    for digest, said, rows in (("9f00aa11", "late", slice(0, 3)), ("00000012", "early", slice(0, 2))):
        table = pa.table({"uid": all_of_them[rows], "said": [said] * len(all_of_them[rows])})
        table = table.append_column("error", pa.nulls(len(table), pa.string()))
        case.pool.storage.commit(f"{FOLDER}/{SHARD}.{digest}.parquet", write_parquet(table, {}))
    says = NeverTheSame()
    NeverTheSame.answers[0] = 0
    told = describe_sparse(DescribeSparse(case.url, says, {says: FOLDER}, ()), SHARD)
    assert told["rows"] == 1
    column = Column(says, "said")
    found = ShardReader(case.pool.storage, 0, {says: FOLDER}).columns([column])[column]
    assert found.to_pylist() == ["early", "early", "late", "x"]


def test_a_file_of_all_samples_is_no_part(tmp_path: Path) -> None:
    """A stage may have been for all of them once; such a file has no uid."""
    case = captioned(tmp_path, [f"picture {i}" for i in range(4)])
    storage, says = case.pool.storage, NeverTheSame()
    whole = pa.table({"said": ["dense"] * 4, "error": pa.nulls(4, pa.string())})
    for name in (f"{SHARD}.parquet", f"{SHARD}.failed.json", "00000001.000000.parquet"):
        storage.commit(f"{FOLDER}/{name}", write_parquet(whole, {}))
    assert part_files(storage, FOLDER, 0) == []
    assert parts_by_shard(storage, FOLDER) == {1: [f"{FOLDER}/00000001.000000.parquet"]}
    assert describe_sparse(DescribeSparse(case.url, says, {says: FOLDER}, ()), SHARD)["rows"] == 4
    assert part_files(storage, FOLDER, 0) == parts_by_shard(storage, FOLDER)[0] == [f"{FOLDER}/{SHARD}.000000.parquet"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 9), min_size=1)), max_size=12))
def test_in_whatever_order_workers_commit_no_sample_is_in_two_parts(
    tmp_path_factory: pytest.TempPathFactory, commits: list[tuple[int, set[int]]]
) -> None:
    """Three workers that began at once, each of which asks about a sample once; a value says which commit it is of."""
    storage = PosixStorage(str(tmp_path_factory.mktemp("parts")))
    workers = [Parts(storage, "c", 0) for _ in range(3)]
    first: dict[bytes, int] = {}
    asked: list[set[int]] = [set(), set(), set()]
    for number, (worker, rows) in enumerate(commits):
        keys = [bytes([r]) * 16 for r in sorted(rows - asked[worker])]
        asked[worker] |= rows
        table = pa.table({"uid": pa.array(keys, pa.binary(16)), "v": pa.array([number] * len(keys), pa.int64())})
        kept = workers[worker].commit(table, {"shard": 0})
        assert kept.column("uid").to_pylist() == [k for k in keys if k not in first]
        first |= {k: number for k in keys if k not in first}
    parts = [read_table(storage, p, None) for p in part_files(storage, "c", 0)]
    assert all(footer["rows"] == len(table) > 0 for table, footer in parts)
    pairs = [p for t, _ in parts for p in zip(*t.to_pydict().values(), strict=True)]
    assert sorted(pairs) == sorted(first.items())
