"""A stage over texts: scalar in, scalar out; list in, list of equal length out."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.texts import TEXTS, is_list, like, like_type, retold, rows_of, several, sources_of, texts_of

TEXT = st.none() | st.text(max_size=5)
ROWS = st.lists(st.none() | st.lists(TEXT, max_size=4), max_size=6)
KINDS = st.sampled_from([TEXTS, pa.list_(pa.string()), pa.large_list(pa.large_string())])


def column(rows: list[list[str | None] | None], kind: pa.DataType) -> pa.Array:
    return several(rows, "web") if kind == TEXTS else pa.array(rows, kind)


@given(ROWS, KINDS, st.integers(0, 2))
def test_lists_keep_their_lengths(rows: list[list[str | None] | None], kind: pa.DataType, start: int) -> None:
    array, rows = column(rows, kind)[start:], rows[start:]
    texts, offsets = texts_of(array)
    assert rows_of(texts, offsets) == [row or [] for row in rows]
    found = like(array, [None if t is None else len(t) for t in texts], pa.int32())
    assert found.type == like_type(array.type, pa.int32()) == pa.list_(pa.int32())
    assert found.to_pylist() == [r and [None if t is None else len(t) for t in r] for r in rows]
    again = retold(array, texts)
    assert again.type == TEXTS
    assert sources_of(again) == sources_of(array)
    assert [r and [t["text"] for t in r] for r in again.to_pylist()] == rows


@given(st.lists(TEXT, max_size=6), st.integers(0, 2))
def test_scalars_stay_scalars(rows: list[str | None], start: int) -> None:
    array = pa.chunked_array([pa.array(rows, pa.string())[start:]], pa.string())
    texts, offsets = texts_of(array)
    assert texts == rows[start:]
    assert offsets.tolist() == list(range(len(texts) + 1))
    assert not is_list(array.type)
    assert like(array, texts, pa.string()).to_pylist() == texts
    assert retold(array, texts, "new").to_pylist() == texts


def test_sources_stay_or_change() -> None:
    array = several([["a", None], None], "blip")
    assert retold(array, ["b", "c"]).to_pylist()[0] == [
        {"source": "blip", "text": "b"},
        {"source": "blip", "text": "c"},
    ]
    assert {t["source"] for t in retold(array, ["b", "c"], "llm").to_pylist()[0]} == {"llm"}


def test_wrong_columns_and_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="a column of texts has strings"):
        texts_of(pa.array([1, 2]))
    with pytest.raises(ValueError, match="1 values for 2 texts"):
        like(pa.array([["a", "b"]]), [1], pa.int32())
