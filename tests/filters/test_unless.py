"""A filter that some samples need not pass: of those it is asked nothing."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.base import Filter
from filters.combined import Intersect, Not
from filters.language import Language
from filters.top_fraction import TopFraction
from filters.unless import Unless
from filters.where import Where
from tests.phase_runner import PhaseRunner

SCHEMA = pa.schema([("uid", pa.binary(16)), ("list", pa.string()), ("lang", pa.string()), ("a", pa.float32())])
CLEAN, NOISY = "coco@1", "web@1"
ENGLISH = Language(keep=("en",))
Row = tuple[str, str | None, float | None]


def unless(member: Filter) -> Unless:
    return Unless(over="survivors", where="starts_with(list, 'coco@')", members=(member,))


def verdicts(chosen: Unless, *of: Row, asked: list[bool] | None = None) -> list[tuple[Any, Any]]:
    """keep and reason of each row, cut into two shards."""
    table = pa.Table.from_pylist(
        [dict(zip(SCHEMA.names, (bytes(15) + bytes([i]), *row), strict=True)) for i, row in enumerate(of)], SCHEMA
    ).append_column("asked", pa.array(asked or [True] * len(of)))
    half = len(of) // 2
    found = PhaseRunner({0: table.slice(0, half), 1: table.slice(half)}).run(chosen)
    return [pair for s in (0, 1) for pair in zip(*found[s].to_pydict().values(), strict=True)]


def test_of_who_stays_anyway_no_value_is_wanted() -> None:
    of: list[Row] = [(CLEAN, None, 0), (CLEAN, "de", 0), (NOISY, "en", 0), (NOISY, "de", 0)]
    wanted = [(True, None), (True, None), (True, None), (False, "language")]
    for member in (ENGLISH, Intersect(over="survivors", members=(ENGLISH, Where(sql="a = 0")))):
        assert verdicts(unless(member), *of) == wanted
    # The member of this one has phases of its own, which are not asked about clean rows either.
    kept = [(True, None), (True, None), (False, "kept_by_language"), (True, None)]
    assert verdicts(unless(Not(over="survivors", members=(ENGLISH,))), *of) == kept


def test_of_the_others_one_is() -> None:
    with pytest.raises(ValueError, match=f"language: sample {'00' * 15}02 has no value for lang"):
        verdicts(unless(ENGLISH), (CLEAN, None, 0), (NOISY, "en", 0), (NOISY, None, 0))
    drops = ENGLISH.model_copy(update={"on_missing": "drop"})
    assert verdicts(unless(drops), (CLEAN, None, 0), (NOISY, None, 0)) == [(True, None), (False, "missing")]


def test_a_fraction_is_one_of_those_who_are_asked() -> None:
    top = TopFraction(over="survivors", column="a", fraction=0.5)
    of: list[Row] = [(CLEAN, "en", None), (NOISY, "en", 0.1), (CLEAN, "en", 9), (NOISY, "en", 0.5)]
    assert [keep for keep, _ in verdicts(unless(top), *of)] == [True, False, True, True]


def test_whom_the_whole_is_not_asked_about_has_no_verdict() -> None:
    of: list[Row] = [(CLEAN, None, 0), (NOISY, None, 0), (CLEAN, "en", 0)]
    assert verdicts(unless(ENGLISH), *of, asked=[False, False, True]) == [(None, None), (None, None), (True, None)]


def test_where_it_cannot_be_said_who_stays_the_member_is_asked() -> None:
    chosen = Unless(over="survivors", where="a > 0.5", members=(ENGLISH,))
    assert verdicts(chosen, (NOISY, "de", None), (NOISY, "de", 1)) == [(False, "language"), (True, None)]
    assert chosen.reads() == ("lang", "a")


def test_it_is_a_predicate_and_one_member() -> None:
    with pytest.raises(ValidationError, match="`1 = 1` reads no column"):
        Unless(over="survivors", where="1 = 1", members=(ENGLISH,))
    with pytest.raises(ValidationError, match="at most 1 item"):
        Unless(over="survivors", where="a > 1", members=(ENGLISH, ENGLISH))
    assert unless(ENGLISH).identity() != unless(Language(keep=("de",))).identity()
    assert unless(ENGLISH).identity() != Unless(over="survivors", where="a > 1", members=(ENGLISH,)).identity()
