"""Pictures to sentences: the best assignment, one picture a sentence, and those left over to what is most like them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.interchange import interleaved_mmc4
from curate.interchange.interleaved_match import assign, assigned
from tests.interchange.interleaved_parts import mmc4, url

VALUE = st.integers(-100, 100).map(lambda v: v / 100)


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    pictures, sentences = draw(st.integers(0, 5)), draw(st.integers(1, 5))
    rows = st.lists(VALUE, min_size=sentences, max_size=sentences)
    return np.array(draw(st.lists(rows, min_size=pictures, max_size=pictures))).reshape(pictures, sentences)


def best(matrix: np.ndarray) -> float:
    """The largest sum, by trying all."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    ways = permutations(range(wide.shape[1]), wide.shape[0])
    return max(sum(wide[i, j] for i, j in enumerate(way)) for way in ways)


@given(matrices())
@settings(max_examples=100, deadline=None)
def test_the_best_of_all(matrix: np.ndarray) -> None:
    found = assign(matrix)
    assert found.shape == (len(matrix),)
    if not len(matrix):
        return
    values = matrix[np.arange(len(matrix)), found]
    if matrix.shape[0] <= matrix.shape[1]:
        assert len(set(found.tolist())) == len(found)
        assert values.sum() == pytest.approx(best(matrix))
    else:
        assert set(found.tolist()) == set(range(matrix.shape[1]))
        assert (values == matrix.max(axis=1)).sum() >= len(matrix) - matrix.shape[1]
        assert values.sum() >= best(matrix) + np.sort(matrix.max(axis=1))[: len(matrix) - matrix.shape[1]].sum() - 1e-9


def test_not_each_its_own_best() -> None:
    assert assign(np.array([[0.9, 0.8], [0.9, 0.1]])).tolist() == [1, 0]
    assert assign(np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.6]])).tolist() == [0, 0, 1]


@pytest.mark.parametrize("matrix", [np.zeros((2, 0)), np.array([[np.nan]]), np.array([[np.inf, 0]]), np.zeros(3)])
def test_what_cannot_be_assigned(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not finite numbers"):
        assign(matrix)


def test_a_document_assigned_anew() -> None:
    """Once the picture at sentence 1 has gone, its neighbour takes the place that suits it better."""
    record = mmc4([1, 2])
    record["similarity_matrix"] = [[0.1, 0.9, 0.1], [0.1, 0.8, 0.2]]
    record["image_info"][1]["matched_text_index"] = 2
    document = interleaved_mmc4.parse(record)
    assert document.similarities is not None
    assert assigned(document, document.similarities).nodes == document.nodes
    left = document.without({0})
    assert left.similarities is not None
    anew = assigned(left, left.similarities)
    assert anew.nodes == (left.texts[0], 0, left.texts[1], left.texts[2])
    assert (anew.pictures[0].url, anew.pictures[0].sentence, anew.pictures[0].similarity) == (url(2), 1, 0.8)
    assert anew.similarities is left.similarities
