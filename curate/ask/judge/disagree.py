"""Pictures of what two picks disagree on: each recipe with no filter, and the leading recipe with the others.

html, shown = disagreements(comparison, pool)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from curate.ask.diff.numbers import Diff, FilterDiff, compare
from curate.ask.diff.pictures import sheets
from curate.ask.diff.rows import ONLY_A, ONLY_B, Sheet
from curate.ask.diff.say import name
from curate.ask.diff.sides import Side
from curate.ask.judge.who import leading, no_filter, ranked
from curate.ask.judge.words import listed
from curate.ask.pictures import Shown
from curate.ask.report.candidates import Place
from curate.ask.report.figures import Embedded, sheet
from curate.ask.report.html import bar, number, text
from curate.errors import UserError
from curate.pool.pool import Pool
from curate.run.compare.found import Comparison, Entry

SAMPLES = 12  # of each side
MOST = 8  # pairs that are drawn: each is a walk over the pool and up to twice SAMPLES pictures
FILTERS = 5  # filters that a line names


@dataclass(frozen=True)
class Disagreement:
    """Two entries and what only one of them keeps; pictures carry the filter and its reason."""

    a: Entry
    b: Entry
    diff: Diff
    only_a: list[Shown]
    only_b: list[Shown]
    keepers: dict[bytes, Shown]


def disagreements(comparison: Comparison, pool: Pool) -> str:
    """The section; pairs beyond MOST are named with the command that shows them.

    Raises:
        UserError: a pick is not finished, or a file of the pool is missing or of other rows.
    """
    wanted = pairs(comparison)
    found = "".join(_drawn(disagreement(pool, a, b)) for a, b in wanted[:MOST])
    if wanted[MOST:]:
        rest = listed(f"{a.name} and {b.name}" for a, b in wanted[MOST:])
        found += f"<p class='soft'>Not drawn: {text(rest, 1000)}; <code>curate diff A B</code> shows any two.</p>"
    return found


def pairs(comparison: Comparison) -> list[tuple[Entry, Entry]]:
    """No filter and each recipe, then the leading recipe and each other one; pairs of one pick are left out."""
    recipes = [e for e in ranked(comparison) if e.kind == "recipe"]
    base, best = no_filter(comparison), leading(comparison)
    found = [(base, e) for e in recipes] if base is not None else []
    found += [(best, e) for e in recipes if best is not None and e is not best]
    return [(a, b) for a, b in found if a.pick != b.pick]


def disagreement(pool: Pool, a: Entry, b: Entry) -> Disagreement:
    """The two picks compared over the whole pool, with pictures drawn by uid from each filter in turn."""
    diff = compare(pool, _side(pool, "A", a), _side(pool, "B", b), samples=SAMPLES)
    chosen = {key: places for kind in (ONLY_A, ONLY_B) for key, places in _in_turn(diff, kind).items()}
    shown = sheets(pool, replace(diff, shown=chosen))
    told = {
        kind: [_told(side, fate, s) for (k, fate), found in shown.of.items() if k == kind for s in found]
        for kind, side in ((ONLY_A, diff.b), (ONLY_B, diff.a))
    }
    return Disagreement(a, b, diff, told[ONLY_A], told[ONLY_B], shown.keepers)


def _side(pool: Pool, letter: str, entry: Entry) -> Side:
    about = pool.about(entry.pick)
    if not about:
        raise UserError(f"{pool.storage}/{entry.pick}: no about.json; is this the finished pick of {entry.name}?")
    slug = re.sub(r"[^\w.@+-]+", "_", entry.name)
    return Side(letter, entry.name, slug, tuple(about["shards"]), entry.pick, about)


def _in_turn(diff: Diff, kind: str) -> dict[Sheet, list[Place]]:
    """SAMPLES places of all filters together: one of each in turn, so that a rare reason is seen too."""
    waiting = {key: list(places) for key, places in sorted(diff.shown.items()) if key[0] == kind}
    chosen: dict[Sheet, list[Place]] = {key: [] for key in waiting}
    for turn in range(SAMPLES):
        for key, places in waiting.items():
            if turn < len(places) and sum(map(len, chosen.values())) < SAMPLES:
                chosen[key].append(places[turn])
    return {key: places for key, places in chosen.items() if places}


def _told(side: Side, fate: int, sample: Shown) -> Shown:
    """With the filter's id before its reason, unless they are one word."""
    by = side.fates[fate]
    return replace(sample, reason=by if sample.reason in (None, by) else f"{by}: {sample.reason}")


# ---------------------------------------------------------------- drawn


def _drawn(found: Disagreement) -> str:
    d, a, b = found.diff, text(found.a.name), text(found.b.name)
    jaccard = "–" if d.jaccard is None else f"{d.jaccard:.4f}"
    alone = f"{number(d.only_a)} only in {found.a.name}, {number(d.only_b)} only in {found.b.name}"
    split = f"{number(d.both)} in both, {alone}"
    drawn = bar([(d.only_a, "lose"), (d.both, "both"), (d.only_b, "keep")], d.either, split) if d.either else ""
    sheets = _sheet(
        found, found.only_a, d.only_a, "lost", f"Only in {a}: dropped by {b}", [f for f in d.filters if f.lost]
    )
    sheets += _sheet(
        found, found.only_b, d.only_b, "gained", f"Only in {b}: dropped by {a}", [f for f in d.filters if f.gained]
    )
    same = "" if d.only_a or d.only_b else "<p>Both keep the same samples.</p>"
    return f'<h3>{a} and {b}</h3><p class="soft">{text(split)} (Jaccard {jaccard}).</p>{drawn}{same}{sheets}'


def _sheet(
    found: Disagreement, samples: Sequence[Shown], rows: int, look: str, title: str, by: Sequence[FilterDiff]
) -> str:
    """Pictures of one side; open where the two are a recipe and no filter, or where little is to be seen."""
    if not samples:
        return ""
    counts = sorted(((f.lost if look == "lost" else f.gained, name(f)) for f in by), key=lambda c: (-c[0], c[1]))
    told = ", ".join(f"{text(who)} {number(n)}" for n, who in counts[:FILTERS])
    told += f", others {number(sum(n for n, _ in counts[FILTERS:]))}" if counts[FILTERS:] else ""
    shown = f"{number(len(samples))} of {number(rows)} shown" if len(samples) < rows else number(rows)
    body = sheet(samples, found.keepers, Embedded(), title)
    return f'<h4>{title} <span class="soft">({shown}; {told})</span></h4><div class="{look}">{body}</div>'
