"""The comparison as one page that loads nothing and runs nothing, in the report's style.

write_page(pool, compare(pool, a, b, samples=24), Path("a-b-diff.html"))
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import curate.ask.report
from curate.ask.diff.numbers import Diff, FilterDiff
from curate.ask.diff.pictures import Sheets, sheets
from curate.ask.diff.rows import ONLY_A, ONLY_B, OTHER_COPIES, OTHER_TEXTS, Sheet
from curate.ask.diff.say import (
    NOTHING,
    alone,
    differing,
    differing_values,
    name,
    notes,
    reasons_in_words,
    shares,
    worded,
)
from curate.ask.pictures import Shown
from curate.ask.report.figures import Embedded, sheet
from curate.ask.report.html import bar, number, page, section, table, text
from curate.pool.pool import Pool

LONGEST_YAML = 200_000  # characters of two recipes compared line by line


def write_page(pool: Pool, diff: Diff, out: Path) -> Path:
    """Write the page; returns its path. `diff` was made with as many samples as the sheets are to show.

    Raises:
        UserError: a file of the pool that it shows is missing or is of other rows.
    """
    shown = sheets(pool, diff)
    parts = [
        ("overlap", "Overlap", _overlap(diff)),
        ("recipes", "What the recipes say differently", _recipes(diff)),
        ("filters", "By filter", _filters(diff)),
        *((f"filter-{n}", name(f), _pictures(f, shown)) for n, f in enumerate(diff.filters, 1)),
        ("copies", "Kept by both, otherwise", _otherwise(diff, shown)),
        ("facts", "In what they differ", _facts(diff)),
        ("yaml", "The recipes line by line", _yaml(diff)),
    ]
    present = [p for p in parts if p[2]]
    style = Path(curate.ask.report.__file__).with_name("style.css"), Path(__file__).with_name("diff.css")
    html = page(
        f"{diff.a.label} and {diff.b.label} compared",
        "\n".join(p.read_text(encoding="utf-8") for p in style),
        _heading(diff, [(anchor, title) for anchor, title, _ in present]),
        "<main>",
        *(section(anchor, title, body) for anchor, title, body in present),
        "</main>",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8", newline="\n")
    return out


def _heading(diff: Diff, links: Sequence[tuple[str, str]]) -> str:
    jaccard = "–" if diff.jaccard is None else f"{diff.jaccard:.4f}"
    facts = [
        ("kept by A", number(diff.kept_a)),
        ("kept by B", number(diff.kept_b)),
        ("by both", number(diff.both)),
        ("only by A (lost)", number(diff.only_a)),
        ("only by B (gained)", number(diff.only_b)),
        ("both of either (Jaccard)", jaccard),
    ]
    big = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in facts)
    sides = "".join(
        f"<dt>{s.letter}</dt><dd>{text(s.label)} <code class='soft'>{text(s.pick or 'a file of uids')}</code></dd>"
        for s in (diff.a, diff.b)
    )
    shards = f"{number(diff.shards)} shard{'s' * (diff.shards != 1)}"
    items = "".join(f'<li><a href="#{text(anchor)}">{text(title)}</a></li>' for anchor, title in links)
    return (
        f"<header><h1>{text(diff.a.label)} → {text(diff.b.label)}</h1>"
        f"<p class='soft'>Two picks of one pool: which samples B keeps that A does not, and the other way round. "
        f"{number(diff.total)} samples with an image in {shards}.</p>"
        f'<dl class="vs">{sides}</dl><dl class="big">{big}</dl>'
        f'<nav aria-label="Sections"><ul>{items}</ul></nav></header>'
    )


def _overlap(diff: Diff) -> str:
    lines = [NOTHING + "."] if diff.same_pick else notes(diff)
    told = "".join(f"<p>{text(line, 1000)}</p>" for line in lines)
    if not diff.either:
        return f"<p>Neither keeps a sample.</p>{told}"
    in_a, in_b = f"A: {number(diff.kept_a)}", f"B: {number(diff.kept_b)}"
    key = (
        '<ul class="key"><li><i class="lose"></i>only A (lost)</li><li><i class="both"></i>both</li>'
        '<li><i class="keep"></i>only B (gained)</li></ul>'
    )
    copies = ""
    if diff.rows.times != (diff.kept_a, diff.kept_b):
        copies = f"<p>Copies: {number(diff.rows.times[0])} in A, {number(diff.rows.times[1])} in B.</p>"
    return (
        f'<div class="overlap">{key}<p>{in_a}</p>'
        + _span([(diff.only_a, "lose"), (diff.both, "both"), (diff.only_b, "")], diff.either, in_a)
        + f"<p>{in_b}</p>"
        + _span([(diff.only_a, ""), (diff.both, "both"), (diff.only_b, "keep")], diff.either, in_b)
        + f"</div>{copies}{told}"
    )


def _span(parts: Sequence[tuple[int, str]], whole: int, label: str) -> str:
    return bar(parts, whole, label).replace('class="bar"', 'class="span"', 1)


def _recipes(diff: Diff) -> str:
    rows = [[f"{text(p.id)} <span class='soft'>({text(p.method)})</span>", *_where(p.place)] for p in alone(diff)]
    rows += [[f"{text(p.id)}: its name", text(p.id), text(p.id_b)] for p in diff.pairs if p.id_b]
    rows += [[_key(key), *(f"<code>{text(worded(v))}</code>" for v in (c.a, c.b))] for key, c in differing(diff)]
    why = "".join(f"<li><b>{text(p.id)}</b>: {text(w)}</li>" for p in diff.pairs for w in p.why)
    found = ""
    if rows:
        head = [("what", False), ("A", False), ("B", False)]
        found += f'<div class="told">{table(head, rows, "What the recipes say differently")}</div>'
    if why:
        found += f"<h3>Filters whose verdicts may differ for another reason</h3><ul>{why}</ul>"
    return found


def _key(key: str) -> str:
    """A dotted key that may be broken behind its dots and underscores."""
    return text(key).replace(".", ".<wbr>").replace("_", "_<wbr>")


def _where(place: str) -> tuple[str, str]:
    return ("yes", "no") if place == "A" else ("no", "yes")


def _filters(diff: Diff) -> str:
    if not diff.filters:
        return ""
    most = max(max(f.gained, f.lost) for f in diff.filters)
    head = [("filter", False), ("A drops first", True), ("B drops first", True), ("lost", True), ("gained", True)]
    rows = [_filter_row(f, most) for f in diff.filters]
    all_of_it = [number(diff.total - diff.kept_a), number(diff.total - diff.kept_b), _lost(diff.only_a)]
    rows.append(["all", *all_of_it, _gained(diff.only_b)])
    note = (
        '<p class="soft">“Lost”: only A keeps the sample; in B this filter was the first to drop it. “Gained”: '
        "only B keeps it; in A this filter was the first to drop it. So both columns add up.</p>"
    )
    return note + table(head, rows, "Rows lost and gained by filter")


def _filter_row(found: FilterDiff, most: int) -> list[str]:
    place = "" if found.pair.place == "both" else f" <span class='soft'>only in {found.pair.place}</span>"
    why = [
        f"<div><span class='{kind}'>{word}</span> {text(reasons_in_words(reasons))}</div>"
        for kind, word, reasons in (("minus", "lost:", found.reasons_lost), ("plus", "gained:", found.reasons_gained))
        if reasons
    ]
    told = f'<div class="reasons">{"".join(why)}</div>' if why else ""
    counts = ["" if n is None else number(n) for n in (found.first_a, found.first_b)]
    drawn = _away(found.lost, found.gained, most)
    return [text(name(found)) + place + drawn + told, *counts, _lost(found.lost), _gained(found.gained)]


def _lost(n: int) -> str:
    return f'<span class="minus">−{number(n)}</span>' if n else "0"


def _gained(n: int) -> str:
    return f'<span class="plus">+{number(n)}</span>' if n else "0"


def _away(lost: int, gained: int, most: int) -> str:
    """Losses to the left of a line, gains to the right, on one scale for all filters."""
    sides = "".join(
        f'<div><i class="{kind}" style="width:{100 * n / max(most, 1):.2f}%"></i></div>'
        for n, kind in ((lost, "lose"), (gained, "keep"))
    )
    return f'<div class="away" role="img" aria-label="{number(lost)} lost, {number(gained)} gained">{sides}</div>'


def _pictures(found: FilterDiff, shown: Sheets) -> str:
    parts = []
    for kind, fate, rows, title in (
        (ONLY_A, found.pair.b, found.lost, "Lost: only A keeps them, B drops them here"),
        (ONLY_B, found.pair.a, found.gained, "Gained: only B keeps them, A dropped them here"),
    ):
        samples = shown.of.get((kind, fate), []) if fate is not None else []
        if samples:
            look = "lost" if kind == ONLY_A else "gained"
            parts.append(_sheet(f"{title} ({_of(len(samples), rows)})", samples, look, shown.keepers))
    return "".join(parts)


def _sheet(title: str, samples: Sequence[Shown], look: str, keepers: Mapping[bytes, Shown]) -> str:
    return f'<h3>{title}</h3><div class="{look}">{sheet(samples, keepers, Embedded(), title)}</div>'


def _of(shown: int, rows: int) -> str:
    return number(rows) if shown == rows else f"{number(shown)} of {number(rows)}"


def _otherwise(diff: Diff, shown: Sheets) -> str:
    parts = []
    kinds: list[tuple[Sheet, str, int]] = [
        ((OTHER_COPIES, 0), "In another number of copies", diff.other_copies),
        ((OTHER_TEXTS, 0), "With other texts", diff.rows.other_texts),
    ]
    for key, title, rows in kinds:
        samples = shown.of.get(key, [])
        if samples:
            parts.append(_sheet(f"{title} ({_of(len(samples), rows)})", samples, "other", {}))
    return "".join(parts)


def _facts(diff: Diff) -> str:
    if not (diff.only_a or diff.only_b):
        return ""
    blocks = []
    for t in diff.tables:
        head = [(t.title, False), ("both", True), ("only A", True), ("only B", True)]
        rows = [
            [
                text(value, 60),
                *(f"{s} <span class='soft'>{number(n)}</span>" for s, n in zip(shares(t, counts), counts, strict=True)),
            ]
            for value, *counts in differing_values(t)
        ]
        if rows:
            blocks.append(f"<div>{table(head, rows, t.title)}</div>")
    note = "<p class='soft'>Share of each of the three sets, and samples; the largest differences first.</p>"
    return f'{note}<div class="columns facts">{"".join(blocks)}</div>' if blocks else ""


def _yaml(diff: Diff) -> str:
    old, new = (str(s.about.get("yaml", ""))[:LONGEST_YAML].splitlines() for s in (diff.a, diff.b))
    if diff.a.pick is None or diff.b.pick is None or old == new:
        return ""
    kinds = {"-": "out", "+": "in", "@": "at"}
    lines = [
        f'<span class="{kinds[line[0]]}">{text(line, 1000)}</span>' if line[0] in kinds else text(line, 1000)
        for line in list(difflib.unified_diff(old, new, n=3, lineterm=""))[2:]
    ]
    return f'<pre tabindex="0" aria-label="The recipes line by line">{chr(10).join(lines)}</pre>'
