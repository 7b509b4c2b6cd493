"""The sections of the page, each a function from what was found to HTML."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from curate.ask.funnel import Funnel, Step
from curate.ask.report.found import Counts, Downloads, FilterFound, Found, Timing, UidList
from curate.ask.report.html import bar, number, section, share, table, text
from curate.ask.report.words import IN_WORDS
from curate.pool.facts import TRANSIENT
from curate.run.states import duration

Link = tuple[str, str]  # (anchor, title)


def heading(pick: Funnel, about: Mapping[str, Any], links: Sequence[Link]) -> str:
    """Name, one sentence, the main numbers, and the way to each section."""
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
        f"<header><h1>{text(pick.recipe)}</h1><p class='lead'>{text(sentence(pick), 1000)}</p>"
        f'<dl class="big">{big}</dl><nav aria-label="Sections"><ul>{items}</ul></nav></header>'
    )


def sentence(pick: Funnel) -> str:
    """The outcome in one sentence."""
    if not pick.rows:
        return "There was no sample with an image to choose from."
    said = f"Of {number(pick.rows)} samples this recipe kept {number(pick.kept)} ({share(pick.kept, pick.rows)})"
    lost = sorted((s for s in pick.steps if s.dropped_first), key=lambda s: -s.dropped_first)
    if not lost:
        return said + " and dropped none."
    most = " and ".join(f"{s.id} ({number(s.dropped_first)})" for s in lost[:2])
    return f"{said}; most were dropped by {most}."


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


def download_section(found: Downloads | None) -> str:
    """What became of each URL or file, what that comes from, and where."""
    if found is None or not found.outcomes:
        return ""
    total = sum(n for _, n in found.outcomes)
    rows = [
        [
            f"{text(IN_WORDS.get(kind, kind))} <code class='soft'>{text(kind)}</code>"
            + bar([(n, "keep" if kind == "ok" else "lose")], total, f"{kind}: {share(n, total)}"),
            number(n),
            share(n, total),
        ]
        for kind, n in found.outcomes
    ]
    again = sum(n for kind, n in found.outcomes if kind in TRANSIENT)
    command = "<code>curate run --retry transient</code>"
    hint = f"<p class='soft'>{number(again)} of them may succeed in another attempt: {command}</p>" if again else ""
    said = "".join(f"<li>{_with_code(line)}</li>" for line in found.diagnosis)
    said = f'<ul class="said">{said}</ul>' if said else ""
    head = [("what became of each url or file", False), ("count", True), ("share", True)]
    return section("downloads", "Downloads", said, table(head, rows, "Downloads"), hint, _hosts(found))


def _with_code(line: str) -> str:
    """A sentence of ours, what stands in backticks as code."""
    parts = text(line, 1000).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))


def _hosts(found: Downloads) -> str:
    if not found.hosts:
        return ""
    rows = [
        [
            text(h.host, 80) + bar([(h.ok, "keep"), (h.urls - h.ok, "lose")], h.urls, f"{h.ok} of {h.urls} came"),
            number(h.urls),
            share(h.ok, h.urls),
            f"{text(IN_WORDS.get(h.worst, h.worst))} {number(h.worst_count)}" if h.worst else "",
        ]
        for h in found.hosts
    ]
    head = [("host", False), ("urls", True), ("came", True), ("most frequent failure", False)]
    title = f"Hosts with the most failures, {number(len(rows))} of {number(found.hosts_in_all)}"
    return f"<h3>{title}</h3>{table(head, rows, title)}"


def counts_section(tables: Sequence[Counts]) -> str:
    """Languages, sizes, shapes, hosts, licences: how many samples have each value, and how many of them were kept."""
    blocks = []
    for counts in tables:
        most = max((n for _, n, _ in counts.rows), default=0)
        rows = [
            [
                text(v, 60) + bar([(kept, "keep"), (n - kept, "alone")], most, f"{kept} of {n} kept"),
                number(n),
                number(kept),
                share(kept, n),
            ]
            for v, n, kept in counts.rows
        ]
        head = [("value", False), ("samples", True), ("kept", True), ("share", True)]
        blocks.append(f"<div><h3>{text(counts.title)}</h3>{table(head, rows, counts.title)}</div>")
    return section("what", "What is in it", f'<div class="columns">{"".join(blocks)}</div>') if blocks else ""


def timings_section(timings: Sequence[Timing]) -> str:
    """What the runs that made this took, pass by pass."""
    if not timings:
        return ""
    rows = [
        [
            text(t.name, 80),
            number(t.parts),
            number(t.rows) if t.rows else "",
            duration(t.worker_s),
            f"{t.rows / t.worker_s:,.0f}" if t.rows and t.worker_s else "",
            "" if t.wall_s is None else duration(t.wall_s),
            number(t.failed) if t.failed else "",
        ]
        for t in timings
    ]
    head = [("pass", False), ("parts", True), ("rows", True), ("worker time", True), ("rows a worker-second", True)]
    head += [("time on the clock", True), ("failed", True)]
    note = "<p class='soft'>Summed over the runs that made the pool what it is, not only the last.</p>"
    return section("timings", "Timings", note, table(head, rows, "Timings"))


def uids_section(lists: Sequence[UidList], files: Mapping[tuple[str, str], str] | None = None) -> str:
    """Lists of uids to download, one a filter and reason.

    Args:
        files: (step, reason) -> relative path of a whole list that lies beside the page.
    """
    if not lists:
        return ""
    rows = [[text(u.step), text(u.reason, 60), number(u.count), _uids(u, files)] for u in lists]
    head = [("filter", False), ("reason", False), ("samples", True), ("their uids", False)]
    note = "<p class='soft'>One uid a line, by the filter that dropped the sample first.</p>"
    return section("uids", "Lists of what was dropped", note, table(head, rows, "Lists of uids"))


def _uids(found: UidList, files: Mapping[tuple[str, str], str] | None) -> str:
    name = f"{found.step}-{found.reason}".rstrip("-") + ".txt"
    if files is not None and (found.step, found.reason) in files:
        return f'<a href="{text(files[found.step, found.reason])}" download>{text(name, 80)}</a>'
    if found.uids is None:
        return f"<code>curate sql POOL {text(json.dumps(found.query), 1000)} -f csv</code>"
    lines = base64.b64encode("".join(f"{u}\n" for u in found.uids).encode()).decode()
    return f'<a href="data:text/plain;base64,{lines}" download="{text(name, 80)}">{text(name, 80)}</a>'


def recipe_section(pick: Funnel, about: Mapping[str, Any]) -> str:
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
    head = [("what", False), ("name", False)]
    return section("recipe", "Recipe", yaml, "<h3>What it stands for</h3>", table(head, rows, "Hashes"))


def anchors(found: Found) -> list[tuple[str, Step, FilterFound]]:
    """Each filter with its anchor, in the funnel's order."""
    return [(f"filter-{s.number}", s, found.filters[s.id]) for s in found.pick.steps if s.id in found.filters]
