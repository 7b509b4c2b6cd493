"""Exact sums: of any floats, in any order and cut."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stages.tally as tally
from stages.shuffle import joined
from stages.tally import add_up, exact_parts, exact_total, squares, summed

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MODERATE = st.floats(-1e100, 1e100).map(lambda x: 0.0 if abs(x) < 1e-100 else x)


@given(values=st.lists(FLOATS, max_size=30), cut=st.integers(0, 30))
def test_a_sum_is_exact_and_adds_up_however_it_is_cut(values: list[float], cut: int) -> None:
    parts = [exact_parts(np.array(v)) for v in (values[:cut], values[cut:])]
    together = add_up(joined(parts), ("upper", "lower"))
    assert exact_total(together) == sum(map(Fraction, values), Fraction(0))
    whole = exact_parts(np.array(values[::-1]))
    assert all(np.array_equal(whole[name], together[name]) for name in whole)


@given(values=st.lists(MODERATE, max_size=20))
def test_squares_are_exact(values: list[float]) -> None:
    found = exact_total(exact_parts(squares(np.array(values))))
    assert found == sum((Fraction(v) ** 2 for v in values), Fraction(0))


def test_what_floats_lose() -> None:
    values = np.array([1e16, 1.0, -1e16, 1.0] * 1000)
    assert exact_total(exact_parts(values)) == 2000
    assert float(values.sum()) != 2000


def test_add_up_sums_by_key() -> None:
    rows = {"a": np.array([2, 1, 2, 1]), "b": np.array([0, 5, 0, 4]), "n": np.array([1, 2, 3, 4])}
    assert {k: v.tolist() for k, v in add_up(rows).items()} == {"a": [1, 1, 2], "b": [4, 5, 0], "n": [4, 2, 4]}
    none = {"a": np.empty(0, np.int64), "n": np.empty(0, np.int64)}
    assert len(add_up(none)["n"]) == 0


@given(
    tables=st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20), min_size=1, max_size=8),
    at_once=st.integers(0, 30),
)
def test_a_sum_in_parts_is_the_sum(tables: list[list[tuple[int, int]]], at_once: int) -> None:
    rows = [{"a": np.array([a for a, _ in t], np.int64), "n": np.array([n for _, n in t], np.int64)} for t in tables]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally, "AT_ONCE", at_once)
        found = summed(iter(rows))
    assert {n: a.tolist() for n, a in found.items()} == {n: a.tolist() for n, a in add_up(joined(rows)).items()}


def test_too_large_a_sum_is_seen_before_all_of_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "AT_ONCE", 100)
    read = []

    def tables() -> Iterator[dict[str, np.ndarray]]:
        for number in range(100):
            read.append(number)
            yield {"a": np.arange(50) + 50 * number, "n": np.ones(50, np.int64)}

    def few(rows: dict[str, np.ndarray]) -> None:
        if len(rows["n"]) > 140:
            raise ValueError("too many")

    with pytest.raises(ValueError, match="too many"):
        summed(tables(), check=few)
    assert len(read) == 3
