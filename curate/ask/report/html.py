"""Pieces of HTML: functions from values to escaped strings. Whatever comes from the web passes `text`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from curate.ask.output import visible

LONGEST = 300  # characters of a caption or url that the page shows
_JOINERS = "\u200c\u200d"  # part of Persian words and of emoji; they turn nothing around


def text(value: object, longest: int = LONGEST, keep: str = "") -> str:
    """Any value, escaped for element content and for quoted attributes; cut where it is long, controls shown.

    keep: control characters that stand as they are (line ends of a recipe).
    """
    raw = str(value)
    cut = raw[:longest]
    more = f"… ({len(raw):,} characters)" if len(raw) > longest else ""
    return html.escape(visible(cut, keep=_JOINERS + keep) + more, quote=True)


def number(value: int | float) -> str:
    return f"{value:,}"


def share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def bar(parts: Sequence[tuple[int, str]], whole: int, label: str) -> str:
    """A stacked bar: (amount, class) from the left, as shares of `whole`; `label` is read aloud."""
    spans = "".join(
        f'<span class="{kind}" style="width:{100 * amount / whole:.2f}%"></span>'
        for amount, kind in parts
        if whole and amount
    )
    return f'<div class="bar" role="img" aria-label="{html.escape(label, quote=True)}">{spans}</div>'


def table(head: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table of HTML cells; head has (title, whether its column is of numbers). The first cell heads its row."""

    def cell(tag: str, content: str, numeric: bool, scope: str = "") -> str:
        kind = ' class="n"' if numeric else ""
        return f"<{tag}{kind}{scope}>{content}</{tag}>"

    top = "".join(cell("th", text(t), n, ' scope="col"') for t, n in head)
    body = "".join(
        "<tr>"
        + cell("th", row[0], head[0][1], ' scope="row"')
        + "".join(cell("td", c, n) for c, (_, n) in zip(row[1:], head[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f'<caption class="unseen">{text(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def section(anchor: str, title: str, *content: str) -> str:
    return f'<section id="{text(anchor)}"><h2>{text(title)}</h2>{"".join(content)}</section>'


def page(title: str, style: str, *content: str, local_images: bool = False) -> str:
    """A page that loads nothing and runs nothing; with `local_images`, pictures that lie beside it."""
    beside = " file: 'self'" if local_images else ""
    policy = f"default-src 'none'; img-src data:{beside}; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        '<meta name="generator" content="curate">'
        f"<title>{text(title)}</title><style>{style}</style></head><body>{''.join(content)}</body></html>\n"
    )
