"""The best of several captions: by hand, and what must hold of any scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base import Batch, fact
from stages.best_caption import BestCaption
from stages.texts import TEXTS, several
from tests.stages.text_lists import MANY, ONE

SCORE = fact("score")
Texts = Sequence[Sequence[str | None] | None]


def chosen(texts: Texts, scores: Sequence[Sequence[float | None] | None], **more: Any) -> list[tuple[Any, Any]]:
    stage = BestCaption(text=MANY, score=SCORE, **more)
    batch = Batch.of(pa.table({"score": pa.array(scores, pa.list_(pa.float32()))}))
    batch.add({MANY: several(texts, "blip")})
    table = stage.run(batch)
    assert table.schema == stage.writes()
    return list(zip(*[table.column(name).to_pylist() for name in table.column_names], strict=True))


def test_the_one_with_the_highest_score() -> None:
    found = chosen(
        [["a dog", "a cat", "a bus"], [None, "x"], None, [], ["!!", ""], ["a", "b"]],
        [[0.1, 0.5, 0.25], [None, None], None, [], [1, 2], [0.5, 0.5]],
    )
    assert found == [("a cat", 0.5), (None, None), (None, None), (None, None), (None, None), ("a", 0.5)]


def test_several_in_falling_order_with_their_sources() -> None:
    ((texts, scores),) = chosen([["a dog", "A Dog!", "a cat", "a bus"]], [[0.25, 0.5, 0.125, 1]], keep=3)
    assert texts == [{"source": "blip", "text": t} for t in ("a bus", "A Dog!", "a cat")]  # the same words once
    assert scores == [1, 0.5, 0.125]
    assert BestCaption(text=MANY, score=SCORE, keep=3).writes().types == [TEXTS, pa.list_(pa.float32())]


def test_what_repeats_itself_is_not_chosen() -> None:
    loop, plain = "a cat and a cat and a cat", "a cat on a mat"
    assert chosen([[loop, plain]], [[0.9, 0.1]]) == [(plain, pytest.approx(0.1))]
    assert chosen([[loop, plain]], [[0.9, 0.1]], repetition=1) == [(loop, pytest.approx(0.9))]
    assert chosen([[loop]], [[0.9]]) == [(None, None)]


def test_scores_that_are_no_numbers_are_none() -> None:
    assert chosen([["a", "b", "c"]], [[float("nan"), float("inf"), -1]]) == [("c", -1)]


def test_scores_of_other_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="'score' has 2 scores for 1 texts of 'told'"):
        chosen([["a"]], [[1, 2]])
    batch = Batch.of(pa.table({"score": [[1.0]]}))
    batch.add({ONE: pa.array(["a"])})
    with pytest.raises(ValueError, match=r"'told' has no lists \(string\)"):
        BestCaption(text=ONE, score=SCORE).run(batch)


pair = st.tuples(st.sampled_from(["a", "b", "c d", "A", "", None]), st.one_of(st.none(), st.integers(-3, 3)))


@given(st.lists(pair, max_size=8), st.integers(1, 4))
def test_no_text_that_is_left_is_better(pairs: list[tuple[str | None, int | None]], keep: int) -> None:
    ((texts, scores),) = chosen([[t for t, _ in pairs]], [[s for _, s in pairs]], keep=keep)
    there = {t.lower(): max(s for u, s in pairs if u and u.lower() == t.lower() and s is not None)
             for t, s in pairs if t and s is not None}  # fmt: skip
    if not there:
        assert (texts, scores) == (None, None)
        return
    many = [texts] if keep == 1 else [t["text"] for t in texts]
    values = [scores] if keep == 1 else scores
    assert values == sorted(there.values(), reverse=True)[:keep]
    assert [there[t.lower()] for t in many] == values
