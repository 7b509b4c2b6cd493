"""Random subsets: exact sizes, nested, drawn by uid alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from filters.random_subset import RandomSubset
from stages.draws import hash64
from tests.phase_runner import PhaseRunner


def pool_of(rows: int, shards: int = 1) -> dict[int, pa.Table]:
    uids = [int(7919 * i).to_bytes(16, "big") for i in range(rows)]
    return {s: pa.table({"uid": pa.array(uids[s::shards], pa.binary(16))}) for s in range(shards)}


def kept(pool: dict[int, pa.Table], chosen: RandomSubset) -> tuple[set[bytes], set[str | None]]:
    found, reasons = set(), set()
    for shard, table in PhaseRunner(pool).run(chosen).items():
        keep = table["keep"].to_pylist()
        found |= {u for u, k in zip(pool[shard]["uid"].to_pylist(), keep, strict=True) if k}
        reasons |= {r for r, k in zip(table["reason"].to_pylist(), keep, strict=True) if not k}
    return found, reasons


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 60), samples=st.integers(1, 70), shards=st.integers(1, 4), seed=st.integers(0, 3))
def test_the_smallest_draws_stay_however_the_pool_is_cut(rows: int, samples: int, shards: int, seed: int) -> None:
    pool = pool_of(rows, min(shards, rows))
    uids = pa.concat_arrays([t["uid"].combine_chunks() for t in pool.values()])
    order = np.argsort(hash64(seed, "random_subset", uids))
    expected = {uids[int(i)].as_py() for i in order[:samples]}
    found, reasons = kept(pool, RandomSubset(over="pool", samples=samples, seed=seed))
    assert found == expected
    assert reasons <= {"not_in_random_subset"}


def test_a_fraction_is_cut_off_and_lies_within_a_larger_one() -> None:
    small, _ = kept(pool_of(99), RandomSubset(over="pool", fraction=0.1))
    large, _ = kept(pool_of(99), RandomSubset(over="pool", fraction=0.5))
    other, _ = kept(pool_of(99), RandomSubset(over="pool", fraction=0.1, seed=1))
    assert (len(small), len(large)) == (9, 49)
    assert small < large
    assert small != other


def test_none_are_kept_of_a_fraction_that_is_less_than_one() -> None:
    assert kept(pool_of(9), RandomSubset(over="pool", fraction=0.1)) == (set(), {"not_in_random_subset"})


@pytest.mark.parametrize("given", [{}, {"samples": 5, "fraction": 0.5}])
def test_either_a_count_or_a_share(given: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="expected either samples or fraction"):
        RandomSubset(over="pool", **given)
