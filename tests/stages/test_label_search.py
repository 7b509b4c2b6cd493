"""Cut points found on a small set of clean and noisy samples: better than the middle, and at the planted place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.auroc import auroc
from stages.label_model import LabelModel
from stages.label_search import search
from tests.filters.sampled import pool_of
from tests.stages.cuts import column

COLUMNS = ("sharp", "blunt", "noise")


def samples(n: int, seed: int) -> dict[str, Any]:
    """`sharp` is above 3 for the clean; `blunt` a little higher; `noise` nothing."""
    rng = np.random.default_rng(seed)
    clean = rng.random(n) < 0.5
    sharp = np.where(clean ^ (rng.random(n) < 0.03), rng.uniform(3, 4, n), rng.uniform(0, 3, n))
    return {"sharp": sharp, "blunt": rng.normal(clean * 0.8), "noise": rng.normal(size=n), "clean": clean}


def test_cut_points_are_found_where_they_were_planted() -> None:
    votes, quality = search(pa.table(samples(400, 0)), COLUMNS, "clean", steps=6)
    by_name = {vote.column.field: vote for vote in votes}
    assert 2.2 < by_name["sharp"].drop_below <= by_name["sharp"].keep_above < 3.4
    assert quality > 0.9


def test_votes_found_on_the_probe_serve_on_a_pool() -> None:
    votes, quality = search(pa.table(samples(300, 1)), COLUMNS, "clean", steps=5)
    others = samples(2000, 2)
    found = column(pool_of({n: others[n] for n in COLUMNS}, 3), LabelModel(votes=votes))
    assert auroc(np.array(found), others["clean"]) > 0.88
    assert abs(auroc(np.array(found), others["clean"]) - quality) < 0.08


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clean": [True, True, True]}, "some of both are needed"),
        ({"clean": [True, False, None]}, "must say of every sample"),
        ({"noise": [None, None, None]}, "noise has no values"),
    ],
)
def test_probes_that_say_nothing(change: dict[str, Any], words: str) -> None:
    probe = {n: [1.0, 2.0, 3.0] for n in COLUMNS} | {"clean": [True, False, True]} | change
    columns = {n: pa.array(v, pa.float64()) if n == "noise" else v for n, v in probe.items()}
    with pytest.raises(ValueError, match=words):
        search(pa.table(columns), COLUMNS, "clean")


def test_two_columns_are_too_few() -> None:
    with pytest.raises(ValueError, match="at least three operators, not 2"):
        search(pa.table(samples(10, 0)), COLUMNS[:2], "clean")
