"""Files of uids as one side of a comparison: how often they name a uid, without reading what need not be read."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import subset
from curate.errors import UserError
from curate.subset import distinct, open_named, times_named
from filters.in_subset import PAIR

halves = st.one_of(st.integers(0, 3), st.sampled_from([2**63, 2**64 - 1]))  # equal high halves are common
uids = st.tuples(halves, halves)


def as_uid(pairs: list[tuple[int, int]]) -> pa.Array:
    return pa.array([hi.to_bytes(8, "big") + lo.to_bytes(8, "big") for hi, lo in pairs], pa.binary(16))


@given(st.lists(uids), st.lists(uids))
def test_times_named_are_counted(named, asked):
    pairs = np.array(sorted(named), PAIR)
    assert times_named(pairs, as_uid(asked)).tolist() == [Counter(named)[u] for u in asked]
    sliced = as_uid([(9, 9), *asked]).slice(1)
    assert times_named(pairs, pa.chunked_array([sliced[:1], sliced[1:]])).tolist() == [Counter(named)[u] for u in asked]


@given(st.lists(uids), st.integers(1, 5))
def test_distinct_uids_are_counted_over_pieces(named, bucket):
    before, subset.BUCKET = subset.BUCKET, bucket
    try:
        assert distinct(np.array(sorted(named), PAIR)) == len(set(named))
    finally:
        subset.BUCKET = before


@given(st.lists(st.tuples(uids, st.sampled_from(["{:032x}", "{:x}", "{:X}", "  {:032X}\t"]))), st.booleans())
def test_lists_of_uids_are_read_as_people_write_them(tmp_path_factory, lines, marked):
    path = tmp_path_factory.mktemp("list") / "list.txt"
    text = "\r\n".join(how.format((hi << 64) | lo) for (hi, lo), how in lines)
    path.write_text(("\ufeff" if marked else "") + text + "\n\n", encoding="utf-8", newline="")
    assert open_named(path).tolist() == sorted(u for u, _ in lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"00\n\nxyz\n", r"list\.txt:3: 'xyz' is not a uid"),
        (b"1" * 33, r"list\.txt:1: '1{33}' is not a uid"),
        (b"00 11\n", r"list\.txt:1: '00 11' is not a uid"),
        ("०१".encode(), r"list\.txt:1: '०१' is not a uid"),
        (b"\xff\xfe0", r"list\.txt: cannot be read as a list of uids"),
    ],
)
def test_other_lists_are_refused_with_the_line(tmp_path, content, message):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_named(tmp_path / "list.txt")
