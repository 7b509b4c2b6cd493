"""Tables of the page: entries with their differences, every metric, evaluation sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.ask.judge.seen import columns
from curate.ask.judge.who import difference, measured_by, no_filter, primary, random_of, ranked
from curate.ask.judge.words import (
    EVERY_SET,
    gain,
    interval,
    judged,
    of_score,
    of_spread,
    outcome,
    percent_level,
    repeats,
    scoring,
    set_and_measure,
    unit,
)
from curate.ask.report.html import number, table, text
from curate.run.compare.found import Comparison, Difference, Entry, Metric
from training_smoke.statistics import PairedComparison


def entries(comparison: Comparison) -> str:
    """One row an entry, the best recipe first."""
    metric = primary(comparison)
    points = unit(metric).replace(" ", ", ")
    controls = columns(comparison)
    head = [("entry", False), ("mean", True), ("sd", True), *((f"seeing {name}", True) for name in controls)]
    head += [(f"over no filter{points}", True)]
    head += [(f"over a random subset of its size{points}", True)]
    head += [("samples", True), ("repeats", True), ("scoring", True)]
    rows = [
        [
            _named(e),
            f"<b>{text(of_score(metric, e.mean))}</b>",
            text(of_spread(metric, e.sd)),
            *(text(of_score(metric, means[place])) for means in controls.values()),
            _judged(metric, _over_no_filter(comparison, e), "p" if e.kind == "a_a" else "Holm p"),
            _judged(metric, difference(comparison, e, random_of(comparison, e))),
            number(e.samples),
            f"{repeats(e)}×",
            _broken(scoring(e)),
        ]
        for place, e in enumerate(ranked(comparison))
    ]
    unseen = (
        " Seeing grey, or others’: the mean of the same models shown a grey picture, or another’s; only what lies "
        "above both was seen."
    )
    note = (
        f"<p class='soft'>{text(_upper(measured_by(comparison)))}, mean and standard deviation over seeds. Differences "
        f"are paired by seed, with their {percent_level()} interval; Holm p is corrected for all comparisons with "
        "controls, and for all of recipes among themselves. Repeats: how often a run sees each sample. Scoring: what "
        "the columns cost that the recipe’s filters read, over the whole pool, and how many samples could have been "
        "trained on in that time."
        f"{unseen if controls else ''}</p>"
    )
    return f'{note}<div class="results">{table(head, rows, "Entries")}</div>'


def _over_no_filter(comparison: Comparison, entry: Entry) -> PairedComparison | None:
    if entry.kind == "a_a" and comparison.a_a is not None:
        return comparison.a_a.comparison
    return difference(comparison, entry, no_filter(comparison))


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:] if words.startswith("the ") else words


def _broken(words: str) -> str:
    """What it is worth in samples goes on the next line."""
    return text(words).replace(" = ", "<br>= ")


def _named(entry: Entry) -> str:
    kind = {
        "recipe": "",
        "no_filter": "control: everything in the pool",
        "random": f"control: drawn at random, as many as {entry.of}",
        "a_a": "control: the same pack as no filter, other seeds",
    }[entry.kind]
    return text(entry.name) + (f'<div class="soft kind">{text(kind)}</div>' if kind else "")


def _judged(metric: Metric, c: PairedComparison | None, p: str = "Holm p") -> str:
    if c is None:
        return '<span class="soft">–</span>'
    between = f"<div>{text(interval(metric, c))}</div>" if c.n > 1 else ""
    said = f'<div class="soft">{text(judged(c, p)).replace("; ", "<br>")}</div>'
    return f'<span class="{outcome(c)}">{text(gain(metric, c))}</span>{between}{said}'


# ---------------------------------------------------------------- every metric


def metrics(comparison: Comparison) -> str:
    """A table for each set, closed but for the one of the primary metric."""
    sets: dict[str, list[Metric]] = {}
    for metric in comparison.metrics:
        sets.setdefault(set_and_measure(metric.name)[0], []).append(metric)
    if not sets:
        return ""
    among: dict[str, list[Difference]] = {}
    for d in (*comparison.differences, *comparison.others):
        among.setdefault(d.metric, []).append(d)
    first = set_and_measure(comparison.primary)[0]
    note = (
        "<p class='soft'>Mean over seeds, and below it the difference to no filter with its interval. Differences are "
        "turned so that above zero is better, also where a smaller value is. Each metric’s comparisons are corrected "
        "together; with many metrics some will seem to differ by chance.</p>"
    )
    blocks = "".join(
        f"<details{' open' if name == first or len(sets) == 1 else ''}><summary>{text(name)} "
        f'<span class="soft">({len(found)} metric{"s" * (len(found) != 1)})</span></summary>'
        f"{_of_set(comparison, name, found, among)}</details>"
        for name, found in sets.items()
    )
    return note + blocks


def _of_set(comparison: Comparison, name: str, found: Sequence[Metric], among: Mapping[str, list[Difference]]) -> str:
    shown = ranked(comparison)
    head = [("metric", False), *((e.name, True) for e in shown)]
    rows = [
        [_metric_name(comparison, m), *(_cell(comparison, e, m, among.get(m.name, [])) for e in shown)] for m in found
    ]
    return f'<div class="results">{table(head, rows, f"Metrics of {name}")}</div>'


def _metric_name(comparison: Comparison, metric: Metric) -> str:
    said = ["decides"] if metric.name == comparison.primary else []
    said += ["smaller is better"] if metric.lower else []
    more = f'<div class="soft kind">{"; ".join(said)}</div>' if said else ""
    return text(set_and_measure(metric.name)[1]) + more


def _cell(comparison: Comparison, entry: Entry, metric: Metric, among: Sequence[Difference]) -> str:
    values = [r.scores[metric.name] for r in entry.runs if metric.name in r.scores]
    if not values and metric.name == comparison.primary:
        values = entry.scores()
    if not values:
        return '<span class="soft">–</span>'
    mean = text(of_score(metric, sum(values) / len(values)))
    c = difference(comparison, entry, no_filter(comparison), among)
    if c is None:
        return mean
    told = f'<span class="{outcome(c)}">{text(gain(metric, c))}</span>'
    between = f'<div class="soft">{text(interval(metric, c))}</div>' if c.n > 1 else ""
    return f"{mean}<div>{told}</div>{between}"


# ---------------------------------------------------------------- evaluation sets


def sets(comparison: Comparison) -> str:
    """What was evaluated on, what of it lies in the pool, and what was asked for and is not there."""
    found = ""
    if comparison.sets:
        head = [("set", False), ("task", False), ("samples", True), ("of these in the pool", True), ("where", False)]
        rows = [
            [
                text(s.name),
                text(s.task),
                number(s.n),
                number(s.in_pool),
                f"<code>{text(s.path)}</code>",
            ]
            for s in comparison.sets
        ]
        near = max(s.near for s in comparison.sets)
        hashes = f", or a perceptual hash within {near} bits of 256, mirrored and turned too"
        note = "the same bytes" + ("; the pool has no perceptual hashes" if near < 0 else hashes)
        found += (
            f"<p class='soft'>In the pool: {note}.</p>"
            + f'<div class="results">{table(head, rows, "Evaluation sets")}</div>'
        )
    if comparison.missing:
        rows = [[text(name), text(why, 1000)] for name, why in sorted(comparison.missing.items())]
        head = [("set", False), ("why", False)]
        found += f"<h3>Asked for and not evaluated</h3>{table(head, rows, 'Sets that are missing')}"
        if comparison.primary == "mean" or comparison.primary.startswith(f"{EVERY_SET}/"):
            found += "<p class='soft'>The mean is over the sets that are there; with others it is another number.</p>"
    return found
