"""Which recipe is better, by how much, and what the controls say: sentences, each from the numbers alone.

    said = verdict(comparison)
    said.headline, said.findings, said.cautions

"Better" and "worse" are differences that stand after Holm's correction; everything else is within noise and said so.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from curate.ask.judge.cautions import cautions
from curate.ask.judge.headline import headline
from curate.ask.judge.who import FEW_PAIRS, difference, no_filter, primary, random_of, ranked_recipes
from curate.ask.judge.words import Outcome, gain, gain_and_interval, interval, of_p, outcome
from curate.run.compare.found import Comparison, Entry
from training_smoke.statistics import PairedComparison, seeds_needed

Judged = tuple[str, PairedComparison]
"""Whom it is about ("demo", or "demo over strict"), and the difference."""


@dataclass(frozen=True)
class Verdict:
    """headline: the outcome. findings: what else was compared. cautions: what keeps it from being taken further."""

    headline: str
    findings: tuple[str, ...]
    cautions: tuple[str, ...]


def verdict(comparison: Comparison) -> Verdict:
    """The outcome in sentences; the same for the same findings."""
    findings = [
        *_against_no_filter(comparison),
        *_between(comparison),
        *_against_random(comparison),
        *_size_alone(comparison),
        *_a_a(comparison),
        *_resolution(comparison),
    ]
    return Verdict(headline(comparison), tuple(findings), tuple(cautions(comparison)))


def _against_no_filter(comparison: Comparison) -> Iterator[str]:
    base = no_filter(comparison)
    judged = [(e.name, d) for e in ranked_recipes(comparison) if (d := difference(comparison, e, base))]
    if len(judged) < 2:
        return
    yield from _grouped(
        comparison,
        judged,
        {
            "better": "Better than no filter: {}.",
            "worse": "Worse than no filter: {}.",
            "noise": "Not told apart from no filter: {}.",
        },
    )


def _between(comparison: Comparison) -> Iterator[str]:
    recipes = ranked_recipes(comparison)
    if len(recipes) * (len(recipes) - 1) / 2 > FEW_PAIRS:
        yield from _in_line(comparison, recipes)
        return
    judged = [
        (f"{a.name} over {b.name}", d)
        for i, a in enumerate(recipes)
        for b in recipes[i + 1 :]
        if (d := difference(comparison, a, b))
    ]
    yield from _grouped(
        comparison,
        judged,
        {
            "better": "Between recipes, shown: {}.",
            "noise": "Between recipes, within noise: {}.",
        },
    )


def _in_line(comparison: Comparison, recipes: Sequence[Entry]) -> Iterator[str]:
    """Many recipes as one ranking, each set against the next."""
    line = recipes[0].name
    for a, b in pairwise(recipes):
        d = difference(comparison, a, b)
        line += f" {'>' if d is not None and outcome(d) == 'better' else '~'} {b.name}"
    if len(comparison.seeds) > 1:
        yield f"Recipes by their means, > where the next one is told apart and ~ where it is not: {line}."


def _against_random(comparison: Comparison) -> Iterator[str]:
    judged = [
        (e.name, d) for e in ranked_recipes(comparison) if (d := difference(comparison, e, random_of(comparison, e)))
    ]
    yield from _grouped(
        comparison,
        judged,
        {
            "better": "Better than a random subset of the same size, so that the choice counts and not the size: {}.",
            "worse": "Worse than a random subset of the same size: {}.",
            "noise": "No better than a random subset of the same size, as far as this shows: {}.",
        },
    )


def _size_alone(comparison: Comparison) -> Iterator[str]:
    base = no_filter(comparison)
    controls = [e for e in comparison.entries if e.kind == "random"]
    judged = [(e.name, d) for e in controls if (d := difference(comparison, e, base))]
    yield from _grouped(
        comparison,
        judged,
        {
            "better": "Fewer samples alone help here; random subsets against no filter: {}.",
            "worse": "Fewer samples alone hurt here; random subsets against no filter: {}.",
            "noise": "Size alone makes no difference that shows; random subsets against no filter: {}.",
        },
    )


def _grouped(comparison: Comparison, judged: Sequence[Judged], said: dict[Outcome, str]) -> Iterator[str]:
    """A sentence for each outcome that occurs; one seed gives none."""
    metric = primary(comparison)
    for kind, sentence in said.items():
        found = [f"{name} {gain(metric, d)} ({interval(metric, d)})" for name, d in judged if outcome(d) == kind]
        if found:
            yield sentence.format("; ".join(found))


def _a_a(comparison: Comparison) -> Iterator[str]:
    if comparison.a_a is None:
        return
    c, metric = comparison.a_a.comparison, primary(comparison)
    told = gain_and_interval(metric, c)
    what = "A/A control (the same pack trained twice, with other seeds)"
    if outcome(c) == "noise":
        yield f"{what}: no difference shown, as it must be: {told}; a smaller one than that interval could hide."
    elif outcome(c) != "unknown":
        yield f"{what}: the two DIFFER, {told}, p {of_p(c.p)}, though nothing does."


def _resolution(comparison: Comparison) -> Iterator[str]:
    """What the seeds that were taken can show, and what more of them would."""
    spreads = [d.comparison.sd for d in comparison.differences if d.comparison.n > 1]
    if not spreads:
        return
    metric, n, sd = primary(comparison), len(comparison.seeds), statistics.median(spreads)
    halves = [(d.comparison.high - d.comparison.low) / 2 for d in comparison.differences if d.comparison.n > 1]
    half = statistics.median(halves)
    if half > 0:
        width = f"{100 * half:.1f} points" if metric.percent else f"{half:.2g}"
        yield f"{n} seeds resolve ±{width} here (median); half of that takes about {seeds_needed(sd, half / 2)}."
