"""The formulas of MetaCLIP's balancing: values of section 10.3 of the specification, and exact counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stages.metaclip_balance import Matches, Rule, added, chance, keep_probability, tail_share, threshold_of


def test_probabilities_of_the_specification() -> None:
    counts = np.array([5, 10, 100, 1000])
    p = keep_probability(counts, 10)
    assert p.tolist() == [1, 1, 0.1, 0.01]
    assert (counts * p).tolist() == [5, 10, 10, 10]


@pytest.mark.parametrize(("p", "expected"), [([0.1, 0.01], 0.109), ([0.1, 1.0], 1.0), ([], 0.0)])
def test_a_text_is_kept_by_any_of_its_entries(p: list[float], expected: float) -> None:
    matches = Matches(1, np.zeros(len(p), np.int64), np.arange(len(p), dtype=np.uint64))
    assert chance(matches, np.array(p)) == pytest.approx([expected], abs=1e-12)


def test_thresholds_of_the_specification() -> None:
    first = np.array([1, 2, 3, 4, 10, 30, 50])
    assert tail_share(first, 10) == 0.1
    assert threshold_of(np.array([1, 1, 1, 2, 5, 40]), 0.1) == 2
    assert threshold_of(first, tail_share(first, 10)) == 4  # not an inverse
    assert threshold_of(np.array([0, 0, 0, 1, 100]), 0.001) == 1  # zeros sort first, and t is at least 1


def test_a_list_that_nothing_matches_keeps_with_probability_one() -> None:
    nothing = np.zeros(4, np.int64)
    assert threshold_of(nothing, 0.06) == 1
    assert tail_share(nothing, 10) == 0
    assert keep_probability(nothing, 1).tolist() == [1, 1, 1, 1]


def test_counts_add_up_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    tables = []
    for _ in range(9):
        key = np.unique(
            rng.integers(0, 5, 40).astype(np.uint64) << np.uint64(32) | rng.integers(0, 9, 40).astype(np.uint64)
        )
        tables.append(pa.table({"key": key, "count": rng.integers(1, 9, len(key))}))
    whole = added(tables)
    assert whole.equals(added([added(tables[::-2]), added(tables[-2::-2])]))
    plain: dict[int, int] = {}
    for table in tables:
        for key, count in zip(*(c.to_pylist() for c in table.columns), strict=True):
            plain[key] = plain.get(key, 0) + count
    assert dict(zip(*(c.to_pylist() for c in whole.columns), strict=True)) == plain
    assert added([]).num_rows == 0


def test_without_english_the_share_must_be_given() -> None:
    rule = Rule(10, None, "en")
    with pytest.raises(ValueError, match="give `tail:`"):
        rule.thresholds(["en", "ja"], [np.zeros(3, np.int64), np.ones(3, np.int64)])
    with pytest.raises(ValueError, match="no list 'en'"):
        rule.thresholds(["ja"], [np.ones(3, np.int64)])
    assert Rule(None, 0.5).thresholds(["ja"], [np.array([1, 1, 2])]) == {"ja": 1}
    assert Rule(7, 0.5).thresholds(["en", "ja"], [np.array([1]), np.array([1, 1, 2])]) == {"en": 7, "ja": 1}
