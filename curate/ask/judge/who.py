"""Who is who in a comparison, and which difference is between whom.

best = leading(comparison)
difference(comparison, best, no_filter(comparison))
for title, found in groups(comparison): ...
"""

from __future__ import annotations

from collections.abc import Sequence

from curate.ask.judge.words import outcome
from curate.run.compare.found import Comparison, Difference, Entry, Metric
from training_smoke.statistics import PairedComparison, paired

CONTROL = "A/A control: nothing differs here"
FEW_PAIRS = 6  # of recipes with each other: more than that are told by those of the leading recipe


def primary(comparison: Comparison) -> Metric:
    """The metric that decides. A mean over sets need not be among the metrics: it is one of shares."""
    found = (m for m in comparison.metrics if m.name == comparison.primary)
    return next(found, Metric(comparison.primary))


def measured_by(comparison: Comparison) -> str:
    """The metric that decides, in words."""
    if comparison.primary != "mean":
        return comparison.primary
    n = len(comparison.sets)
    return f"the mean main metric of {n} sets" if n != 1 else f"the main metric of {comparison.sets[0].name}"


def no_filter(comparison: Comparison) -> Entry | None:
    return next((e for e in comparison.entries if e.kind == "no_filter"), None)


def random_of(comparison: Comparison, recipe: Entry) -> Entry | None:
    """The random subset that has as many samples as the recipe's pick; recipes of nearly one size share one."""
    controls = (e for e in comparison.entries if e.kind == "random")
    return next((e for e in controls if recipe.name in (e.of or "").split(", ")), None)


def ranked(comparison: Comparison) -> list[Entry]:
    """Recipes, the best mean first; then the controls in their order."""
    turn = 1 if primary(comparison).lower else -1
    recipes = sorted(comparison.recipes, key=lambda e: turn * e.mean)
    return recipes + [e for e in comparison.entries if e.kind != "recipe"]


def difference(
    comparison: Comparison, a: Entry | None, b: Entry | None, among: Sequence[Difference] | None = None
) -> PairedComparison | None:
    """a - b as the comparison has it, turned round where it has b - a; None where it has neither.

    Args:
        among: differences of one metric; None: of the primary one.
    """
    if a is None or b is None:
        return None
    for d in comparison.differences if among is None else among:
        if (d.a, d.b) == (a.name, b.name):
            return d.comparison
        if (d.a, d.b) == (b.name, a.name):
            return _turned(comparison, d, a, b)
    return None


def leading(comparison: Comparison) -> Entry | None:
    """The recipe with the best mean among those better than no filter; if none is, among all."""
    recipes, base = ranked_recipes(comparison), no_filter(comparison)
    shown = [e for e in recipes if (d := difference(comparison, e, base)) and outcome(d) == "better"]
    return next(iter(shown or recipes), None)


def ranked_recipes(comparison: Comparison) -> list[Entry]:
    return [e for e in ranked(comparison) if e.kind == "recipe"]


def groups(comparison: Comparison) -> list[tuple[str, list[Difference]]]:
    """Differences of the primary metric by what they are against, in the order of the ranking; the A/A control last.

    Of two recipes the one with the better mean comes first.
    """
    kinds = {e.name: e.kind for e in comparison.entries}
    place = {e.name: i for i, e in enumerate(ranked(comparison))}
    titles = (
        "Recipes against no filter",
        "Recipes against a random subset of the same size",
        "Recipes against each other",
        "Controls against each other",
    )
    number = {("recipe", "no_filter"): 0, ("recipe", "random"): 1, ("recipe", "recipe"): 2}
    found: list[list[Difference]] = [[], [], [], []]
    for d in comparison.differences:
        if kinds[d.a] == kinds[d.b] == "recipe" and place[d.a] > place[d.b]:
            turned = _turned(comparison, d, comparison.entry(d.b), comparison.entry(d.a))
            d = Difference(d.b, d.a, d.metric, turned)
        found[number.get((kinds[d.a], kinds[d.b]), 3)].append(d)
    told = [(t, sorted(ds, key=lambda d: (place[d.a], place[d.b]))) for t, ds in zip(titles, found, strict=True) if ds]
    return told + ([(CONTROL, [comparison.a_a])] if comparison.a_a else [])


def first_and_rest(comparison: Comparison, found: list[Difference]) -> tuple[list[Difference], list[Difference]]:
    """Of many pairs of recipes, those with the leading one first."""
    best = leading(comparison)
    kinds = {e.name: e.kind for e in comparison.entries}
    if best is None or len(found) <= FEW_PAIRS or not all(kinds[d.a] == kinds[d.b] == "recipe" for d in found):
        return found, []
    first = [d for d in found if best.name in (d.a, d.b)]
    return first, [d for d in found if d not in first]


def _turned(comparison: Comparison, d: Difference, a: Entry, b: Entry) -> PairedComparison:
    """The same replicates the other way round; wins are counted again, for ties are nobody's."""
    c, of_a, of_b = d.comparison, a.scores(None), b.scores(None)
    if d.metric != comparison.primary:
        of_a, of_b = a.scores(d.metric), b.scores(d.metric)
    lower = next((m.lower for m in comparison.metrics if m.name == d.metric), primary(comparison).lower)
    again = paired(of_b, of_a) if lower else paired(of_a, of_b)
    return PairedComparison(-c.mean, -c.high, -c.low, c.sd, c.n, again.wins, c.p, c.p_holm)
