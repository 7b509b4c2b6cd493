"""Histograms: edges that hold the bounds, counts that add up to who was asked, whatever the values are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.ask.report.found import Histogram
from curate.ask.report.gather import gather
from curate.ask.report.histograms import EXACT, KEPT, LOST, OTHER, axis_of, binned, histogram
from curate.pool.pool import Pool
from filters.base import Bound, Filter, Margin
from filters.caption_length import CaptionLength
from filters.image_size import ImageSize
from filters.top_fraction import TopFraction
from filters.where import Where
from tests.ask.report_runs import everything, facts, numbers, run, small_pool

VALUES = st.lists(
    st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(-1000, 1000).map(float), st.floats(1, 10)),
    max_size=60,
)
BOUNDS = st.lists(
    st.tuples(st.floats(-1e6, 1e6), st.sampled_from(["above", "below"]), st.just("b")),
    max_size=3,
    unique_by=lambda b: b[0],
)


def sums(found: Histogram) -> int:
    return sum(found.kept) + sum(found.lost) + sum(found.other) + found.below + found.above + found.missing


@settings(deadline=None)
@given(VALUES, st.booleans(), BOUNDS)
def test_edges_ascend_and_every_row_is_counted_once(values: list[float], whole: bool, bounds: list[Bound]) -> None:
    measured = np.array(values, float)
    measured = np.trunc(measured) if whole else measured
    axis = axis_of(measured[np.isfinite(measured)], whole, bounds)
    if axis is None:
        assert not bounds
        assert not np.isfinite(measured).any()
        return
    assert (np.diff(axis.edges) > 0).all()
    assert 2 <= len(axis.edges) <= 70
    assert {t.value for t in axis.lines} <= set(axis.edges.tolist())
    if whole and (np.abs(measured[np.isfinite(measured)]) < EXACT).all():
        assert (axis.edges == np.rint(axis.edges)).all()
    group = np.arange(len(measured)) % 3
    found = histogram(Margin("m", "m"), axis, binned(measured, axis.edges, group))
    assert sums(found) == len(measured)
    assert found.missing == np.isnan(measured).sum()
    assert found.below == (measured < axis.edges[0]).sum()
    assert found.above == (measured > axis.edges[-1]).sum()
    inside = measured[(group == LOST) & ~np.isnan(measured)]
    inside = inside[(inside >= axis.edges[0]) & (inside <= axis.edges[-1])]
    assert found.lost == tuple(np.histogram(inside, axis.edges)[0].tolist())


def test_counts_have_a_bin_each_and_the_line_stands_between() -> None:
    axis = axis_of(
        np.arange(1.0, 31.0), True, [(3.0, "above", "min 3"), (20.0, "below", "max 20"), (4.5, "above", "x")]
    )
    assert axis is not None
    assert axis.edges.tolist() == list(range(1, 32))
    assert [t.value for t in axis.lines] == [3.0, 21.0, 5.0]
    assert not axis.log


def test_skewed_sizes_are_drawn_in_factors_with_whole_edges() -> None:
    sizes = np.rint(np.exp(np.random.default_rng(0).normal(6, 1, 10_000)))
    axis = axis_of(sizes, True, [(200.0, "above", "min_side 200")])
    assert axis is not None
    assert axis.log
    assert 200.0 in axis.edges
    ratios = axis.edges[1:] / axis.edges[:-1]
    assert ratios.max() < 1.6
    assert axis.edges[0] < 60
    assert axis.edges[-1] > 4000
    assert not axis_of(np.random.default_rng(0).normal(500, 20, 1000), False, []).log  # type: ignore[union-attr]


def test_scores_have_round_edges() -> None:
    axis = axis_of(np.random.default_rng(0).uniform(0.13, 0.42, 1000), False, [(0.283, "above", "top 30 %")])
    assert axis is not None
    steps = set(np.round(np.diff(axis.edges[axis.edges < 0.26]), 9))
    assert steps == {0.01}
    assert 0.283 in axis.edges
    assert 20 <= len(axis.edges) <= 52


def test_outliers_do_not_squeeze_the_rest_but_a_bound_far_away_is_shown() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 10_000), [1e9, -1e9])
    axis = axis_of(values, False, [])
    assert axis is not None
    assert -5 < axis.edges[0] < axis.edges[-1] < 5
    far = axis_of(values, False, [(50.0, "below", "x < 50")])
    assert far is not None
    assert far.edges[-1] == 50.0


@pytest.mark.parametrize(("value", "whole"), [(5.0, True), (0.25, False), (0.0, False), (-3.0, True), (1e-300, False)])
def test_one_single_value(value: float, whole: bool) -> None:
    axis = axis_of(np.full(10, value), whole, [])
    assert axis is not None
    assert sums(histogram(Margin("m", "m"), axis, binned(np.full(10, value), axis.edges, np.full(10, KEPT)))) == 10
    assert axis.edges[0] <= value <= axis.edges[-1]


def test_nothing_to_draw() -> None:
    assert axis_of(np.empty(0), False, []) is None
    axis = axis_of(np.empty(0), True, [(200.0, "above", "min_side 200")])
    assert axis is not None
    counts = binned(np.full(3, np.nan), axis.edges, np.full(3, OTHER))
    assert histogram(Margin("m", "m"), axis, counts).missing == 3


# ---------------------------------------------------------------- of a pick


FILTERS: dict[str, Filter] = {
    "size": ImageSize(min_side=100, max_aspect=3),
    "words": CaptionLength(min_words=4),
    "bytes": Where(sql="received_bytes / 2 > 300 AND NOT (phash64 >= 110)"),
    "best": TopFraction(over="survivors", column="received_bytes", fraction=0.5),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pool, str]:
    pool = small_pool(
        str(tmp_path_factory.mktemp("pool") / "pool"), received_bytes=[500 + (7919 * i) % 997 for i in range(120)]
    )
    return pool, run(pool, FILTERS)


def test_every_margin_counts_the_rows_that_its_filter_was_asked_about(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    found = gather(pool, pick)
    names = {s: [h.title for h in f.histograms] for s, f in found.filters.items()}
    assert names == {
        "size": ["shorter side", "longer by shorter side"],
        "words": ["words"],
        "bytes": ["received_bytes / 2", "phash64"],
        "best": ["received_bytes"],
    }
    for step in found.pick.steps:
        for shown in found.filters[step.id].histograms:
            assert sums(shown) == step.asked
            assert shown.missing == 0


def test_bins_hold_who_was_kept_lost_here_and_lost_elsewhere(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    known = facts(pool, ["original_width", "original_height", "received_bytes"])
    made = everything(pool, pick, ["dropped_by", "times"])
    shorter = np.minimum(known["original_width"], known["original_height"]).astype(float)
    kept, by = np.array(made["times"]) > 0, np.array(made["dropped_by"], object)
    (shown, _) = gather(pool, pick).filters["size"].histograms
    for rows, counts in ((kept, shown.kept), (by == "size", shown.lost), (~kept & (by != "size"), shown.other)):
        here = shorter[rows]
        here = here[(here >= shown.edges[0]) & (here <= shown.edges[-1])]
        assert np.histogram(here, np.array(shown.edges))[0].tolist() == list(counts)
    line = shown.edges.index(100.0)
    assert sum(shown.kept[:line]) == 0
    assert shown.below + sum(shown.lost[:line]) + sum(shown.other[:line]) == (shorter < 100).sum()


def test_the_bound_of_a_fraction_is_what_the_run_found(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    (shown,) = gather(pool, pick).filters["best"].histograms
    folder = next(s["folder"] for s in pool.about(pick)["steps"] if s["id"] == "best")
    keep = np.array([k is True for k in everything(pool, folder, ["keep"])["keep"]])
    last = min(numbers(facts(pool, ["received_bytes"])["received_bytes"])[keep])
    (line,) = shown.thresholds
    assert (line.value, line.keeps, line.label) == (last, "above", f"top 50 %: {last:,.0f}")


def test_values_that_are_missing_or_not_numbers(tmp_path: Path) -> None:
    pool = small_pool(str(tmp_path / "pool"), shards=1, rows=6, received_bytes=[10, 20, 30, 40, 50, None])
    half = Where(sql="received_bytes >= 25", on_missing="drop")
    odd = Where(sql="ln(received_bytes - 20) < 100", on_missing="keep")  # of a negative number, and of 0: an error
    found = gather(pool, run(pool, {"half": half}))
    (shown,) = found.filters["half"].histograms
    assert (shown.missing, sum(shown.lost), sum(shown.kept)) == (1, 2, 3)
    pool = small_pool(str(tmp_path / "odd"), shards=1, rows=5, received_bytes=[21, 22, 30, 40, 50])
    (shown,) = gather(pool, run(pool, {"odd": odd})).filters["odd"].histograms
    assert sums(shown) == 5
    assert shown.thresholds[0].value == np.nextafter(100, 0)
