"""The comparison as one page that loads nothing and runs nothing, in the report's style.

write(comparison, pool, Path("comparison.html"))
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import curate.ask.diff
import curate.ask.report
from curate.ask.judge import tables
from curate.ask.judge.curves import curves
from curate.ask.judge.disagree import disagreements
from curate.ask.judge.forest import forest
from curate.ask.judge.provenance import provenance
from curate.ask.judge.sizes import sizes
from curate.ask.judge.verdict import Verdict, verdict
from curate.ask.judge.who import difference, leading, no_filter, primary
from curate.ask.judge.words import gain, interval, listed, of_score, unit
from curate.ask.report.html import number, page, section, text
from curate.pool.pool import Pool
from curate.run.compare.found import Comparison


def write(comparison: Comparison, pool: Pool, out: Path) -> Path:
    """See `curate.ask.judge.write_page`."""
    html = draw(comparison, disagreements(comparison, pool))
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_name(f".{out.name}.{os.getpid()}")
    half.write_text(html, encoding="utf-8", newline="\n")
    half.replace(out)  # who looks meanwhile sees the old page or the new one, whole
    return out


def draw(comparison: Comparison, pictures: str = "") -> str:
    """The whole page; `pictures` is what `disagreements` gave."""
    said = verdict(comparison)
    parts = [
        ("findings", "What the numbers show", _findings(said)),
        ("entries", "Recipes and controls", tables.entries(comparison)),
        ("differences", "Differences", forest(comparison)),
        ("sizes", "Score against size", sizes(comparison)),
        ("curves", "Learning curves", curves(comparison)),
        ("metrics", "All metrics", tables.metrics(comparison)),
        ("sets", "Evaluation sets", tables.sets(comparison)),
        ("pictures", "What they disagree on", pictures),
        ("provenance", "Settings and provenance", provenance(comparison)),
    ]
    present = [p for p in parts if p[2]]
    return page(
        f"{_names(comparison)} compared by training",
        style(),
        '<a class="skip" href="#main">To the content</a>',
        _heading(comparison, said, [(anchor, title) for anchor, title, _ in present]),
        '<main id="main">',
        *(section(anchor, title, body) for anchor, title, body in present),
        "</main>",
    )


def style() -> str:
    places = (
        Path(curate.ask.report.__file__).with_name("style.css"),
        Path(curate.ask.diff.__file__).with_name("diff.css"),
        Path(__file__).with_name("judge.css"),
    )
    return "\n".join(p.read_text(encoding="utf-8") for p in places)


def _names(comparison: Comparison) -> str:
    return listed((e.name for e in comparison.recipes), 3) or "No recipe"


def _heading(comparison: Comparison, said: Verdict, links: Sequence[tuple[str, str]]) -> str:
    big = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in _facts(comparison))
    items = "".join(f'<li><a href="#{text(anchor)}">{text(title)}</a></li>' for anchor, title in links)
    return (
        f"<header><h1>{text(_names(comparison))} <span class='soft'>compared by training</span></h1>"
        f"<p class='lead'>{text(said.headline, 2000)}</p>"
        f'<dl class="big">{big}</dl><nav aria-label="Sections"><ul>{items}</ul></nav></header>'
    )


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """The main numbers: the leading recipe's, then what they were measured at."""
    metric, best = primary(comparison), leading(comparison)
    found = []
    if best is not None:
        found.append((f"{best.name}, {comparison.primary}", of_score(metric, best.mean)))
        c = difference(comparison, best, no_filter(comparison))
        if c is not None:
            found.append(("over no filter", gain(metric, c) + unit(metric)))
            found += [("interval", interval(metric, c))] if c.n > 1 else []
    seen = sorted({e.seen for e in comparison.entries})
    found += [("seeds", number(len(comparison.seeds))), ("samples seen a run", " or ".join(map(number, seen)))]
    return [*found, ("scale", comparison.scale)]


def _findings(said: Verdict) -> str:
    def items(sentences: Sequence[str], kind: str) -> str:
        told = "".join(f"<li>{text(s, 4000)}</li>" for s in sentences)
        return f'<ul class="said {kind}">{told}</ul>' if told else ""

    cautions = f"<h3>To be careful with</h3>{items(said.cautions, 'caution')}" if said.cautions else ""
    return items(said.findings, "") + cautions
