"""The outcome in one to three sentences: is a recipe better than no filter, than the others, than chance?"""

from __future__ import annotations

from curate.ask.judge.who import difference, leading, measured_by, no_filter, primary, random_of
from curate.ask.judge.words import gain, interval, listed, of_score, outcome, percent_level, unit
from curate.run.compare.found import Comparison, Entry
from training_smoke.statistics import PairedComparison, seeds_needed

HOPELESS = 15  # a mean so many times smaller than its spread takes about a thousand seeds


def headline(comparison: Comparison) -> str:
    """One to three sentences."""
    best, base = leading(comparison), no_filter(comparison)
    found = difference(comparison, best, base)
    if best is None:
        return "There is no recipe to be judged: only controls were trained."
    if base is None or found is None:
        return _without_no_filter(comparison, best)
    metric = primary(comparison)
    scores = f"{of_score(metric, best.mean)} against {of_score(metric, base.mean)} of {measured_by(comparison)}"
    by = f"{gain(metric, found)}{unit(metric)}"
    shown, one = outcome(found), len(comparison.recipes) == 1
    if shown == "unknown":
        return (
            f"{best.name} scores {scores}, but with one seed nothing is shown: there is no spread to judge {by} by. "
            "Take three seeds at least."
        )
    told = f"{by} ({percent_level()} interval {interval(metric, found)})"
    if shown == "better":
        won = f"{scores}, {told}, ahead in {found.wins} of {found.n} seeds"
        return f"{best.name} is better than no filter: {won}.{_rivals(comparison, best)}{_but_random(comparison, best)}"
    if shown == "worse":
        who = f"{best.name} is" if one else f"No recipe is better than no filter; the best of them, {best.name}, is"
        return f"{who} worse than no filter: {scores}, {told}."
    who = f"{best.name} is not" if one else "No recipe is"
    highest = "" if one else f" for the best of them, {best.name}"
    return f"{who} shown to be better than no filter: {scores}{highest}; {told} is within noise.{_more_seeds(found)}"


def _without_no_filter(comparison: Comparison, best: Entry) -> str:
    """Where the controls were left out."""
    scores = f"{best.name} scores {of_score(primary(comparison), best.mean)} of {measured_by(comparison)}"
    if len(comparison.seeds) == 1:
        return f"{scores}, but with one seed nothing is shown."
    rivals = _rivals(comparison, best) or " Nothing was compared with it."
    return f"{scores}.{rivals} No control without a filter was trained: whether filtering helps at all is not said."


def _more_seeds(c: PairedComparison) -> str:
    """How many would tell such a difference from none, where that is no hopeless number."""
    if not c.sd or abs(c.mean) < c.sd / HOPELESS:
        return ""
    return (
        f" A difference of this size would take at least {max(seeds_needed(c.sd, abs(c.mean)), c.n + 1)} seeds to show."
    )


def _rivals(comparison: Comparison, best: Entry) -> str:
    others = [e for e in comparison.recipes if e is not best]
    if not others:
        return ""
    found = [(e, difference(comparison, best, e)) for e in others]
    equal = [e.name for e, d in found if d is None or outcome(d) != "better"]
    if not equal:
        return f" It is better than {'the other recipe' if len(others) == 1 else 'each of the other recipes'}."
    return f" It is not told apart from {listed(equal)}."


def _but_random(comparison: Comparison, best: Entry) -> str:
    found = difference(comparison, best, random_of(comparison, best))
    if found is None or outcome(found) == "better":
        return ""
    does = "does better" if outcome(found) == "worse" else "does as well"
    return f" But a random subset of the same size {does}: the choice of samples is not shown to help."
