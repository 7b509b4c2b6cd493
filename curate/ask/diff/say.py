"""The comparison in a terminal of 100 columns, and as an object for JSON."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence
from typing import Any

from curate.ask.diff.facts import FactTable
from curate.ask.diff.matching import Change, Pair
from curate.ask.diff.numbers import Diff, FilterDiff
from curate.ask.diff.sides import NOT_NAMED, Side
from curate.ask.output import visible
from curate.run.planning.differ import said

WIDTH = 100
CELL = 34  # columns of a name or value in a table
LABEL = 46  # of what is compared
VALUES = 5  # values of a table of facts in the terminal; page and JSON have more
REASONS = 4
NOTABLE = 0.01  # differences in share below that are summed up in a line
NOTHING = "the same picks: nothing differs"


def as_lines(diff: Diff) -> list[str]:
    """For a terminal; no line is longer than WIDTH, and nothing in it is sent as a control character."""
    lines = [*_heading(diff), ""]
    if diff.same_pick:
        return [*map(_cut, [*lines, f"{diff.kept_a:,} kept; {NOTHING}"])]
    parts = [_overlap(diff), _wrapped(notes(diff)), _said_differently(diff), _filters(diff), _facts(diff)]
    for part in parts:
        lines += [*part, ""] if part else []
    return [_cut(line) for line in lines[:-1]]


def _heading(diff: Diff) -> list[str]:
    sides = (diff.a, diff.b)
    named = table([("", False)] * 3, [[s.letter, s.label, s.pick or "a file of uids"] for s in sides], LABEL)[1:]
    shards = f"{diff.shards:,} shard{'s' * (diff.shards != 1)}"
    return [*named, f"{diff.total:,} samples with an image in {shards} of {diff.pool}"]


def _overlap(diff: Diff) -> list[str]:
    def share(n: int) -> str:
        return f"{n / diff.total:.1%}" if diff.total else ""

    rows = [
        ("kept by A", diff.kept_a, share(diff.kept_a)),
        ("kept by B", diff.kept_b, share(diff.kept_b)),
        ("  by both", diff.both, share(diff.both)),
        ("  only by A (lost)", diff.only_a, share(diff.only_a)),
        ("  only by B (gained)", diff.only_b, share(diff.only_b)),
    ]
    lines = table([("", False), ("samples", True), ("of all", True)], [[n, f"{k:,}", s] for n, k, s in rows])
    jaccard = "-" if diff.jaccard is None else f"{diff.jaccard:.4f}"
    copies = diff.rows.times
    told = f"Jaccard (both / either) {jaccard}"
    if copies != (diff.kept_a, diff.kept_b):
        told += f"; copies {copies[0]:,} in A, {copies[1]:,} in B"
    return [*lines, told]


def notes(diff: Diff) -> list[str]:
    """What a reader has to know besides the numbers, in sentences."""
    found = []
    if diff.same_samples:
        found.append("Both keep the same samples, in the same copies with the same texts.")
    if diff.other_copies:
        most = ", ".join(f"{x} -> {y}: {n:,}" for (x, y), n in diff.rows.copies.most_common(REASONS))
        found.append(f"{diff.other_copies:,} samples that both keep have another number of copies ({most}).")
    if diff.rows.other_texts:
        found.append(f"{diff.rows.other_texts:,} samples that both keep have other texts.")
    for side, out in zip((diff.a, diff.b), diff.left_out, strict=True):
        if out.shards:
            shards = f"{out.shards:,} shard{'s' * (out.shards != 1)}"
            found.append(
                f"Only {side.letter} has seen {shards} ({out.rows:,} samples, {out.kept:,} kept): not compared."
            )
    if not diff.shards:
        found.append("The two have no shard in common.")
    if diff.rows.removed:
        found.append(f"{diff.rows.removed:,} samples were removed from the pool and are left out.")
    for side, named, kept in zip((diff.a, diff.b), diff.named, (diff.kept_a, diff.kept_b), strict=True):
        if named is not None:
            found.append(
                f"{side.letter} names {named:,} different uids, of which {kept:,} are among the samples compared."
            )
    if diff.reordered:
        found.append("Filters stand in another order in B: whom each of them drops first differs by that alone.")
    return found


def _wrapped(sentences: Sequence[str]) -> list[str]:
    return [line for s in sentences for line in textwrap.wrap(visible(s), WIDTH)]


def differing(diff: Diff) -> list[tuple[str, Change]]:
    """(key, change) of each value that the two recipes give differently; a filter's begins with its id."""
    own = [(f"{p.id}.{c.key}", c) for p in diff.pairs for c in p.parameters]
    return own + [(c.key, c) for c in diff.changes]


def worded(value: Any) -> str:
    """A value of a recipe, as a recipe would have it."""
    return "not given" if value is None else said(value)


def alone(diff: Diff) -> list[Pair]:
    """Filters that only one of two recipes has."""
    if diff.a.pick is None or diff.b.pick is None:
        return []
    return [p for p in diff.pairs if p.method and p.place != "both"]


def _said_differently(diff: Diff) -> list[str]:
    lines = [f"  {p.id} ({p.method}): only in {p.place}" for p in alone(diff)]
    lines += [f"  {p.id}: called {p.id_b} in B" for p in diff.pairs if p.id_b]
    lines += [f"  {key}: {worded(c.a)} -> {worded(c.b)}" for key, c in differing(diff)]
    lines += [f"  {p.id}: {why}" for p in diff.pairs for why in p.why]
    return ["what differs, A -> B", *lines] if lines else []


