"""Contact sheets of the comparison: pictures with reason, caption and uid."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from curate.ask.pictures import Shown
from curate.ask.report.html import text


def sheet(samples: Sequence[Shown], kind: str, keepers: Mapping[bytes, Shown], side: str = "") -> str:
    """A grid of samples; a duplicate stands beside the sample that stays for it in A or B (`side`), where known."""
    pairs = [(s, keepers[s.dup_of]) for s in samples if s.dup_of is not None and s.dup_of in keepers]
    alone = [s for s in samples if s.dup_of is None or s.dup_of not in keepers]
    found = ""
    if pairs:
        items = "".join(
            f"<li>{figure(lost, f'dropped in {side}')}{figure(stays, f'stays in {side}')}</li>" for lost, stays in pairs
        )
        found += f'<ul class="pairs">{items}</ul>'
    if alone:
        found += f'<ul class="sheet {kind}">' + "".join(f"<li>{figure(s)}</li>" for s in alone) + "</ul>"
    return found


def figure(sample: Shown, role: str = "") -> str:
    """One sample: every word from the web is escaped, the picture is a thumbnail of our own."""
    if sample.thumbnail is None:
        picture = f"<span>no picture: {text(sample.why_not)}</span>"
    else:
        data = base64.b64encode(sample.thumbnail).decode()
        picture = f'<img src="data:image/webp;base64,{data}" alt="{text(sample.text or "", 120)}">'
    top = f'<p class="role{" stays" if role.startswith("stays") else ""}">{role}</p>' if role else ""
    why = f'<div class="why">{text(sample.reason)}</div>' if sample.reason else ""
    caption = f'<p dir="auto">{text(sample.text)}</p>' if sample.text is not None else '<p class="soft">no caption</p>'
    where = f'{sample.width}×{sample.height} · <span title="{text(sample.url or "")}">{sample.uid.hex()}</span>'
    said = f'<figcaption>{why}{caption}<div class="id">{where}</div></figcaption>'
    return f'<figure>{top}<div class="frame">{picture}</div>{said}</figure>'
