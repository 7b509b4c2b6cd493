"""Subset files: the vectors of DataComp's format, round trips, and the filter that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import subset
from curate.errors import UserError
from curate.pool.columns import write_parquet
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from curate.run.pick import PICK
from curate.subset import read_subset, write_subset
from filters.in_subset import PAIR, InSubset
from stages.base import Inputs, Shape, ShardColumns, shard_name
from tests.pools import synthetic, write

VECTORS = {
    "139e4a9b22a614771f06c700a8ebe150": (1413649363202610295, 2235693070683988304),
    "6e356964a967af455c8016b75d691203": (7941369398997528389, 6665352425310327299),
}


def pick_of(pool: Pool, times: dict[int, list[int]]) -> str:
    """A pick that takes the rows so many times; returns its folder."""
    folder = "picks/test@0123456789ab"
    for shard, counts in times.items():
        n = len(counts)
        footer = pool.facts(shard, ["uid"])[1]
        columns = [pa.nulls(n, pa.string()), pa.nulls(n, pa.string()), pa.array(counts), pa.array([[]] * n)]
        table = pa.table([c.cast(t) for c, t in zip(columns, PICK.types, strict=True)], schema=PICK)
        notes = {"rows": n, "uid_digest": footer["uid_digest"]}
        write(pool, part_file(folder, shard_name(shard)), write_parquet(table, notes))
    pool.describe_folder(folder, {"shards": sorted(times)})
    return folder


def numpy_way(uids: list[str]) -> np.ndarray:
    """A subset as DataComp's own instructions make it."""
    return np.array(sorted((int(u[:16], 16), int(u[16:], 16)) for u in uids), dtype="u8,u8")


@pytest.mark.parametrize("header", [True, False])
def test_reads_the_vectors_with_and_without_header(tmp_path: Path, header: bool) -> None:
    path = tmp_path / "subset.npy"
    twice = list(VECTORS)[1]
    pairs = numpy_way([*VECTORS, twice])
    assert [tuple(p) for p in pairs.tolist()[:2]] == list(VECTORS.values())
    np.save(path, pairs) if header else path.write_bytes(pairs.tobytes())
    uids, counts = read_subset(path)
    assert [u.hex() for u in uids.to_pylist()] == list(VECTORS)
    assert [f"{hi:016x}{lo:016x}" for hi, lo in VECTORS.values()] == list(VECTORS)
    assert counts.tolist() == [1, 2]


def test_writes_what_numpy_would_and_reads_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "BUCKET", 16)  # many ranges of the file
    pool = synthetic(tmp_path / "pool", rows=[50, 0, 70])
    times = {s: np.random.default_rng(s).integers(0, 4, n).tolist() for s, n in ((0, 50), (1, 0), (2, 70))}
    folder = pick_of(pool, times)
    known = {s: [u.hex() for u in pool.facts(s, ["uid"])[0].column("uid").to_pylist()] for s in times}
    taken = known[0][times[0].index(max(times[0]))]
    pool.remove(pa.array([bytes.fromhex(taken)], pa.binary(16)), "asked to")
    expected = [u for s in times for u, n in zip(known[s], times[s], strict=True) for _ in range(n) if u != taken]
    path = tmp_path / "out.npy"
    assert write_subset(pool, folder, path) == len(expected)
    np.save(tmp_path / "numpy.npy", numpy_way(expected))
    assert path.read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    uids, counts = read_subset(path)
    assert sorted(expected) == [u.hex() for u, n in zip(uids.to_pylist(), counts, strict=True) for _ in range(n)]
    assert list(tmp_path.glob(".out*")) == []


def test_an_empty_pick_is_an_empty_subset(tmp_path: Path) -> None:
    pool = synthetic(tmp_path / "pool", rows=[3])
    assert write_subset(pool, pick_of(pool, {0: [0, 0, 0]}), tmp_path / "none.npy") == 0
    uids, counts = read_subset(tmp_path / "none.npy")
    assert (len(uids), len(counts)) == (0, 0)


def test_no_pick_is_said(tmp_path: Path) -> None:
    pool = synthetic(tmp_path / "pool", rows=[3])
    with pytest.raises(UserError, match="no pick picks/absent@0"):
        write_subset(pool, "picks/absent@0", tmp_path / "none.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 33, "no multiple of 16"),
        (numpy_way(list(VECTORS))[::-1].tobytes(), r"entry 1 is smaller.*sort the file"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_subset(path)
    np.save(path, np.arange(4, dtype=np.uint64))
    with pytest.raises(UserError, match="dtype 'u8,u8'"):
        read_subset(path)
    with pytest.raises(UserError, match="absent"):
        read_subset(tmp_path / "absent.npy")


@given(st.data())
def test_the_filter_counts_what_the_file_names(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    some = st.integers(0, 40).map(lambda i: (i // 4, i % 4))  # equal high halves are common
    named = sorted(data.draw(st.lists(some)))
    rows = data.draw(st.lists(st.tuples(some, st.booleans()), min_size=1))
    path = tmp_path_factory.mktemp("subset") / "s.npy"
    np.save(path, np.array(named, PAIR))
    uid = pa.array([hi.to_bytes(8, "big") + lo.to_bytes(8, "big") for (hi, lo), _ in rows], pa.binary(16))
    asked = [a for _, a in rows]
    chosen = InSubset(path=str(path), over="survivors")
    (phase,) = chosen.phases(Shape((7,), (len(rows),)))
    assert (phase.parts, phase.inputs("00000007")) == (("00000007",), (ShardColumns(7),))
    table = pa.table({"uid": uid, "asked": asked})
    verdict = chosen.run("match", "00000007", Inputs(phase.inputs("00000007"), lambda _: table)).tables
    for row, (pair, was_asked) in zip(verdict.to_pylist(), rows, strict=True):
        n = named.count(pair)
        expected = (n > 0, None if n else "not_in_subset", n) if was_asked else (None, None, None)
        assert (row["keep"], row["reason"], row["copies"]) == expected


def test_the_filter_depends_on_the_content_of_its_file(tmp_path: Path) -> None:
    chosen = InSubset(path=str(tmp_path / "s.npy"), over="pool")
    assert chosen.files() == (str(tmp_path / "s.npy"),)
    assert chosen.reads() == ()
