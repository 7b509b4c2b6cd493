"""Found against planted: what became of each URL of the demo's web, beside what had to become of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import pyarrow as pa

from curate.demo.web import CLEAN, KEPT, PLANTED

COPIES = ("exact copy", "near copy")


@dataclass(frozen=True)
class Line:
    """One kind of planted URL: how many, what must become of it, how many did, and where the others went."""

    kind: str
    planted: int
    expected: str
    found: int
    elsewhere: dict[str, int]


def found_against_planted(truth: pa.Table, fates: dict[str, str]) -> list[Line]:
    """Score the fates (url -> "kept", an outcome of the download, or the id of the filter that dropped it).

    Of a picture and its copies one must stay, whichever it is: a copy counts as found where its picture is
    kept once, and the original is right where one of its copies stays in its place.
    """
    rows = truth.to_pylist()
    family: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        if row["kind"] in (CLEAN, *COPIES):
            family[row["scene"]].append(fates[row["url"]])
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        fate = fates[row["url"]]
        once = family[row["scene"]].count(KEPT) == 1
        copy_rules = all(f in (KEPT, "exact", "near") for f in family[row["scene"]])
        if row["kind"] in (CLEAN, *COPIES) and once and copy_rules:
            fate = row["expected"]
        totals[row["kind"]][fate] += 1
    lines = []
    for kind, (_, expected) in [*PLANTED.items(), (CLEAN, (0.0, KEPT))]:
        counts = totals[kind]
        others = {k: n for k, n in sorted(counts.items()) if k != expected}
        lines.append(Line(kind, counts.total(), expected, counts[expected], others))
    return lines


def table(lines: list[Line]) -> str:
    """The lines for people."""
    shown = [f"{'planted':<18} {'count':>6}   {'must end as':<16} {'did':>6}   others"]
    for line in lines:
        others = ", ".join(f"{k} {n}" for k, n in line.elsewhere.items())
        shown.append(f"{line.kind:<18} {line.planted:>6}   {line.expected:<16} {line.found:>6}   {others}")
    return "\n".join(shown)