def _filters(diff: Diff) -> list[str]:
    if not diff.filters:
        return []
    head = [("filter", False), ("in", False), ("A drops first", True), ("B drops first", True)]
    head += [("gained", True), ("lost", True)]
    rows = [
        [name(f), "both" if f.pair.place == "both" else f"only {f.pair.place}", _count(f.first_a), _count(f.first_b),
         _signed(f.gained, "+"), _signed(f.lost, "-")]
        for f in diff.filters
    ]  # fmt: skip
    rows.append(["all", "", f"{diff.total - diff.kept_a:,}", f"{diff.total - diff.kept_b:,}",
                 _signed(diff.only_b, "+"), _signed(diff.only_a, "-")])  # fmt: skip
    lines = table(head, rows)
    for title, side in (("lost", "B"), ("gained", "A")):
        told = [(f, f.reasons_lost if title == "lost" else f.reasons_gained) for f in diff.filters]
        why = [f"  {name(f)}: {reasons_in_words(r)}" for f, r in told if r]
        if why:
            drops = "B drops what only A keeps" if side == "B" else "A dropped what only B keeps"
            lines += ["", f"why {drops}", *why]
    return lines


def name(found: FilterDiff) -> str:
    return "not in the file" if found.pair.id == NOT_NAMED else found.pair.id


def reasons_in_words(reasons: Sequence[tuple[str, int]]) -> str:
    shown = ", ".join(f"{reason} {n:,}" for reason, n in reasons[:REASONS])
    rest = sum(n for _, n in reasons[REASONS:])
    return shown + (f", others {rest:,}" if rest else "")


def _count(n: int | None) -> str:
    return "" if n is None else f"{n:,}"


def _signed(n: int, sign: str) -> str:
    return f"{sign}{n:,}" if n else "0"


def _facts(diff: Diff) -> list[str]:
    if not (diff.only_a or diff.only_b):
        return []
    lines = []
    for t in diff.tables:
        if t.spread >= NOTABLE:
            head = [(t.title, False), ("both", True), ("only A", True), ("only B", True)]
            rows = [[value, *shares(t, counts)] for value, *counts in t.rows[:VALUES]]
            lines += [*table(head, rows), ""]
    alike = [t.title for t in diff.tables if t.spread < NOTABLE]
    if lines:
        lines.insert(0, "in what they differ: share of each set, largest differences first")
    return [*lines, f"alike, to {NOTABLE:.0%} of each set: {'; '.join(alike)}"] if alike else lines[:-1]


def differing_values(found: FactTable) -> list[tuple[str, int, int, int]]:
    """A table of one value has nothing to tell."""
    return list(found.rows) if len(found.rows) > 1 else []


def shares(found: FactTable, counts: Sequence[int]) -> list[str]:
    return [f"{n / size:.1%}" if size else "-" for n, size in zip(counts, found.sizes, strict=True)]


# ---------------------------------------------------------------- the terminal


def table(head: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]], most: int = CELL) -> list[str]:
    """An aligned table; head: (title, whether numbers). Cells are cut to `most` columns."""
    cells = [[_fit(visible(c), most) for c in row] for row in [[t for t, _ in head], *rows]]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        pads = [" " * (w - _width(c)) for c, w in zip(row, widths, strict=True)]
        return "  ".join(p + c if n else c + p for c, p, (_, n) in zip(row, pads, head, strict=True)).rstrip()

    return [line(row) for row in cells]


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _fit(text: str, most: int) -> str:
    if _width(text) <= most:
        return text
    while _width(text) >= most:
        text = text[:-1]
    return text + "…"


def _cut(line: str) -> str:
    return _fit(visible(line[: 4 * WIDTH]), WIDTH)


# ---------------------------------------------------------------- JSON


def as_object(diff: Diff) -> dict[str, Any]:
    """Numbers only: what `--json` prints."""
    return {
        "pool": diff.pool,
        "a": _side(diff, 0),
        "b": _side(diff, 1),
        "compared": {"shards": diff.shards, "samples": diff.total, "removed": diff.rows.removed},
        "kept": {
            "a": diff.kept_a,
            "b": diff.kept_b,
            "both": diff.both,
            "only_a": diff.only_a,
            "only_b": diff.only_b,
            "jaccard": diff.jaccard,
        },
        "same_pick": diff.same_pick,
        "same_samples": diff.same_samples,
        "reordered": diff.reordered,
        "other_copies": [{"a": x, "b": y, "samples": n} for (x, y), n in diff.rows.copies.most_common()],
        "other_texts": diff.rows.other_texts,
        "filters": [_filter(f) for f in diff.filters],
        "settings": [vars(c) for c in diff.changes],
        "facts": [_fact_table(t) for t in diff.tables],
    }


def _side(diff: Diff, number: int) -> dict[str, Any]:
    side: Side = (diff.a, diff.b)[number]
    return {
        "name": side.label,
        "pick": side.pick,
        "copies": diff.rows.times[number],
        "not_compared": vars(diff.left_out[number]),
        "named": diff.named[number],
    }


def _filter(found: FilterDiff) -> dict[str, Any]:
    return {
        "id": found.pair.id,
        "id_b": found.pair.id_b or (found.pair.id if found.pair.b is not None else None),
        "filter": found.pair.method or None,
        "in": found.pair.place,
        "dropped_first": {"a": found.first_a, "b": found.first_b},
        "gained": found.gained,
        "lost": found.lost,
        "why_gained": dict(found.reasons_gained),
        "why_lost": dict(found.reasons_lost),
        "parameters": [vars(c) for c in found.pair.parameters],
        "differs": list(found.pair.why),
    }


def _fact_table(found: FactTable) -> dict[str, Any]:
    names = ("both", "only_a", "only_b")
    rows = [{"value": value, **dict(zip(names, counts, strict=True))} for value, *counts in found.rows]
    return {"title": found.title, "sizes": dict(zip(names, found.sizes, strict=True)), "values": rows}
