"""Histograms of what filters bound: where values lie, which of them the filter took, and where it drew its line.

axis = axis_of(sample, whole, bounds)                  # edges from a sample of the values and from the bounds
count = binned(values, axis.edges, group)              # exact, shard by shard; counts add up
histogram(margin, axis, count)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.ask.report.found import Histogram, Threshold
from filters.base import Bound, Margin

BINS = 40  # about so many
WHOLE_BINS = 60  # whole numbers over at most so many values have a bin each
TAILS = (0.005, 0.995)  # quantiles that the edges span; what lies beyond is counted as below and above
LOG_FROM = 20.0  # the ratio of the ends from which a skewed quantity is drawn in factors
EXACT = 2.0**52  # whole numbers beyond it are not told apart
HUGE = 1e200  # values that nothing measures, but that a column may have
KEPT, LOST, OTHER = 0, 1, 2  # what became of a row; others were dropped by another filter


@dataclass(frozen=True)
class Axis:
    """edges: ascending. log: they grow by factors. lines: where each bound stands."""

    edges: np.ndarray
    log: bool
    lines: tuple[Threshold, ...]


def axis_of(sample: np.ndarray, whole: bool, bounds: Sequence[Bound]) -> Axis | None:
    """Edges that span the middle of the sample and the bounds, a bound always being an edge; None: nothing to span.

    Args:
        sample: finite values of the quantity, in any order.
        whole: it takes whole numbers only. Edges are whole, bin n is [n, n + 1) or a multiple of it.
    """
    whole = whole and bool((np.abs(np.append(sample, [at for at, *_ in bounds])) < EXACT).all())
    lines = tuple(Threshold(_line(at, side, whole), side, label) for at, side, label in bounds)
    ends = np.array([t.value for t in lines])
    if len(sample):
        ends = np.append(ends, np.quantile(sample, TAILS, method="nearest") + np.array([0, whole]))
    if not len(ends):
        return None
    low, high = float(ends.min()), float(ends.max())
    middle = float(np.median(sample)) if len(sample) else (low + high) / 2
    log = low > 0 and high / low >= LOG_FROM and middle - low < 0.3 * (high - low)
    if whole and high - low <= WHOLE_BINS:
        log, edges = False, np.arange(low, max(high, low + 1) + 1)
    elif log:
        inner = np.geomspace(low, high, BINS + 1)[1:-1]
        edges = np.unique([low, *(np.rint(inner) if whole else inner), high])
    else:
        edges = _even(low, high, whole)
    return Axis(_through(edges, [t.value for t in lines]), log, lines)


def _line(at: float, side: str, whole: bool) -> float:
    """Where a bound stands on the axis: of whole numbers that stay below, at the end of the last one's bin."""
    if not whole:
        return at
    return float(math.ceil(at) if side == "above" else math.floor(at) + 1)


def _even(low: float, high: float, whole: bool) -> np.ndarray:
    """Edges at round numbers, 20 to 50 bins; one bin where numbers are too large to have round ones between."""
    size = max(abs(low), abs(high))
    if size > HUGE:
        return np.array([low, high if high > low else np.nextafter(low, np.inf)])
    span = high - low
    if span <= size * 1e-9 or size < 1 / HUGE:
        span = size / 10 if size > 1 / HUGE else 1.0
    power = 10.0 ** math.floor(math.log10(span / BINS))
    step = next(f * power for f in (1, 2, 2.5, 5, 10, 20) if span / (f * power) <= BINS)
    if whole:
        step = float(max(1, math.ceil(step)))
    first, last = math.floor(low / step), math.ceil(high / step)
    edges = np.arange(first, max(last, first + 1) + 1) * step
    return np.unique(np.round(edges, min(12 - math.floor(math.log10(span)), 300)))


def _through(edges: np.ndarray, lines: Sequence[float]) -> np.ndarray:
    """The edges with each line among them: the nearest inner edge moves there, or there is one more."""
    found, fixed = edges.tolist(), set(lines)
    for line in sorted(fixed - set(found)):
        near = min(range(len(found)), key=lambda i: abs(found[i] - line))
        if 0 < near < len(found) - 1 and found[near] not in fixed and found[near - 1] < line < found[near + 1]:
            found[near] = line
        else:
            found = sorted([*found, line])
    return np.array(found)


def binned(values: np.ndarray, edges: np.ndarray, group: np.ndarray) -> np.ndarray:
    """int64 (bins + 3, 3): rows a bin, then below, above and missing; by group KEPT, LOST, OTHER.

    Args:
        values: float64 (rows,); NaN is missing. group: int (rows,).
    """
    bins = len(edges) - 1
    at = np.searchsorted(edges, values, side="right") - 1
    at[values == edges[-1]] = bins - 1
    at[values < edges[0]] = bins
    at[values > edges[-1]] = bins + 1
    at[np.isnan(values)] = bins + 2
    return np.bincount(at * 3 + group, minlength=3 * (bins + 3)).reshape(-1, 3)


def histogram(margin: Margin, axis: Axis, counts: np.ndarray) -> Histogram:
    """Args: counts: sum of what `binned` gave."""
    bins = len(axis.edges) - 1
    kept, lost, other = (tuple(counts[:bins, g].tolist()) for g in (KEPT, LOST, OTHER))
    below, above, missing = counts[bins:].sum(axis=1).tolist()
    edges = tuple(axis.edges.tolist())
    return Histogram(margin.name, edges, kept, lost, other, axis.lines, below, above, missing, axis.log)
