"""The section on evaluation pictures: by set how many were found, by what, and pictures of both sides.

html = contamination_section(found, pick, pictures, most=None)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from curate.ask.funnel import Funnel
from curate.ask.report.contamination import Contamination, EvalPair, EvalSetFound
from curate.ask.report.figures import Pictures, figure
from curate.ask.report.html import number, section, share, table, text

BY = {"sha256": "same bytes", "phash256": "pHash-256", "phash64": "pHash-64", "vectors": "vectors"}


def contamination_section(
    found: Sequence[Contamination], pick: Funnel, pictures: Pictures, most: int | None = None
) -> str:
    """Nothing where no step decontaminates.

    Args:
        most: pairs shown of a set; None: all that were gathered.
    """
    reasons = {s.id: s.reasons for s in pick.steps}
    parts = []
    for one in found:
        said = f"<p>A sample matches by {text('; or '.join(one.bounds), 1000)}.{_closure(one)}</p>"
        parts.append(f"<h3>{text(one.step)}</h3>{said}{_numbers(one, reasons.get(one.step, {}))}")
        parts += [_pairs(s, pictures, most) for s in one.sets if s.pairs]
    return section("evaluation", "Evaluation pictures", *parts) if parts else ""


def _closure(one: Contamination) -> str:
    if one.components:
        return " Whole components go: a sample also goes if another of its group matches."
    return " Every sample that matches goes, and no other for its sake."


def _numbers(one: Contamination, reasons: Mapping[str, int]) -> str:
    """A row a set. What was found is of the whole pool; what was dropped here first, of this pick."""
    head = [("evaluation set", False), ("pictures", True), ("of them in the pool", True), ("samples that match", True)]
    head += [("by what", False), ("dropped here first", True), ("with their component", True)]
    head += [("pictures without a hash to compare", True)]
    rows = [
        [
            text(s.name),
            number(s.pictures) if s.pictures else "",
            f"{number(s.matched)}{f' ({share(s.matched, s.pictures)})' if s.pictures else ''}",
            number(sum(s.samples.values())),
            ", ".join(f"{words} {number(s.samples[by])}" for by, words in BY.items() if s.samples[by]),
            number(reasons.get(f"in_{s.name}", 0)),
            number(reasons.get(f"component_in_{s.name}", 0)) if one.components else "",
            number(s.flat + s.broken),
        ]
        for s in one.sets
    ]
    return table(head, rows, f"Evaluation sets of {one.step}")


def _pairs(found: EvalSetFound, pictures: Pictures, most: int | None) -> str:
    """Pictures of a set, each beside a sample that matches it."""
    shown = found.pairs[:most]
    items = "".join(f"<li>{_evaluated(p, found.name, pictures)}{_sample(p, pictures)}</li>" for p in shown)
    note = f"{number(len(shown))} of {number(found.matched)} that were found: the farthest first, then some drawn."
    pairs = f"<ul class='pairs' aria-label='Pictures of {text(found.name)}, beside samples'>{items}</ul>"
    return f"<h4>{text(found.name)}</h4><p class='soft'>{note}</p>{pairs}"


def _evaluated(pair: EvalPair, name: str, pictures: Pictures) -> str:
    """A picture of the set, with its name there."""
    if pair.picture.thumbnail is None:
        shown = f"<span>no picture: {text(pair.picture.why_not)}</span>"
    else:
        alt = text(f"picture {pair.picture.text} of {name}", 120)
        shown = f'<img src="{pictures.source(pair.picture)}" alt="{alt}" loading="lazy">'
    said = f'<figcaption><p>{text(pair.picture.text)}</p><p class="id">{text(name)}</p></figcaption>'
    return (
        f'<figure class="sample"><p class="role stays">evaluated on</p><div class="frame">{shown}</div>{said}</figure>'
    )


def _sample(pair: EvalPair, pictures: Pictures) -> str:
    if pair.sample is None:
        frame = '<div class="frame"><span>removed since</span></div>'
        return f'<figure class="sample"><p class="role">in the pool</p>{frame}</figure>'
    return figure(replace(pair.sample, score=said(pair), reason=None), pictures, "in the pool")


def said(pair: EvalPair) -> str:
    """Why the two match, in words."""
    others = f"; {pair.samples:,} samples match this picture" if pair.samples > 1 else ""
    if pair.by == "sha256":
        return f"the same bytes{others}"
    if pair.by == "vectors":
        return f"cosine {1 - pair.distance:.4f}{others}"
    return f"{pair.distance:.0f} bits of {pair.by.removeprefix('phash')}{others}"
