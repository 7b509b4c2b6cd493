"""A drawing with two axes: lines and marks as SVG that is stretched to its place, words as HTML that keeps its size.

    x, y = Axis.over(samples, log=True), Axis.over(scores)
    graph(x, y, [line("mean", [(x.at(a), y.at(b)), ...])], "Loss against samples seen")

Coordinates run from 0 to 1, from the left and from below. Strokes do not stretch: a line without length and with round
ends is a dot of its stroke's width, in any width of the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from curate.ask.judge.words import minus
from curate.ask.report.html import text
from curate.ask.report.plots import nice
from curate.ask.report.words import brief

SIDE = 1000.0  # units of the drawing, both ways
Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """From first to last, in factors where `log`."""

    first: float
    last: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], *, log: bool = False, margin: float = 0.06) -> Axis:
        """Spans all finite values and a margin; some width even where all are one."""
        found = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
        low, high = min(found, default=1.0), max(found, default=1.0)
        if log:
            room = (high / low) ** margin if high > low else 1.5
            return cls(low / room, high * room, log)
        room = (high - low) * margin or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room)

    def at(self, value: float) -> float:
        """0 to 1; what lies outside is drawn at the end."""
        first, last = self.first, self.last
        if self.log:
            first, last, value = (math.log(max(v, 1e-300)) for v in (first, last, value))
        return min(max((value - first) / (last - first), 0.0), 1.0)

    def ticks(self, most: int = 7) -> list[float]:
        found = nice(self.first, self.last, self.log)
        if len(found) < 3:  # so few powers lie in a short stretch
            found = nice(self.first, self.last, log=False)
        return found[:: -(-len(found) // most)]


def line(kind: str, points: Sequence[Point]) -> str:
    """A polyline."""
    drawn = " ".join(f"{'L' if i else 'M'}{_units(p)}" for i, p in enumerate(points))
    return f'<path class="{kind}" d="{drawn}"/>' if points else ""


def mark(kind: str, point: Point) -> str:
    """A dot; its class says how wide and of which colour."""
    return f'<path class="mark {kind}" d="M{_units(point)}h0"/>'


def _units(point: Point) -> str:
    return f"{SIDE * point[0]:.1f} {SIDE * (1 - point[1]):.1f}"


def svg(drawn: Iterable[str], label: str) -> str:
    """The drawing alone; `label` is read aloud."""
    return (
        f'<svg viewBox="0 0 {SIDE:.0f} {SIDE:.0f}" preserveAspectRatio="none" role="img" '
        f'aria-label="{text(label, 1000)}">{"".join(drawn)}</svg>'
    )


def graph(
    x: Axis, y: Axis, drawn: Iterable[str], label: str, *, words: str = "", below: str = "", kind: str = ""
) -> str:
    """A drawing with grid, numbers at both axes, and the name of what runs along the lower one.

    Args:
        words: HTML over the drawing. below: what the lower axis is of. kind: a class that gives the height.
    """
    rows = y.ticks()
    grid = [line("grid", [(0, y.at(v)), (1, y.at(v))]) for v in rows]
    beside = "".join(f'<span style="top:{100 * (1 - y.at(v)):.2f}%">{_number(v)}</span>' for v in rows)
    title = f'<p class="soft along">{text(below)}</p>' if below else ""
    return (
        f'<div class="graph {kind}"><div class="beside" aria-hidden="true">{beside}</div>'
        f'<div class="drawn">{svg([*grid, *drawn], label)}{words}</div>{scale(x)}{title}</div>'
    )


def scale(axis: Axis) -> str:
    """Numbers along the lower axis, those at the ends drawn inwards."""
    return f'<div class="ticks" aria-hidden="true">{"".join(_tick(axis, v) for v in axis.ticks())}</div>'


def _tick(axis: Axis, value: float) -> str:
    at = axis.at(value)
    side = f"left:{100 * at:.2f}%" + (";transform:none" if at < 0.04 else "")
    if at > 0.96:
        side = f"right:{100 * (1 - at):.2f}%;transform:none"
    return f'<span style="{side}">{_number(value)}</span>'


def _number(value: float) -> str:
    return text(minus(brief(value)))
