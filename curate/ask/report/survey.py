"""One walk over a pick: who stands where among what its filters measured, and the samples worth showing.

ground = bounded(ground)                       # bounds that only the run knew
found = survey(ground, axes(ground), size=24)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pyarrow import types

from curate.ask.report.candidates import Candidate, Rows, Smallest, in_turn, satisfies
from curate.ask.report.found import Histogram
from curate.ask.report.histograms import KEPT, LOST, OTHER, Axis, axis_of, binned, histogram
from curate.ask.report.margins import Asked, as_doubles, in_words
from curate.ask.report.shards import Ground, Sight, walk
from filters.base import Bound, Margin

LOOKED_AT = 32  # shards, evenly spaced, whose values set the edges of histograms
LOOKED_AT_ROWS = 400_000  # values of a margin, at most

Axes = list[list[Axis | None]]
"""By filter and margin."""


# ---------------------------------------------------------------- bounds that are known only after a run


def bounded(ground: Ground) -> Ground:
    """The same ground with margins whose `cut` has become a bound: the last value that the filter kept."""
    cut = [replace(s, number=i) for i, s in enumerate(s for s in ground.steps if any(m.cut for m in s.margins))]
    if not cut:
        return ground
    only = replace(ground, steps=cut)
    ends: list[list[tuple[float, float] | None]] = [[None] * len(s.margins) for s in cut]
    for found in walk(only, lambda sight: [_kept_ends(sight, s) for s in cut]):
        for i, of_step in enumerate(found):
            ends[i] = [_joined(a, b) for a, b in zip(ends[i], of_step, strict=True)]
    by_id = {s.id: [_with_bound(m, e) for m, e in zip(s.margins, ends[i], strict=True)] for i, s in enumerate(cut)}
    return replace(ground, steps=[replace(s, margins=tuple(by_id.get(s.id, s.margins))) for s in ground.steps])


def _kept_ends(sight: Sight, step: Asked) -> list[tuple[float, float] | None]:
    """Of each margin the smallest and the largest value that the filter kept."""
    _, keep = sight.keep(step)
    found: list[tuple[float, float] | None] = []
    for values in map(as_doubles, sight.values(step)):
        kept = values[keep & ~np.isnan(values)]
        found.append((float(kept.min()), float(kept.max())) if len(kept) else None)
    return found


def _joined(a: tuple[float, float] | None, b: tuple[float, float] | None) -> tuple[float, float] | None:
    return (min(a[0], b[0]), max(a[1], b[1])) if a and b else a or b


def _with_bound(margin: Margin, ends: tuple[float, float] | None) -> Margin:
    if margin.cut is None or ends is None:
        return margin
    side, label = margin.cut
    at = ends[0] if side == "above" else ends[1]
    bound: Bound = (at, side, f"{label}: {in_words(at)}")
    return replace(margin, bounds=(*margin.bounds, bound))


# ---------------------------------------------------------------- edges


def axes(ground: Ground) -> Axes:
    """The axis of each margin, from the values in some shards; None where there is nothing to draw."""
    n = len(ground.shards)
    shards = [ground.shards[i * n // min(n, LOOKED_AT)] for i in range(min(n, LOOKED_AT))]
    most = LOOKED_AT_ROWS // max(len(shards), 1)
    samples: list[list[list[np.ndarray]]] = [[[] for _ in s.margins] for s in ground.steps]
    whole = [[True] * len(s.margins) for s in ground.steps]
    for found in walk(ground, lambda sight: _look(sight, most), shards):
        for i, of_step in enumerate(found):
            for j, (values, integers) in enumerate(of_step):
                samples[i][j].append(values)
                whole[i][j] &= integers
    return [
        [
            axis_of(np.concatenate(samples[i][j]), whole[i][j], m.bounds) if shards else None
            for j, m in enumerate(s.margins)
        ]
        for i, s in enumerate(ground.steps)
    ]


def _look(sight: Sight, most: int) -> list[list[tuple[np.ndarray, bool]]]:
    """By filter and margin: values of rows that were asked, evenly thinned; and whether they are whole numbers."""
    found = []
    for step in sight.ground.steps:
        of_step = []
        if step.margins:
            asked, _ = sight.keep(step)
            for array in sight.values(step):
                values = as_doubles(array)[asked]
                values = values[np.isfinite(values)]
                whole = types.is_integer(array.type) or types.is_null(array.type)
                of_step.append((values[:: -(-len(values) // most) or 1], whole))
        found.append(of_step)
    return found


# ---------------------------------------------------------------- the walk


@dataclass
class OfStep:
    """What one filter did, or did in one shard. near: by margin and bound, (just lost, just kept)."""

    lost: Smallest
    kept: Smallest
    near: list[list[tuple[Smallest, Smallest]]]
    counts: list[np.ndarray | None]

    def add(self, other: OfStep) -> None:
        self.lost.add(other.lost.found)
        self.kept.add(other.kept.found)
        for mine, theirs in zip(self.near, other.near, strict=True):
            for pair, more in zip(mine, theirs, strict=True):
                for a, b in zip(pair, more, strict=True):
                    a.add(b.found)
        both = zip(self.counts, other.counts, strict=True)
        self.counts = [b if a is None else a if b is None else a + b for a, b in both]

    def borderline(self) -> list[Candidate]:
        """Those just lost, then those just kept, the bounds taking turns."""
        pairs = [pair for margin in self.near for pair in margin]
        return (
            [c for side in (0, 1) for c in in_turn([p[side].found for p in pairs], pairs[0][side].size)]
            if pairs
            else []
        )

    def histograms(self, margins: Sequence[Margin], axes: Sequence[Axis | None]) -> tuple[Histogram, ...]:
        found = zip(margins, axes, self.counts, strict=True)
        return tuple(histogram(m, axis, c) for m, axis, c in found if axis is not None and c is not None)


@dataclass
class Survey:
    """Of each filter what it did; final: a sample of what the pick kept."""

    steps: list[OfStep]
    final: Smallest = field(default_factory=lambda: Smallest(0))


def survey(ground: Ground, axes: Axes, size: int) -> Survey:
    """Walk over all shards once.

    Args:
        size: samples on a sheet; of borderline ones half of it on each side.
    """
    whole = Survey([_nothing(s, size) for s in ground.steps], Smallest(size))
    for found in walk(ground, lambda sight: _see(sight, axes, size)):
        whole.final.add(found.final.found)
        for mine, more in zip(whole.steps, found.steps, strict=True):
            mine.add(more)
    return whole


def _nothing(step: Asked, size: int) -> OfStep:
    half = size // 2
    near = [[(Smallest(half), Smallest(half)) for _ in m.bounds] for m in step.margins]
    return OfStep(Smallest(size), Smallest(size), near, [None] * len(step.margins))


def _see(sight: Sight, axes: Axes, size: int) -> Survey:
    final = Rows(sight.shard, sight.uid).drawn("report:final", np.flatnonzero(sight.kept & sight.shown), size)
    steps = [_see_step(sight, s, axes[i], size) for i, s in enumerate(sight.ground.steps)]
    return Survey(steps, Smallest(size, final))


def _see_step(sight: Sight, step: Asked, axes: Sequence[Axis | None], size: int) -> OfStep:
    found = _nothing(step, size)
    values = [as_doubles(v) for v in sight.values(step)] if step.margins else []
    rows = Rows(sight.shard, sight.uid, values)
    lost, passed = (sight.first == step.number) & sight.shown, (sight.first > step.number) & sight.shown
    found.lost.add(rows.drawn(f"report:lost:{step.id}", np.flatnonzero(lost), size))
    found.kept.add(rows.drawn(f"report:kept:{step.id}", np.flatnonzero(passed), size))
    if not step.margins:
        return found
    asked, keep = sight.keep(step)
    group = np.where(sight.kept, KEPT, np.where(sight.first == step.number, LOST, OTHER))[asked]
    for number, (margin, axis, measured) in enumerate(zip(step.margins, axes, values, strict=True)):
        found.counts[number] = None if axis is None else binned(measured[asked], axis.edges, group)
        for bound, (just_lost, just_kept) in zip(margin.bounds, found.near[number], strict=True):
            distance, inside = np.abs(measured - bound[0]), satisfies(measured, bound)
            for smallest, chosen, rank in (
                (just_lost, lost & ~inside, 0),
                (just_kept, keep & inside & sight.shown & sight.kept, 0),
                (just_kept, keep & inside & sight.shown & ~sight.kept, 1),  # where the pick has too few
            ):
                at = np.flatnonzero(chosen & np.isfinite(distance))
                smallest.add(rows.nearest(distance[at], at, smallest.size, rank))
    return found
