"""What models score without looking: scores beside those of the same models shown a grey picture, and another's.

    unseen(comparison)       # sentences of who is not above its controls, and whether they change who is best
    columns(comparison)      # {"grey": [0.21, ...], "others'": [...]}, by entry as `ranked` has them

A caption or an answer can be right about the world and have nothing to do with its picture.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from curate.ask.judge.who import primary, ranked
from curate.ask.judge.words import listed
from curate.run.compare.found import CONTROLS, SEEN, Comparison, Entry, is_written
from training_smoke.statistics import paired

SHOWN = dict(zip(CONTROLS, ("grey", "others'"), strict=True))  # what pictures stand in place of the right ones
WORDS = dict(zip(CONTROLS, ("a grey picture", "another's picture"), strict=True))


def columns(comparison: Comparison) -> dict[str, list[float]]:
    """Means over seeds of each control that all runs have; none of metrics that texts alone cannot go far in."""
    if not is_written(comparison.primary):
        return {}
    found = {name: [_control(e, comparison.primary + end) for e in ranked(comparison)] for end, name in SHOWN.items()}
    return {name: [statistics.fmean(v) for v in values] for name, values in found.items() if all(values)}


def unseen(comparison: Comparison) -> Iterator[str]:
    """Sentences on the primary metric: entries that do not lie above a control, and another order by what was seen."""
    for end, words in WORDS.items():
        if low := [e.name for e in ranked(comparison) if _is_not_above(comparison, e, comparison.primary + end)]:
            yield (
                f"By {comparison.primary}, models of {listed(low)} are not shown to do better than when they see "
                f"{words} instead: such scores can come from texts alone."
            )
    yield from _order(comparison)


def _order(comparison: Comparison) -> Iterator[str]:
    seen = comparison.primary + SEEN
    if seen not in {m.name for m in comparison.metrics} or len(comparison.entries) < 2:
        return
    means = {m: {e.name: statistics.fmean(e.scores(m)) for e in comparison.entries} for m in (comparison.primary, seen)}
    by_score, by_seen = (sorted(of, key=of.__getitem__, reverse=True) for of in means.values())
    if by_score != by_seen:
        yield (
            f"Ranked by {seen}, what scores lie above those with another's picture, the order is {', '.join(by_seen)}, "
            f"not {', '.join(by_score)}: how texts are worded has a part in these scores."
        )


def _is_not_above(comparison: Comparison, entry: Entry, control: str) -> bool:
    """Its scores less the control's have no interval above zero; of one seed nothing is known."""
    values = _control(entry, control)
    if len(values) < 2:
        return False
    sign = -1 if primary(comparison).lower else 1
    c = paired([sign * v for v in entry.scores(comparison.primary)], [sign * v for v in values])
    return not c.low > 0


def _control(entry: Entry, name: str) -> Sequence[float]:
    """Of each run, by seed; empty where one lacks it."""
    return [r.controls[name] for r in entry.runs] if all(name in r.controls for r in entry.runs) else []
