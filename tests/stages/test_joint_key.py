"""Pairs are the same where both parts are, and nothing else shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.recipe import load_recipe
from stages.base import Batch, Column
from stages.joint_key import JointKey
from stages.phash import PHash


def keys(stage: JointKey, texts: Sequence[str | None], hashes: Sequence[int | None]) -> list[bytes | None]:
    table = pa.table({"text": pa.array(texts, pa.string()), "phash64": pa.array(hashes, pa.uint64())})
    found = stage.run(Batch.of(table))
    assert found.schema == stage.writes()
    return found.column(0).to_pylist()


def test_both_parts_make_the_pair() -> None:
    found = keys(
        JointKey(of=("phash64", "text_clean")), ["a dog", "a  dog ", "a cat", "a dog", None, "x"], [7, 7, 7, 8, 7, None]
    )
    a, b, c, d, *none = found
    assert a == b
    assert len({a, c, d}) == 3
    assert none == [None, None]


def test_the_order_of_parts_is_part_of_it() -> None:
    one, other = JointKey(of=("text", "phash64")), JointKey(of=("phash64", "text"))
    assert keys(one, ["a"], [1]) != keys(other, ["a"], [1])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "", None]), st.integers(0, 3) | st.none()), max_size=20))
def test_equal_where_the_parts_are(rows: list[tuple[str | None, int | None]]) -> None:
    found = keys(JointKey(of=("text", "phash64")), [t for t, _ in rows], [h for _, h in rows])
    for row, key in zip(rows, found, strict=True):
        assert (key is None) == (not row[0] or row[1] is None)
        same = [r == row for r in rows]
        assert key is None or same == [k == key for k in found]


def test_parts_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="a part stands twice in url, url"):
        JointKey(of=("url", "url"))
    with pytest.raises(ValueError, match="at least 2 items"):
        JointKey(of=("url",))


def test_in_a_recipe_a_part_may_be_a_stages(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "recipe: r\ncolumns:\n  - joint_key: {of: [phash64_stored, text_clean]}\n"
        "filters:\n  - cap: {by: pair, most: 1, over: survivors, on_missing: drop}\n"
    )
    owner = load_recipe(str(tmp_path / "r.yaml")).resolve("pair").owner
    assert owner == JointKey(of=(Column(PHash(), "phash64_stored"), "text_clean"))
    assert owner.reads() == (Column(PHash(), "phash64_stored"), Column(None, "text"))
