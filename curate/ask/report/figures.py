"""Samples on the page: contact sheets, pairs of a duplicate and what stays, groups."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from curate.ask.pictures import Emitted, Shown
from curate.ask.report.html import number, text

SHORT, LONG = 140, 4000  # characters of a caption that stand at once; and after opening it
MOST = 12  # texts of the pick that stand below a picture


class Pictures(Protocol):
    """Where the thumbnails go: into the page, or into a folder beside it."""

    def source(self, sample: Shown) -> str:
        """What `src` says of a sample that has a thumbnail."""


class Embedded:
    """In the page itself. Counts the samples shown."""

    def __init__(self) -> None:
        self.count = 0

    def source(self, sample: Shown) -> str:
        assert sample.thumbnail is not None
        self.count += 1
        return f"data:image/webp;base64,{base64.b64encode(sample.thumbnail).decode()}"


class Filed:
    """Files of a folder, each written once."""

    def __init__(self, folder: Path, name: str = "pictures") -> None:
        self.folder, self.name = folder, name
        self.written: set[bytes] = set()
        (folder / name).mkdir(parents=True, exist_ok=True)

    def source(self, sample: Shown) -> str:
        assert sample.thumbnail is not None
        rel = f"{self.name}/{sample.uid.hex()}.webp"
        if sample.uid not in self.written:
            (self.folder / rel).write_bytes(sample.thumbnail)
            self.written.add(sample.uid)
        return rel


def sheet(
    samples: Sequence[Shown], keepers: Mapping[bytes, Shown], pictures: Pictures, label: str, beside: str = "stays"
) -> str:
    """A grid of samples; duplicates stand beside the one that they name."""
    alone = [s for s in samples if s.dup_of not in keepers]
    found = ""
    pairs = [(s, keepers[s.dup_of]) for s in samples if s.dup_of is not None and s.dup_of in keepers]
    if pairs:
        items = "".join(f"<li>{figure(a, pictures, 'dropped')}{figure(b, pictures, beside)}</li>" for a, b in pairs)
        found += f'<ul class="pairs" aria-label="{text(label)}, beside what it went for">{items}</ul>'
    if alone:
        items = "".join(f"<li>{figure(s, pictures)}</li>" for s in alone)
        found += f'<ul class="sheet" aria-label="{text(label)}">{items}</ul>'
    return found


def borderline(samples: Sequence[Shown], pictures: Pictures) -> str:
    """Just lost and just kept, each with its word: what decides is on one side or the other of a line."""
    items = "".join(
        f"<li>{figure(s, pictures, 'just lost' if s.reason is not None else 'just kept')}</li>" for s in samples
    )
    return f'<ul class="sheet" aria-label="Nearest to the threshold">{items}</ul>'


def dropped_pairs(pairs: Sequence[tuple[Shown, Shown | None, str]], pictures: Pictures, beside: str) -> str:
    """Samples that went, each beside the one that it names; that one may have been removed since."""
    items = ""
    for lost, other, words in pairs:
        named = figure(replace(other, score=words, reason=None), pictures, beside) if other is not None else ""
        items += f"<li>{figure(replace(lost, score=words), pictures, 'dropped')}{named}</li>"
    return f'<ul class="pairs" aria-label="Farthest apart of what was dropped">{items}</ul>'


def kept_pairs(pairs: Sequence[tuple[Shown, Shown, str]], pictures: Pictures) -> str:
    """Two samples that both stayed, side by side."""
    items = "".join(
        "<li>" + "".join(figure(replace(s, score=words, reason=None), pictures, "stays") for s in (a, b)) + "</li>"
        for a, b, words in pairs
    )
    return f'<ul class="pairs" aria-label="Nearest to the bound of what both stayed">{items}</ul>'


def group(lost: Sequence[Shown], keeper: Shown | None, size: int, pictures: Pictures, beside: str = "stays") -> str:
    """One group of duplicates: what they name, then some of those that went."""
    shown = ([f"<li>{figure(keeper, pictures, beside)}</li>"] if keeper else []) + [
        f"<li>{figure(s, pictures, 'dropped')}</li>" for s in lost
    ]
    more = size - 1 - len(lost)
    rest = f'<li class="more">and {more:,} more</li>' if more > 0 else ""
    return f'<ul class="sheet strip" aria-label="A group of {size:,}">{"".join(shown)}{rest}</ul>'


def figure(sample: Shown, pictures: Pictures, role: str = "") -> str:
    """Picture, why, caption or the texts of the pick, size and uid."""
    if sample.thumbnail is None:
        picture = f"<span>no picture: {text(sample.why_not)}</span>"
    else:
        alt = text(sample.text or f"sample {sample.uid.hex()}, without a caption", 120)
        picture = f'<img src="{pictures.source(sample)}" alt="{alt}" loading="lazy">'
    kind = {"stays": " stays", "better": " stays", "just kept": " stays"}.get(role, "")
    top = f'<p class="role{kind}">{role}</p>' if role else ""
    why = f'<p class="why{kind}">{text(sample.score or sample.reason)}</p>' if sample.score or sample.reason else ""
    where = f'{sample.width}×{sample.height} · <span title="{text(sample.url or "")}">{sample.uid.hex()}</span>'
    words = in_the_pick(sample.texts) if sample.texts else caption(sample.text)
    said = f'<figcaption>{why}{words}<p class="id">{where}</p></figcaption>'
    return f'<figure class="sample">{top}<div class="frame">{picture}</div>{said}</figure>'


def in_the_pick(texts: Sequence[Emitted]) -> str:
    """What a training sees of the sample: each text below its source; one of several with its share of the draws."""
    parts = []
    for t in texts[:MOST]:
        often = [f"{t.p:.1%}"] * (t.p < 1) + [f"{number(t.copies)} copies"] * (t.copies > 1)
        parts.append(f'<p class="soft of">{" · ".join([text(t.source, 60), *often])}</p>{caption(t.text)}')
    more = len(texts) - MOST
    return "".join(parts) + (f'<p class="soft of">and {number(more)} more</p>' if more > 0 else "")


def caption(words: str | None) -> str:
    """The caption; a long one opens on request, also by keyboard."""
    if words is None:
        return '<p class="soft">no caption</p>'
    if len(words) <= SHORT:
        return f'<p dir="auto">{text(words)}</p>'
    return (
        f'<details class="long"><summary dir="auto">{text(words[:SHORT])}…</summary>'
        f'<p dir="auto">{text(words, LONG)}</p></details>'
    )
