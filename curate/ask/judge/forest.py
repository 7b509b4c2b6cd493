"""Differences with their intervals, one a row, on one scale: what crosses the line at zero is not shown to differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

from curate.ask.judge.axes import Axis, line, mark, scale, svg
from curate.ask.judge.who import CONTROL, first_and_rest, groups, primary
from curate.ask.judge.words import OUTCOMES, gain_and_interval, judged, outcome, unit
from curate.ask.report.html import text
from curate.run.compare.found import Comparison, Difference, Metric


def forest(comparison: Comparison) -> str:
    """Differences of the primary metric by what they are against; the A/A control last."""
    grouped = groups(comparison)
    if not grouped:
        return ""
    metric = primary(comparison)
    axis = _axis(metric, [d for _, found in grouped for d in found])
    rows = "".join(_group(comparison, axis, title, found) for title, found in grouped)
    what = f"a − b{unit(metric).replace(' ', ', in ')}; above zero, the first one is better"
    foot = f'<div class="foot"><div class="under">{scale(axis)}<p class="soft along">{text(what)}</p></div></div>'
    return f'<div class="differences">{rows}{foot}</div>'


def _group(comparison: Comparison, axis: Axis, title: str, found: list[Difference]) -> str:
    """A list of rows; of very many pairs of recipes, those without the leading one are opened on request."""

    def rows(some: Sequence[Difference]) -> str:
        p = "p" if title == CONTROL else "Holm p"  # the control is corrected for nothing
        return f'<ul class="forest">{"".join(_row(primary(comparison), axis, d, p) for d in some)}</ul>'

    first, rest = first_and_rest(comparison, found)
    more = f"<details><summary>{len(rest)} other pairs</summary>{rows(rest)}</details>" if rest else ""
    return f"<h3>{text(title)}</h3>{rows(first)}{more}"


def _factor(metric: Metric) -> float:
    return 100.0 if metric.percent else 1.0


def _axis(metric: Metric, differences: Sequence[Difference]) -> Axis:
    """Zero is always on it."""
    ends = [v for d in differences for v in (d.comparison.low, d.comparison.mean, d.comparison.high)]
    return Axis.over([0.0, *(_factor(metric) * v for v in ends if math.isfinite(v))], margin=0.04)


def _row(metric: Metric, axis: Axis, d: Difference, p: str) -> str:
    c, kind = d.comparison, outcome(d.comparison)
    low, mean, high = (axis.at(_factor(metric) * v) for v in (c.low, c.mean, c.high))
    drawn = [line("zero", [(axis.at(0), 0), (axis.at(0), 1)])]
    if math.isfinite(c.low):
        drawn += [line(f"interval {kind}", [(low, 0.5), (high, 0.5)])]
        drawn += [line(f"interval {kind}", [(end, 0.3), (end, 0.7)]) for end in (low, high)]
    drawn.append(mark(kind, (mean, 0.5)))
    told = gain_and_interval(metric, c)
    more = f'<span class="soft">{text(judged(c, p))}</span>'
    return (
        f'<li><p class="who"><b>{text(d.a)}</b> <span class="soft">−</span> {text(d.b)}</p>'
        f'<div class="track">{svg(drawn, f"{d.a} minus {d.b}: {told}, {OUTCOMES[kind]}")}</div>'
        f'<p class="told"><span class="{kind}">{text(told)}</span> {more}</p></li>'
    )
