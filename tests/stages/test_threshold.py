"""The value at the top fraction, against sorting; and Nguyen's rule over it as a recipe."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.run.conditions import held
from filters.ranked import Ranked
from stages.base import fact
from stages.threshold import Threshold
from tests.phase_runner import PhaseRunner
from tests.run.caption_parts import captioned

Values = list[float | None]


def threshold(values: Values, asked: list[bool] | None = None, **more: object) -> list[float | None]:
    """The column over two shards of these values."""
    kept = [True] * len(values) if asked is None else asked
    uid = pa.array([i.to_bytes(16, "big") for i in range(len(values))], pa.binary(16))
    table = pa.table({"uid": uid, "v": pa.array(values, pa.float32()), "asked": kept})
    half = len(values) // 2
    over = "pool" if asked is None else "survivors"
    owner = Threshold.model_validate({"column": fact("v"), "over": over, "name": "s", **more})
    found = PhaseRunner({3: table.slice(0, half), 5: table.slice(half)}).run(owner)
    return pa.concat_tables([found[3], found[5]]).column("s").to_pylist()


scores = st.one_of(st.none(), st.floats(-2, 2, width=32))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(scores, st.booleans()), min_size=2, max_size=40), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_equals_sorting_what_is_asked(rows: list[tuple[float | None, bool]], fraction: float) -> None:
    values, asked = [v for v, _ in rows], [a for _, a in rows]
    found = threshold(values, asked, fraction=fraction)
    assert [f is not None for f in found] == asked
    there = sorted((v for v, a in rows if a and v is not None), reverse=True)
    chosen = int(sum(asked) * fraction)
    expected = math.inf if chosen == 0 else there[chosen - 1] if chosen <= len(there) else -math.inf
    assert {f for f in found if f is not None} <= {expected}


@given(st.lists(st.integers(-5, 5), min_size=4, max_size=30))
@settings(deadline=None, max_examples=30)
def test_at_least_so_much_is_the_best_fraction_and_its_ties(values: list[int]) -> None:
    (s,) = set(threshold([float(v) for v in values], fraction=0.5))
    (low,) = set(threshold([float(v) for v in values], fraction=0.5, lowest=True))
    assert s is not None
    assert low is not None
    assert sum(v > s for v in values) < len(values) // 2 <= sum(v >= s for v in values)
    assert sum(v < low for v in values) < len(values) // 2 <= sum(v <= low for v in values)


def test_the_convention_of_datacomp_takes_the_next() -> None:
    values: Values = [0.5, 0.25, 1.0, 0.75]
    assert set(threshold(values, fraction=0.5)) == {0.75}
    assert set(threshold(values, fraction=0.5, convention="n+1")) == {0.5}


def test_text_is_refused_by_name() -> None:
    table = pa.table({"uid": pa.array([b"0" * 16], pa.binary(16)), "v": ["x"]})
    with pytest.raises(ValueError, match=r"^threshold: column 'v' is string; only numbers can be ranked"):
        PhaseRunner({0: table}).run(Threshold(column=fact("v"), fraction=0.5, over="pool", name="s"))


def test_sketches_of_another_version_are_another_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its phases are those of `top_fraction`, whose own version is in no name of this one's folders."""
    owner = Threshold(column=fact("v"), fraction=0.5, over="pool", name="s")
    before = owner.identity()
    assert before["ranked"] == Ranked.version
    monkeypatch.setattr(Ranked, "version", Ranked.version + 1)
    assert owner.identity() != before


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_an_integer_that_no_double_is_reaches_its_own_bound(kind: pa.DataType) -> None:
    """2**53 + 3 is written as 2**53 + 4; SQL compares both as doubles."""
    values = [2**53 + 3, 2**53 + 1, 5, 7]
    uid = pa.array([i.to_bytes(16, "big") for i in range(4)], pa.binary(16))
    raw = pa.array(values, kind)
    owner = Threshold(column=fact("v"), fraction=0.25, over="pool", name="s")
    s = PhaseRunner({0: pa.table({"uid": uid, "v": raw})}).run(owner)[0].column("s").combine_chunks()
    columns = {fact("v"): raw, fact("s"): s}
    (answers,) = held({"v >= s": tuple(columns)}, columns).values()
    assert answers.to_pylist() == [True, False, False, False]


NGUYEN = """columns:
  - run.caption_parts:Length: {name: raw}
  - threshold: {column: raw, fraction: 0.3, over: %s, name: s}
captions:
  make:
    - run.caption_parts:Says
    - run.caption_parts:Length: {text: said, name: syn}
  emit:
    - where: "raw >= s"
    - texts: [{source: said}]
      where: "raw < s AND syn >= s"
"""


@pytest.mark.parametrize("over", ["pool", "survivors"])
def test_nguyens_rule(tmp_path: Path, over: str) -> None:
    """Raw at or above s is never replaced, kept synthetic texts reach the same s, and raw has its share."""
    draws = np.random.default_rng(0).integers(1, 60, 200)
    case = captioned(tmp_path, ["x" * n for n in draws], shards=2)
    rows = case.picked(case.run(NGUYEN % over + 'filters: [{id: long, where: "length(text) > 10"}]\n'))
    asked = draws if over == "pool" else draws[draws > 10]
    s = sorted(asked, reverse=True)[int(0.3 * len(asked)) - 1]
    for raw, row in zip(draws, rows, strict=True):
        got = [t["source"] for e in row["emit"] for t in e["texts"]]
        synthetic = raw + len("0 of ")
        expected = [] if raw <= 10 else ["web"] if raw >= s else ["said"] if synthetic >= s else []
        assert got == expected, raw
        assert row["dropped_by"] == ("long" if raw <= 10 else None if expected else "no_text")
    kept = sum(e["texts"][0]["source"] == "web" for r in rows for e in r["emit"])
    assert 0.3 * len(asked) - 1 <= kept <= 0.3 * len(asked) + np.count_nonzero(draws == s)


def test_other_filters_above_are_another_threshold_and_the_pools_stays(tmp_path: Path) -> None:
    case = captioned(tmp_path, ["x" * (1 + i % 40) for i in range(120)])
    longer = [f'filters: [{{where: "length(text) > {n}"}}]\n' for n in (3, 9)]
    picks = {case.run(NGUYEN % "survivors" + filters).pick for filters in longer}
    thresholds = [f for f in case.pool.storage.folders("barriers") if f.startswith("threshold@")]
    assert (len(picks), len(thresholds)) == (2, 2)
    for filters in longer:
        case.run(NGUYEN % "pool" + filters)
    assert len([f for f in case.pool.storage.folders("barriers") if f.startswith("threshold@")]) == 3
