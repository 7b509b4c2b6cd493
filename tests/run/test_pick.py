"""The emit column: copies and texts of kept rows, against a plain reference."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.run.pick import Emit, build_emit

TEXTS = pa.list_(pa.struct([("source", pa.string()), ("text", pa.string())]))


def test_web_text_in_one_copy() -> None:
    emit, times, has_text = build_emit(
        (Emit(1, (("web", 1.0),)),),
        {"web": pa.array(["a", None, "c"])},
        np.array([True, True, False]),
        np.ones(3, np.int64),
    )
    assert emit.to_pylist() == [[{"copies": 1, "texts": [{"source": "web", "index": 0, "p": 1.0}]}], [], []]
    assert times.to_pylist() == [1, 0, 0]
    assert has_text.tolist() == [True, False, False]


def test_probability_of_a_missing_text_goes_to_the_others() -> None:
    mix = (Emit(1, (("web", 0.8), ("blip", 0.2))),)
    emit, _, _ = build_emit(
        mix,
        {"web": pa.array(["a", None]), "blip": pa.array([[{"source": "b", "text": "x"}] * 2] * 2, TEXTS)},
        np.ones(2, bool),
        np.ones(2, np.int64),
    )
    first, second = (e[0]["texts"] for e in emit.to_pylist())
    assert [(t["source"], t["index"], pytest.approx(t["p"])) for t in first] == [
        ("web", 0, 0.8),
        ("blip", 0, 0.1),
        ("blip", 1, 0.1),
    ]
    assert [(t["source"], pytest.approx(t["p"])) for t in second] == [("blip", 0.5), ("blip", 0.5)]


def test_each_gives_every_text_of_a_source_its_share_however_many_there_are() -> None:
    """LaCLIP: uniform over the original and the rewrites, of which some may have failed."""
    kinds = [["x", "y", "z", "w"], [None, "y", None, None], [None] * 4]
    rewrites = pa.array([[{"source": "r", "text": t} for t in row] for row in kinds], TEXTS)
    texts = {"web": pa.array(["a"] * 3), "rewrites": rewrites}
    emit, _, _ = build_emit(
        (Emit(1, (("web", 1.0), ("rewrites", 1.0)), each=(False, True)),), texts, np.ones(3, bool), np.ones(3, np.int64)
    )
    found = [{(t["source"], t["index"]): t["p"] for t in e[0]["texts"]} for e in emit.to_pylist()]
    assert found[0] == pytest.approx({("web", 0): 0.2} | {("rewrites", i): 0.2 for i in range(4)})
    assert found[1] == pytest.approx({("web", 0): 0.5, ("rewrites", 1): 0.5})
    assert found[2] == {("web", 0): 1.0}


def test_each_has_a_name_of_its_own_and_changes_no_other() -> None:
    texts = (("web", 1.0), ("many", 4.0))
    assert Emit(1, texts, None, (None, None), (False, False)).said() == Emit(1, texts).said()
    assert Emit(1, texts).said() == [1, [["web", 1.0], ["many", 4.0]]]
    assert len({str(Emit(1, texts, each=e).said()) for e in ((True, False), (False, True), (False, False))}) == 3


def test_capfilt_union_is_two_emits_and_filters_multiply_copies() -> None:
    union = (Emit(1, (("web", 1.0),)), Emit(2, (("blip", 1.0),)))
    emit, times, _ = build_emit(
        union, {"web": pa.array(["a"]), "blip": pa.array(["b"])}, np.ones(1, bool), np.array([3])
    )
    assert [e["copies"] for e in emit.to_pylist()[0]] == [3, 6]
    assert times.to_pylist() == [9]


@given(st.lists(st.tuples(st.booleans(), st.one_of(st.none(), st.text()), st.integers(0, 3)), max_size=40))
def test_equals_a_plain_loop(rows: list[tuple[bool, str | None, int]]) -> None:
    emits = (Emit(1, (("web", 0.5), ("many", 0.5))), Emit(1, (("web", 1.0),)))
    web = pa.array([t for _, t, _ in rows], pa.string())
    many = pa.array([[{"source": "m", "text": str(i)} for i in range(n)] for _, _, n in rows], TEXTS)
    alive = np.array([a for a, _, _ in rows], bool)
    emit, times, has_text = build_emit(emits, {"web": web, "many": many}, alive, np.ones(len(rows), np.int64))
    for got, (keeps, text, n), count, has in zip(emit.to_pylist(), rows, times.to_pylist(), has_text, strict=True):
        first = [("web", 0)] * (text is not None) + [("many", i) for i in range(n)]
        second = [("web", 0)] * (text is not None)
        expected = [e for e in (first, second) if e] if keeps else []
        assert [[(t["source"], t["index"]) for t in e["texts"]] for e in got] == expected
        assert all(sum(t["p"] for t in e["texts"]) == pytest.approx(1.0) for e in got)
        assert count == len(expected)
        assert has == bool(expected)
