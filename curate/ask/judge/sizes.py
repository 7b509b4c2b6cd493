"""Score against the size of the pack: each seed a small dot, the mean a large one, tied to its random control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.ask.judge.axes import Axis, graph, line, mark
from curate.ask.judge.who import measured_by, primary, random_of, ranked
from curate.ask.judge.words import of_score
from curate.ask.report.html import text
from curate.run.compare.found import Comparison, Entry

HIGH = 340  # pixels of the drawing, as judge.css has it
ROW = 19  # pixels that a name needs
NEAR = 0.3  # of the width: names whose points are nearer than this may run into each other


@dataclass
class _Label:
    entry: Entry
    x: float
    y: float  # of the point
    top: float  # pixels from above, of the middle of the words

    @property
    def left(self) -> bool:
        """Do the words stand to the left of the point?"""
        return self.x > 0.55


def sizes(comparison: Comparison) -> str:
    """The figure; controls too, for they say what size alone does."""
    entries = [e for e in ranked(comparison) if e.kind != "a_a"]
    factor = 100.0 if primary(comparison).percent else 1.0
    x = Axis.over([float(e.samples) for e in entries], log=True)
    y = Axis.over([factor * s for e in entries for s in e.scores()], margin=0.1)
    place = {e.name: (x.at(e.samples), y.at(factor * e.mean)) for e in entries}
    drawn = [
        line("tie", [place[control.name], place[e.name]])
        for e in entries
        if e.kind == "recipe" and (control := random_of(comparison, e)) is not None
    ]
    drawn += [mark(f"one {e.kind}", (x.at(e.samples), y.at(factor * s))) for e in entries for s in e.scores()]
    labels = _apart([_Label(e, *place[e.name], HIGH * (1 - place[e.name][1])) for e in entries])
    drawn += [line("lead", _lead(found)) for found in labels]
    drawn += [m for e in entries for m in _marks(e, place[e.name])]
    said = "; ".join(f"{e.name}: {e.samples:,}, {of_score(primary(comparison), e.mean)}" for e in entries)
    words = f'<div class="names" aria-hidden="true">{"".join(map(_name, labels))}</div>'
    plot = graph(
        x,
        y,
        drawn,
        f"Score against samples in the pack. {said}",
        words=words,
        below="samples in the pack, in factors",
        kind="high",
    )
    key = (
        '<ul class="key"><li><i class="dot recipe"></i>recipe</li><li><i class="dot no_filter"></i>no filter</li>'
        '<li><i class="dot random"></i>random subset, tied to the recipe of its size</li>'
        "<li>small: each seed</li></ul>"
    )
    note = f"<p class='soft'>{text(_what(comparison))}</p>"
    return f'{note}{key}<figure class="plot">{plot}</figure>'


def _what(comparison: Comparison) -> str:
    unit = ", in percent" if primary(comparison).percent else ""
    lower = " (smaller is better)" if primary(comparison).lower else ""
    return (
        f"Upwards: {measured_by(comparison)}{unit}{lower}, mean over seeds. All saw equally many samples, so a smaller "
        "pack is seen more often."
    )


def _marks(entry: Entry, place: tuple[float, float]) -> list[str]:
    """A random control is a ring: a dot with a smaller one of the ground's colour in it."""
    found = [mark(f"all {entry.kind}", place)]
    return [*found, mark("hole", place)] if entry.kind == "random" else found


def _lead(label: _Label) -> list[tuple[float, float]]:
    """From the point to its words, where they had to move away from it."""
    if abs(label.top - HIGH * (1 - label.y)) < ROW / 2:
        return []
    away = -0.012 if label.left else 0.012
    return [(label.x, label.y), (min(max(label.x + away, 0.0), 1.0), 1 - label.top / HIGH)]


def _name(label: _Label) -> str:
    side = f"right:calc({100 * (1 - label.x):.2f}% + 12px)" if label.left else f"left:calc({100 * label.x:.2f}% + 12px)"
    return f'<span style="{side};top:{label.top:.0f}px">{text(label.entry.name, 60)}</span>'


def _apart(labels: Sequence[_Label]) -> list[_Label]:
    """From above down, each below those it could run into; what leaves the drawing pushes the others up again."""
    placed: list[_Label] = []
    for label in sorted(labels, key=lambda found: (found.top, found.x, found.entry.name)):
        label.top = max([label.top, *(p.top + ROW for p in placed if _meet(p, label))])
        placed.append(label)
    for i, label in enumerate(reversed(placed)):
        below = placed[len(placed) - i :]
        label.top = min([label.top, HIGH - ROW / 2, *(p.top - ROW for p in below if _meet(p, label))])
    return placed


def _meet(a: _Label, b: _Label) -> bool:
    """Could their words run into each other? Those of two sides do where both run into the room between the points."""
    first, second = sorted((a, b), key=lambda found: found.x)
    apart = second.x - first.x
    facing = second.left and not first.left
    return apart < 2 * NEAR if facing else first.left == second.left and apart < NEAR
