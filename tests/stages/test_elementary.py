"""Logarithms of one's own: numpy's to a place or two, and without numpy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.elementary import BLOCK, log, log1m, log_sum

RNG = np.random.default_rng(0)
MANY = BLOCK + 1000


def places(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest error, in units in the last place."""
    return float((np.abs(found - expected) / np.spacing(np.abs(expected))).max())


@pytest.mark.parametrize(
    "values",
    [
        RNG.random(MANY),
        np.exp(RNG.normal(size=MANY) * 100),
        1 + RNG.normal(size=MANY) * 1e-3,
        np.array([5e-324, 1e-310, 2.0**-54, 0.5, 0.7071067811865475, 0.7071067811865476, 1.0, 2.0, 1.7e308]),
    ],
)
def test_logarithms_are_numpys(values: np.ndarray) -> None:
    assert places(log(values), np.log(values)) <= 2
    assert np.array_equal(log(np.array([0.0, -1.0, np.inf, np.nan])), [-np.inf, np.nan, np.inf, np.nan], equal_nan=True)


def test_of_one_minus_a_draw() -> None:
    draws = np.append(RNG.integers(1, 2**53, MANY) * 2.0**-53, [2.0**-54, 2.0**-53, 1 - 2.0**-53])
    assert places(log1m(draws), np.log1p(-draws)) <= 2
    assert places(log1m(draws * 1e-12), np.log1p(-draws * 1e-12)) <= 2
    assert log1m(np.array([0.0, 1.0])).tolist() == [0.0, -np.inf]


def test_sums_of_what_logarithms_stand_for() -> None:
    a, b = RNG.normal(size=(2, MANY)) * 20
    assert np.abs(log_sum(a, b) - np.logaddexp(a, b)).max() <= 1e-14
    none = np.array([-np.inf, -np.inf, 3.0, 0.0])
    assert log_sum(none, np.array([-np.inf, 2.0, -np.inf, -2000.0])).tolist() == [-np.inf, 2.0, 3.0, 0.0]


def test_nothing_of_numpys_that_depends_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("numpy's own")

    for name in ("log", "log1p", "log2", "logaddexp", "exp", "expm1", "exp2", "power"):
        monkeypatch.setattr(np, name, refused)
    x = np.array([0.25, 0.5])
    assert [float(np.round(f(x)[1], 3)) for f in (log, log1m)] == [-0.693, -0.693]
    assert np.round(log_sum(x, x), 3).tolist() == [0.943, 1.193]
