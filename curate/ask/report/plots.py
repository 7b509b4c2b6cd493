"""Histograms as inline SVG, with their words as HTML beside them: letters keep their size on a small screen.

What is kept, lost and otherwise gone differs in pattern as well as in colour; the numbers stand in a table below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from curate.ask.report.found import Histogram, Threshold
from curate.ask.report.html import number, table, text
from curate.ask.report.words import brief

WIDE, HIGH = 720.0, 150.0  # units of the drawing; it is scaled to the width there is
TICKS = 6
PATTERNS = (
    '<svg class="unseen" width="0" height="0" aria-hidden="true"><defs>'
    '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="lose" width="6" height="6"/><rect class="line" width="1.6" height="6"/></pattern>'
    '<pattern id="dots" width="6" height="6" patternUnits="userSpaceOnUse"><rect class="alone" width="6" height="6"/>'
    '<circle class="line" cx="3" cy="3" r="1"/></pattern></defs></svg>'
)
"""Once a page, before the first histogram."""


def histogram(h: Histogram) -> str:
    """A figure: title, bars, thresholds, axis, what lies outside, and the numbers as a table to open."""
    tops = [k + lost + o for k, lost, o in zip(h.kept, h.lost, h.other, strict=True)]
    most = max(tops, default=0)
    bars = "".join(_bar(h, i, most) for i, top in enumerate(tops) if top) if most else ""
    lines = "".join(_line(h, t) for t in h.thresholds)
    labels = "".join(_label(h, t, i) for i, t in enumerate(h.thresholds))
    ticks = "".join(_tick(h, v) for v in nice(h.edges[0], h.edges[-1], h.log))
    head = 1.5 * len(h.thresholds)
    return (
        f'<figure class="plot"><h3>{text(h.title)}</h3>'
        f'<div class="area" style="padding-top:{head:.1f}em"><div class="cuts" aria-hidden="true">{labels}</div>'
        f'<svg viewBox="0 0 {WIDE:.0f} {HIGH:.0f}" role="img" aria-label="{text(said(h), 1000)}">{bars}'
        f'<line class="axis" x1="0" y1="{HIGH}" x2="{WIDE}" y2="{HIGH}"/>{lines}</svg></div>'
        f'<div class="ticks" aria-hidden="true">{ticks}</div>'
        f'<figcaption class="soft">{text(_outside(h, most))}</figcaption>{_numbers(h)}</figure>'
    )


def said(h: Histogram) -> str:
    """The histogram in words, for who cannot see it."""
    cuts = ", ".join(f"{t.label} (what is {t.keeps} stays)" for t in h.thresholds)
    parts = ", ".join(f"{number(sum(c))} {w}" for c, w in _parts(h))
    return f"Histogram of {h.title} from {brief(h.edges[0])} to {brief(h.edges[-1])}: {parts}" + (
        f"; {cuts}" if cuts else ""
    )


def _parts(h: Histogram) -> list[tuple[tuple[int, ...], str]]:
    """(counts, what they are called)."""
    return [(c, w) for c, w in zip((h.kept, h.lost, h.other), h.words, strict=True) if w]


def _at(h: Histogram, value: float) -> float:
    """Where a value stands on the axis, 0 to 1."""
    first, last = h.edges[0], h.edges[-1]
    if h.log:
        first, last, value = (math.log(max(v, 1e-300)) for v in (first, last, value))
    return min(max((value - first) / (last - first), 0.0), 1.0) if last > first else 0.0


def _bar(h: Histogram, i: int, most: int) -> str:
    left, right = (WIDE * _at(h, h.edges[j]) for j in (i, i + 1))
    width = max(right - left - 1, 0.5)
    found, base = "", HIGH
    for count, kind in ((h.kept[i], "keep"), (h.lost[i], "lose"), (h.other[i], "alone")):
        if count:
            height = max(count / most * (HIGH - 4), 0.8)  # one sample among a million is still seen
            base -= height
            found += f'<rect class="{kind}" x="{left:.1f}" y="{base:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    return found


def _line(h: Histogram, t: Threshold) -> str:
    x = WIDE * _at(h, t.value)
    return f'<line class="cut" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{HIGH}"/>'


def _label(h: Histogram, t: Threshold, row: int) -> str:
    """Beside its line, on the side with room; the arrow points to what stays."""
    at = _at(h, t.value)
    side = f"left:{100 * at:.2f}%" if at < 0.6 else f"right:{100 * (1 - at):.2f}%"
    arrow = "→" if t.keeps == "above" else "←"
    words = f"{t.label} {arrow}" if t.keeps == "above" else f"{arrow} {t.label}"
    return f'<span style="{side};top:{1.5 * row:.1f}em">{text(words)}</span>'


def _tick(h: Histogram, value: float) -> str:
    """A number under the axis, in the middle of its place but at the ends."""
    at = _at(h, value)
    side = f"left:{100 * at:.2f}%" + (";transform:none" if at < 0.04 else "")
    if at > 0.96:
        side = f"right:{100 * (1 - at):.2f}%;transform:none"
    return f'<span style="{side}">{text(brief(value))}</span>'


def _outside(h: Histogram, most: int) -> str:
    parts = [f"highest bar {number(most)}"]
    parts += [f"{number(h.below)} below {brief(h.edges[0])}"] if h.below else []
    parts += [f"{number(h.above)} above {brief(h.edges[-1])}"] if h.above else []
    parts += [f"{number(h.missing)} without a value"] if h.missing else []
    parts += ["logarithmic axis"] if h.log else []
    return "; ".join(parts)


def _numbers(h: Histogram) -> str:
    rows = [
        [
            f"{text(brief(h.edges[i]))} to {text(brief(h.edges[i + 1]))}",
            *(number(c[i]) for c, _ in _parts(h)),
        ]
        for i in range(len(h.kept))
        if h.kept[i] + h.lost[i] + h.other[i]
    ]
    head = [("from, to", False), *((words, True) for _, words in _parts(h))]
    return f"<details><summary>Numbers</summary>{table(head, rows, f'{h.title}: numbers')}</details>"


def nice(first: float, last: float, log: bool) -> list[float]:
    """Round numbers between the two, some six of them."""
    if not (math.isfinite(first) and math.isfinite(last)) or last <= first:
        return [first]
    if log and first > 0:
        found = [
            m * 10.0**e
            for e in range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
            for m in (1, 2, 5)
        ]
        within = [v for v in found if first <= v <= last]
        tens = [v for v in within if math.isclose(math.log10(v) % 1, 0, abs_tol=1e-9)]
        return _some(within) if len(within) <= TICKS + 3 or len(tens) < 3 else _some(tens)
    step = 10.0 ** math.floor(math.log10((last - first) / TICKS))
    step *= next((m for m in (1, 2, 5) if (last - first) / (step * m) <= TICKS), 10)
    start = math.ceil(first / step - 1e-9)
    return [round(n * step, 12) for n in range(start, math.floor(last / step + 1e-9) + 1)]


def _some(values: Sequence[float]) -> list[float]:
    every = -(-len(values) // (TICKS + 3)) or 1
    return list(values[::every])
