"""The sections of the page, each a function from numbers to HTML."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from curate.ask.funnel import Funnel, Step
from curate.ask.pictures import Shown
from curate.ask.report.choose import Sheets
from curate.ask.report.html import bar, number, section, share, table, text
from curate.pool.facts import TRANSIENT

IN_WORDS = {
    "ok": "downloaded and decoded",
    "dns": "host name not found",
    "refused_robots": "the site's robots.txt forbids it",
    "robots_unavailable": "robots.txt could not be read",
    "refused_header": "the answer's headers forbid it",
    "refused_list": "on a list of refusals",
    "blocked_address": "address inside a private network",
    "connect": "no connection",
    "tls": "certificate or encryption failed",
    "timeout": "too slow",
    "http_4xx": "gone or forbidden (4xx)",
    "http_429": "asked to slow down (429)",
    "http_5xx": "server error (5xx)",
    "too_many_redirects": "redirected in circles",
    "too_big": "more bytes than allowed",
    "truncated": "broke off in the middle",
    "not_image": "something else than an image",
    "bomb": "more pixels than allowed",
    "decode_error": "a broken image",
    "too_small": "smaller than allowed",
    "hash_mismatch": "other bytes than the list promised",
    "gave_up": "given up after repeated tries",
    "unreadable": "local file unreadable",
}
Counts = Sequence[tuple[str, int, int]]  # (value, samples, of them kept)


def heading(pick: Funnel, about: dict[str, Any], links: Sequence[tuple[str, str]]) -> str:
    facts = [
        ("samples with an image", number(pick.rows)),
        ("kept", number(pick.kept)),
        ("share", share(pick.kept, pick.rows)),
    ]
    if pick.times != pick.kept:
        facts.append(("copies", number(pick.times)))
    facts.append(("shards", number(len(about["shards"]))))
    big = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in facts)
    items = "".join(f'<li><a href="#{text(anchor)}">{text(title)}</a></li>' for anchor, title in links)
    return (
        f"<header><h1>{text(pick.recipe)}</h1>"
        '<p class="soft">What this recipe kept of its pool, what it dropped, and why.</p>'
        f'<dl class="big">{big}</dl><nav aria-label="Sections"><ul>{items}</ul></nav></header>'
    )


def funnel_section(pick: Funnel) -> str:
    head = [("filter", False), ("left", True), ("dropped first", True), ("alone would drop", True)]
    head += [("most frequent reasons", False)]
    rows = [_funnel_row(s, pick.rows) for s in pick.steps]
    everything = text("all with an image") + bar([(pick.rows, "keep")], pick.rows, "all")
    start = [everything, number(pick.rows), "", "", ""]
    key = (
        '<ul class="key"><li><i class="keep"></i>left after this filter</li>'
        '<li><i class="lose"></i>dropped here first</li>'
        '<li><i class="alone"></i>dropped by filters above</li></ul>'
    )
    note = (
        '<p class="soft">“Dropped first”: no filter above had dropped the sample. “Alone would drop”: '
        "all that this filter refuses of what it was asked about, whatever the others say.</p>"
    )
    return section("funnel", "Funnel", note, key, table(head, [start, *rows], "Funnel"))


def _funnel_row(step: Step, rows: int) -> list[str]:
    label = f"{number(step.left)} left, {number(step.dropped_first)} dropped here first"
    before = rows - step.left - step.dropped_first
    reasons = ", ".join(f"{text(r, 60)} {number(n)}" for r, n in list(step.reasons.items())[:3])
    name = (
        text(step.id) if step.id == step.filter else f"{text(step.id)} <span class='soft'>({text(step.filter)})</span>"
    )
    alone = "" if step.dropped_alone is None else number(step.dropped_alone)
    asked = "" if step.asked in (None, rows) else f" <span class='soft'>of {number(step.asked or 0)}</span>"
    drawn = bar([(step.left, "keep"), (step.dropped_first, "lose"), (before, "alone")], rows, label)
    return [name + drawn, number(step.left), number(step.dropped_first), alone + asked, reasons]


def download_section(outcomes: Sequence[tuple[str, int]]) -> str:
    if not outcomes:
        return ""
    total = sum(n for _, n in outcomes)
    rows = [
        [
            f"{text(IN_WORDS.get(kind, kind))} <code class='soft'>{text(kind)}</code>"
            + bar([(n, "keep" if kind == "ok" else "lose")], total, f"{kind}: {share(n, total)}"),
            number(n),
            share(n, total),
        ]
        for kind, n in outcomes
    ]
    again = sum(n for kind, n in outcomes if kind in TRANSIENT)
    hint = f"<p class='soft'>{number(again)} of them may succeed in another attempt.</p>" if again else ""
    head = [("what became of each url or file", False), ("count", True), ("share", True)]
    return section("downloads", "Downloads", table(head, rows, "Downloads"), hint)


def filter_section(anchor: str, step: Step, sheets: Sheets) -> str:
    lost, kept = sheets.lost[step.id], sheets.kept[step.id]
    first = f"{number(step.dropped_first)} dropped here first" + (f", {len(lost)} shown" if lost else "")
    parts = [f"<p class='soft'>{first}; {number(step.left)} left.</p>"]
    pairs = [(s, sheets.keepers[s.dup_of]) for s in lost if s.dup_of in sheets.keepers]
    alone = [s for s in lost if s.dup_of not in sheets.keepers]
    if pairs:
        shown = "".join(f"<li>{_figure(a, 'dropped')}{_figure(b, 'stays')}</li>" for a, b in pairs)
        parts.append(f'<h3>Lost, beside what stays</h3><ul class="pairs">{shown}</ul>')
    if alone:
        parts.append(f"<h3>Lost</h3>{_sheet(alone, 'lost')}")
    if kept:
        opened = "" if lost else " open"
        title = f"Kept ({len(kept)} shown)"
        parts.append(f"<details{opened}><summary>{title}</summary>{_sheet(kept, 'kept')}</details>")
    return section(anchor, step.id, *parts)


def _sheet(samples: Sequence[Shown], kind: str) -> str:
    return f'<ul class="sheet {kind}">' + "".join(f"<li>{_figure(s)}</li>" for s in samples) + "</ul>"


def _figure(sample: Shown, role: str = "") -> str:
    if sample.thumbnail is None:
        picture = f"<span>no picture: {text(sample.why_not)}</span>"
    else:
        data = base64.b64encode(sample.thumbnail).decode()
        picture = f'<img src="data:image/webp;base64,{data}" alt="{text(sample.text or "", 120)}" loading="lazy">'
    top = f'<p class="role{" stays" if role == "stays" else ""}">{role}</p>' if role else ""
    why = f'<div class="why">{text(sample.reason)}</div>' if sample.reason else ""
    caption = f'<p dir="auto">{text(sample.text)}</p>' if sample.text is not None else '<p class="soft">no caption</p>'
    where = f'{sample.width}×{sample.height} · <span title="{text(sample.url or "")}">{sample.uid.hex()}</span>'
    said = f'<figcaption>{why}{caption}<div class="id">{where}</div></figcaption>'
    return f'<figure>{top}<div class="frame">{picture}</div>{said}</figure>'


def counts_section(tables: Mapping[str, Counts]) -> str:
    """Languages, sizes, shapes: how many samples have each value, and how many of them were kept."""
    blocks = []
    for title, counts in tables.items():
        most = max((n for _, n, _ in counts), default=0)
        rows = [
            [
                text(v, 60) + bar([(kept, "keep"), (n - kept, "alone")], most, f"{kept} of {n} kept"),
                number(n),
                number(kept),
                share(kept, n),
            ]
            for v, n, kept in counts
        ]
        head = [("value", False), ("samples", True), ("kept", True), ("share", True)]
        blocks.append(f"<div><h3>{text(title)}</h3>{table(head, rows, title)}</div>")
    return section("what", "What is in it", f'<div class="columns">{"".join(blocks)}</div>') if blocks else ""


def recipe_section(pick: Funnel, about: dict[str, Any]) -> str:
    hashes = [("pick", pick.folder), ("pool as it was", about.get("generation")), ("curate", about.get("version"))]
    hashes += [(f"filter {s.id}", s.folder) for s in pick.steps if s.folder]
    hashes += [
        (f"column {name}", f"{c['folder']} · {c['field']}")
        for name, c in about.get("columns", {}).items()
        if c.get("folder")
    ]
    rows = [[text(k), f"<code>{text(v)}</code>"] for k, v in hashes if v is not None]
    if about.get("sources"):
        rows.append([text("captions"), f"<code>{text(json.dumps(about['sources'], sort_keys=True), 2000)}</code>"])
    shown = text(about.get("yaml", ""), 200_000, keep="\n\t")
    yaml = f'<pre tabindex="0" aria-label="The recipe">{shown}</pre>'
    return section(
        "recipe",
        "Recipe",
        yaml,
        "<h3>What it stands for</h3>",
        table([("what", False), ("name", False)], rows, "Hashes"),
    )
