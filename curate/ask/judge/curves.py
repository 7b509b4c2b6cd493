"""Loss against samples seen: a panel for each entry, its seeds thin, their mean thick, the others' means behind."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from curate.ask.judge.axes import Axis, graph, line
from curate.ask.judge.who import no_filter, ranked
from curate.ask.judge.words import of_spread
from curate.ask.report.html import number, table, text
from curate.run.compare.found import Comparison, Entry, Metric

POINTS = 120  # of a drawn curve; longer ones are averaged in stretches of equal length
STOPS = 6  # columns of the table
FACTOR = 12.0  # between the largest and the smallest loss, from which the axis is drawn in factors
LOSS = Metric("loss", lower=True, percent=False)
Curve = list[tuple[float, float]]
"""(samples seen, training loss)."""


def curves(comparison: Comparison) -> str:
    """All panels on one scale, and the numbers as a table to open; nothing where no run noted a loss."""
    entries = [e for e in ranked(comparison) if any(r.curve for r in e.runs)]
    if not entries:
        return ""
    of = {e.name: [thinned(r.curve, e.seen) for r in e.runs if r.curve] for e in entries}
    means = {name: mean(found) for name, found in of.items()}
    losses = [loss for found in of.values() for curve in found for _, loss in curve]
    x = Axis(0.0, float(max(e.seen for e in entries)))
    y = Axis.over(losses, log=min(losses) > 0 and max(losses) / min(losses) > FACTOR)
    base = no_filter(comparison)
    drawn = {e.name: _panel(e, of[e.name], means, base, x, y) for e in entries}
    panels = "".join(drawn[e.name] for e in entries if e.kind == "recipe")
    controls = [drawn[e.name] for e in entries if e.kind != "recipe"]
    note = (
        "<p class='soft'>Training loss, each on its own pack: samples that are easier have a lower one without the "
        "model being better. The scores decide, not these.</p>"
    )
    key = (
        '<ul class="key"><li><i class="mean"></i>mean over seeds</li><li><i class="seed"></i>each seed</li>'
        '<li><i class="base"></i>no filter</li><li><i class="other"></i>other entries</li></ul>'
    )
    folded = f'<details><summary>Controls</summary><div class="panels">{"".join(controls)}</div></details>'
    return f'{note}{key}<div class="panels">{panels}</div>{folded if controls else ""}{_numbers(entries, means)}'


def _panel(entry: Entry, seeds: Sequence[Curve], means: dict[str, Curve], base: Entry | None, x: Axis, y: Axis) -> str:
    def drawn(kind: str, curve: Curve) -> str:
        return line(kind, [(x.at(a), y.at(b)) for a, b in curve])

    others = [name for name in means if name != entry.name and (base is None or name != base.name)]
    lines = [drawn("other", means[name]) for name in others]
    if base is not None and base.name in means and base.name != entry.name:
        lines.append(drawn("base", means[base.name]))
    lines += [drawn("seed", curve) for curve in seeds]
    lines.append(drawn("mean", means[entry.name]))
    ends = [curve[-1][1] for curve in seeds]
    sd = f", sd {of_spread(LOSS, statistics.stdev(ends))}" if len(ends) > 1 else ""
    last = f"{statistics.fmean(ends):.4g} at the end{sd}"
    label = f"Training loss of {entry.name}, {len(seeds)} seeds, from {means[entry.name][0][1]:.4g} to {last}"
    plot = graph(x, y, lines, label, below="samples seen", kind="low")
    return (
        f'<figure class="plot"><h3>{text(entry.name)}</h3>{plot}<figcaption class="soft">{last}</figcaption></figure>'
    )


def thinned(curve: Sequence[tuple[int, float]], seen: int) -> Curve:
    """At most POINTS of it, each the mean of a stretch of equal length."""
    if len(curve) <= POINTS:
        return [(float(a), b) for a, b in curve]
    stretches: dict[int, Curve] = defaultdict(list)
    for samples, loss in curve:
        stretches[min(POINTS - 1, POINTS * samples // max(seen, 1))].append((samples, loss))
    return [
        (statistics.fmean(a for a, _ in s), statistics.fmean(b for _, b in s)) for _, s in sorted(stretches.items())
    ]


def mean(found: Sequence[Curve]) -> Curve:
    """Over the seeds, where all of them have a value."""
    at: dict[float, list[float]] = defaultdict(list)
    for curve in found:
        for samples, loss in curve:
            at[samples].append(loss)
    return [(samples, statistics.fmean(v)) for samples, v in sorted(at.items()) if len(v) == len(found)]


def _numbers(entries: Sequence[Entry], means: dict[str, Curve]) -> str:
    longest = max(means.values(), key=len)
    stops = sorted({round(i * (len(longest) - 1) / (STOPS - 1)) for i in range(STOPS)})
    at = [longest[i][0] for i in stops]
    rows = []
    for e in entries:
        nearest = [min(means[e.name], key=lambda p, s=s: (abs(p[0] - s), p[0]))[1] for s in at]  # type: ignore[misc]
        rows.append([text(e.name), *(f"{loss:.4g}" for loss in nearest)])
    head = [("mean loss after so many samples", False), *((number(round(s)), True) for s in at)]
    return f"<details><summary>Numbers</summary>{table(head, rows, 'Mean training loss by samples seen')}</details>"
