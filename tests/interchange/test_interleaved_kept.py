"""Which pictures are kept, looked up by uid: as a dictionary would say, also where uids share their first half."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import UserError
from curate.interchange.interleaved_kept import Kept, _of_equal_bytes, _Shard
from tests.pools import add_pick, add_verdict, synthetic

UID = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda h: b"".join(n.to_bytes(8, "big") for n in h))


@given(st.dictionaries(UID, st.booleans(), max_size=12), st.lists(UID, max_size=12))
@settings(max_examples=150, deadline=None)
def test_found_as_in_a_dictionary(samples: dict[bytes, bool], asked: list[bytes]) -> None:
    uids = sorted(samples)
    words = np.array([[int.from_bytes(u[:8], "big"), int.from_bytes(u[8:], "big")] for u in uids], np.uint64)
    high, low = words.reshape(-1, 2).T
    stands = np.array([i if samples[u] else -1 for i, u in enumerate(uids)], np.int64)
    none = np.zeros(len(uids), np.int32)
    kept = Kept(high, low, stands, none, none)
    found = kept.find(pa.array(asked, pa.binary(16)))
    assert found.tolist() == [uids.index(u) if samples.get(u) else -1 for u in asked]
    there = [int(n) for n in found if n >= 0]
    assert kept.uid(there) == [u for u in asked if samples.get(u)]


def test_of_equal_bytes_the_first_kept_one_stands() -> None:
    sha = np.array([[1, 1], [2, 2], [1, 1], [1, 1], [3, 3], [1, 2]], np.uint64)
    zeros = np.zeros(6, np.int32)
    halves, no = zeros.astype(np.uint64), zeros.astype(bool)
    sample = _Shard(halves, halves, no, no, zeros, zeros, sha)
    stands = np.array([-1, -1, 2, 3, 4, -1])
    assert _of_equal_bytes(sample, stands).tolist() == [2, -1, 2, 3, 4, -1]


def test_of_a_pool_with_a_pick(tmp_path: Path) -> None:
    pool = synthetic(tmp_path / "pool", rows=[30, 20])
    even = add_verdict(pool, "even", lambda shard, uid: np.arange(len(uid)) % 2 == 0)
    pick = add_pick(pool, "demo", [("even", even)])
    kept = Kept.of(pool, pick)
    uids = [u for s in pool.shards() for u in pool.facts(s, ["uid"])[0].column("uid").to_pylist()]
    found = kept.find(pa.array(uids, pa.binary(16)))
    assert [n >= 0 for n in found.tolist()] == [row % 2 == 0 for rows in (30, 20) for row in range(rows)]
    assert kept.uid(found[::2].tolist()) == uids[::2]
    assert (kept.shard[found[::2]] == np.repeat([0, 1], [15, 10])).all()
    pool.remove(pa.array(uids[:2], pa.binary(16)), "asked for")
    assert (Kept.of(pool, pick).find(pa.array(uids[:3], pa.binary(16))) >= 0).tolist() == [False, False, True]


def test_a_pick_of_other_rows_is_refused(tmp_path: Path) -> None:
    pool = synthetic(tmp_path / "pool", rows=[4])
    pick = add_pick(pool, "demo", [("all", add_verdict(pool, "all", lambda shard, uid: np.ones(len(uid), bool)))])
    (file,) = (tmp_path / "pool" / pick).glob("0*.parquet")
    out = io.BytesIO()
    pq.write_table(pq.read_table(file).slice(1).replace_schema_metadata(None), out)
    file.write_bytes(out.getvalue())
    with pytest.raises(UserError, match="belongs to other rows than its shard"):
        Kept.of(pool, pick)
    file.unlink()
    with pytest.raises(UserError, match="is missing; run the recipe again"):
        Kept.of(pool, pick)
