"""The comparison in a terminal of 100 columns, and as an object for JSON.

print("\\n".join(say(comparison)))
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import Any

from curate.ask.diff.say import WIDTH, table
from curate.ask.judge.seen import columns
from curate.ask.judge.verdict import verdict
from curate.ask.judge.who import first_and_rest, groups, measured_by, primary, ranked
from curate.ask.judge.words import (
    OUTCOMES,
    gain,
    interval,
    listed,
    of_p,
    of_score,
    of_spread,
    outcome,
    percent_level,
    repeats,
    scoring,
    unit,
    wins,
)
from curate.run.compare.found import Comparison, Difference, Entry
from curate.text import visible

FILLER = "\0"  # stands behind a character that takes two columns, so that it counts twice; no text has one
NAME = 20  # columns of a name; two of them and their numbers fit beside each other


def say(comparison: Comparison) -> list[str]:
    """Verdict, table of entries, table of differences; no line is longer than WIDTH, and none has a control character.

    Example: say(found)[0] is "demo is better than no filter: 46.9 % against 32.9 % of cifar10/acc1, +14.0 points (95".
    """
    said = verdict(comparison)
    parts = [
        wrapped([said.headline]),
        _entries(comparison),
        _differences(comparison),
        wrapped(said.findings, "  "),
        ["to be careful with", *wrapped(said.cautions, "- ")] if said.cautions else [],
    ]
    return [_cut(line) for part in parts if part for line in [*part, ""]][:-1]


def _cut(line: str) -> str:
    """Where names and numbers are so long that a table is wider than the terminal."""
    return table([("", False)], [[line]], WIDTH)[1]


def wrapped(sentences: Sequence[str], first: str = "") -> list[str]:
    after = " " * len(first)
    lines: list[str] = []
    for sentence in sentences:
        counted = "".join(c + FILLER * (unicodedata.east_asian_width(c) in "WF") for c in visible(sentence))
        lines += textwrap.wrap(
            counted,
            WIDTH,
            initial_indent=first,
            subsequent_indent=after,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return [line.replace(FILLER, "") for line in lines]


def _entries(comparison: Comparison) -> list[str]:
    metric = primary(comparison)
    controls = columns(comparison)
    head = [("", False), ("samples", True), ("repeats", True), ("scoring", True), ("mean", True), ("sd", True)]
    head += [(name, True) for name in controls]
    rows = [
        [
            _name(e),
            f"{e.samples:,}",
            f"{repeats(e)}×",
            scoring(e),
            of_score(metric, e.mean),
            of_spread(metric, e.sd),
            *(of_score(metric, means[place]) for means in controls.values()),
        ]
        for place, e in enumerate(ranked(comparison))
    ]
    n = len(comparison.seeds)
    seeds = f"{n} seed{'s' * (n != 1)}"
    return [*table(head, rows, NAME + 10), *wrapped([f"{measured_by(comparison)}, {seeds}, {_compute(comparison)}"])]


def _name(entry: Entry) -> str:
    """A random control says of which recipe it has the size, unless its name does."""
    return entry.name if entry.of is None or entry.of in entry.name else f"{entry.name} (as many as {entry.of})"


def _compute(comparison: Comparison) -> str:
    seen = sorted({e.seen for e in comparison.entries})
    return f"{listed([f'{s:,}' for s in seen])} samples seen a run, scale {comparison.scale}"


def _differences(comparison: Comparison) -> list[str]:
    metric = primary(comparison)
    found: list[Difference] = []
    left = 0
    for _, among in groups(comparison):
        first, rest = first_and_rest(comparison, among)
        found += first
        left += len(rest)
    if not found:
        return []
    head = [("a", False), ("minus b", False), (unit(metric).strip() or "difference", True)]
    head += [(f"{percent_level()} interval", True), ("wins", True), ("Holm p", True), ("", False)]
    more = [f"{left} other pairs of recipes are on the page"] if left else []
    return [*table(head, [_difference(comparison, d) for d in found], NAME), *more]


def _difference(comparison: Comparison, d: Difference) -> list[str]:
    metric, c = primary(comparison), d.comparison
    known = math.isfinite(c.low)
    told = OUTCOMES[outcome(c)]
    return [d.a, d.b, gain(metric, c), interval(metric, c) if known else "-", wins(c), of_p(c.p_holm), told]


# ---------------------------------------------------------------- JSON


def as_object(comparison: Comparison) -> dict[str, Any]:
    """The verdict and everything found, with null where a number is not finite: JSON knows no infinity."""
    said = verdict(comparison)
    return {"verdict": dataclasses.asdict(said), **finite(dataclasses.asdict(comparison))}


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
