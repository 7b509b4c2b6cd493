"""Draws by score where the machines of a cluster do not agree on the last bit of a logarithm: totals stay exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from filters.base import GlobalFilter
from filters.hard_cap import HardCap
from filters.sample_by import SampleBy
from filters.soft_cap import SoftCap
from tests.filters.sampled import pool_of, verdicts

SCORES = np.round(np.random.default_rng(4).gamma(2.0, size=60), 4).astype(np.float32)


def off_by_a_bit(real: Callable[..., Any]) -> Callable[..., Any]:
    """As another processor might have it, at every call another one."""
    calls = np.random.default_rng(0)

    def other(*arguments: Any, **named: Any) -> Any:
        return np.nextafter(real(*arguments, **named), calls.choice([-np.inf, np.inf]))

    return other


@pytest.mark.parametrize(
    ("chosen", "copies"),
    [
        (SampleBy(over="pool", column="score", samples=25), 25),
        (SampleBy(over="pool", column="score", samples=25, scale="linear", temperature=0.5), 25),
        (HardCap(over="pool", column="score", total=90, most=4), 90),
        (HardCap(over="pool", column="score", total=90, most=4, scale="linear"), 90),
        (SoftCap(over="pool", column="score", total=90, mode="sequential"), 90),
        (SoftCap(over="pool", column="score", total=91, mode="one_pass", alpha=0.3), 91),
        (SoftCap(over="pool", column="score", total=90, mode="rounds", batch=7), 90),
    ],
)
def test_totals_and_picks_are_the_same(chosen: GlobalFilter, copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = [pool_of({"score": SCORES}, 4), pool_of({"score": SCORES}, 3, seed=1)]
    alike = verdicts(pools[0], chosen)
    for name in ("log", "log1p", "logaddexp"):
        monkeypatch.setattr(np, name, off_by_a_bit(getattr(np, name)))
    for pool in pools:
        mixed = verdicts(pool, chosen)
        assert sum(v.get("copies", v["keep"]) for v in mixed.values()) == copies
        assert mixed == alike
