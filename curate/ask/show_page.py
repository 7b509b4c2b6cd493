"""The folder that `curate show --out` writes: stored pictures as they are, and one page that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curate.ask.handle import Handle
from curate.ask.pictures import small
from curate.ask.report.html import page, table, text
from curate.ask.samples import IN_POOL, REMOVED, TWINS, Found, Told, stored
from curate.ask.show import TOP, decision, fetched, folders_of, said_by, shown
from curate.errors import UserError

STYLE = """
:root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
article { border-top: 1px solid; padding: 1rem 0; }
h1 { font-size: 1.3rem } h2 { font: bold 1rem ui-monospace, monospace; overflow-wrap: anywhere; margin: 0 0 .5rem }
h3 { font-size: .95rem; margin: 1rem 0 .25rem; overflow-wrap: anywhere }
img { max-width: 100%; height: auto; image-rendering: auto } .caption { font-size: 1.1rem; overflow-wrap: anywhere }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .875rem }
th, td { text-align: left; vertical-align: top; padding: .1rem .75rem .1rem 0; overflow-wrap: anywhere }
thead { position: absolute; left: -100vw }
tbody th { font-weight: normal; opacity: .8; white-space: nowrap }
.unseen { position: absolute; left: -100vw }
"""


def write_page(handle: Handle, told: Sequence[Told], folder: Path) -> int:
    """Write <uid>.<ext> for each sample that has a picture, and index.html; the number of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    articles, written = [], 0
    for t in told:
        figure, wrote = _figure(handle, t, folder)
        written += wrote
        articles.append(f"<article><h2>{text(t.uid)}</h2>{figure}{''.join(_parts(t))}</article>")
    title = f"{len(told)} sample{'s' * (len(told) != 1)} of {handle.pool.storage}"
    whole = page(title, STYLE, f"<main><h1>{text(title)}</h1>", *articles, "</main>")
    (folder / "index.html").write_text(whole, encoding="utf-8")
    return written


def _figure(handle: Handle, told: Told, folder: Path) -> tuple[str, bool]:
    """(the picture in the page, linked to its file; or why there is none, whether a file was written)."""
    if told.state == REMOVED:
        return "<p>It was removed from this pool; nothing of it is shown.</p>", False
    if told.state != IN_POOL:
        return f"<p>{text(told.state)}</p>", False
    try:
        picture = stored(handle.pool, Found(told.uid, told.state, told.shard, told.row))
    except UserError as e:
        return f"<p>{text(e)}</p>", False
    name = f"{told.uid}.{picture.format}"
    (folder / name).write_bytes(picture.data)
    thumbnail, why_not = small(picture.data, 384)
    if thumbnail is None:
        return f'<p><a href="{text(name)}">{text(name)}</a>: {text(why_not)}</p>', True
    source = f"data:image/webp;base64,{base64.b64encode(thumbnail).decode()}"
    caption = told.facts.get("text") or "no caption"
    return f'<a href="{text(name)}"><img src="{source}" alt="{text(caption)}"></a>', True


def _parts(told: Told) -> Iterator[str]:
    """The texts, the download, columns by folder, verdicts, duplicates."""
    if told.state == REMOVED:
        return
    known = told.facts or told.columns.get("lists", {}) or (told.fetches[-1] if told.fetches else {})
    if known.get("text") is not None:
        yield f'<p class="caption">{text(known["text"], 10_000)}</p>'
    if known.get("url") is not None:
        yield f"<p>{text(known['url'], 2_000)}</p>"
    if told.fetches:
        yield _listing("Download", [(f"attempt {f['attempt'] + 1}", fetched(f)) for f in told.fetches])
    for folder, row in folders_of(told):
        rest = [(k, shown(v)) for k, v in row.items() if v is not None and k not in (*TOP, "uid")]
        if rest and folder != "lists":
            yield _listing(folder, rest)
    for fate in told.fates:
        yield _listing(f"Pick {fate.pick}: {decision(fate)}", [(v.id, said_by(v)) for v in fate.verdicts])
    for name, uids in told.twins.items():
        more = f" and {len(uids) - TWINS:,} more" if len(uids) > TWINS else ""
        said = ", ".join(uids[:TWINS]) + more if uids else "none but itself"
        yield f"<h3>In one {text(name)} with</h3><p>{text(said, 2_000)}</p>"


def _listing(title: str, rows: Sequence[tuple[Any, str]]) -> str:
    head = (("name", False), ("value", False))
    return f"<h3>{text(title)}</h3>" + table(head, [(text(k), text(v, 4_000)) for k, v in rows], title)
