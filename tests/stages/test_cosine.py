"""Cosine of any two columns, by hand and against CLIP's own score."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stages.base import Batch, Column
from stages.clip import cosine
from stages.cosine import Cosine
from tests.stages.vector_parts import directions, vectors


def run(a: pa.Array, b: pa.Array) -> list[float | None]:
    table = pa.table({"a": a, "b": b})
    found = Cosine(a="a", b="b").run(Batch.of(table))
    assert found.schema == Cosine(a="a", b="b").writes()
    return list(found.column("cosine").to_pylist())


def test_by_hand() -> None:
    a = vectors(np.array([[3.0, 4], [1, 0], [1, 1], [1, 0], [0, 0]]), null=[3])
    b = vectors(np.array([[3.0, 4], [0, 2], [-1, -1], [1, 0], [1, 0]]))
    assert run(a, b) == [1, 0, -1, None, None]


def test_it_says_what_clip_score_says() -> None:
    a, b = vectors(directions(40, 12), null=[7]), vectors(directions(40, 12, 1))
    assert run(a, b) == cosine(a, b).to_pylist()


def test_rounded_to_a_ten_thousandth() -> None:
    found = np.array(run(vectors(directions(30, 9)), vectors(directions(30, 9, 1))))
    assert np.abs(found * 1e4 - np.rint(found * 1e4)).max() < 1e-2


def test_plain_lists_without_a_vector_have_no_cosine() -> None:
    for rows in (0, 2):
        none = pa.array([None] * rows, pa.list_(pa.float32()))
        assert run(none, none) == [None] * rows
        assert run(none, vectors(directions(2, 4)[:rows])) == [None] * rows


def test_two_models_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="a has 3 dimensions and b has 4"):
        run(vectors(directions(2, 3)), vectors(directions(2, 4)))


def test_the_sources_are_what_it_reads() -> None:
    stage = Cosine(a="x", b=Column(Cosine(a="p", b="q"), "cosine"), name="both")
    assert [c.field for c in stage.reads()] == ["x", "cosine"]
    assert stage.writes().names == ["both"]
    assert stage.identity()["parameters"] == {"a": "x", "b": "cosine", "name": "both"}
