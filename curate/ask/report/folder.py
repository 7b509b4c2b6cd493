"""The report as a folder, for big pools: the page, pictures as files, pages with more samples, whole lists of uids.

write_folder(pool, "picks/demo@0123456789ab", Path("report"))     # report/index.html; any static server, or none

It is made beside its place and then put there as a whole. An earlier report is replaced; anything else is left alone.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.ask.pictures import Shown
from curate.ask.report import figures, sections
from curate.ask.report.figures import Filed
from curate.ask.report.found import Found
from curate.ask.report.gather import gather
from curate.ask.report.html import page, text
from curate.ask.report.page import draw, style
from curate.errors import UserError
from curate.pool.columns import read_table
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from stages.base import shard_name

SAMPLES = 240  # of each sheet, where there are so many
ON_INDEX, ON_PAGE = 24, 48
MARK = ".curate-report"


def write_folder(pool: Pool, pick_folder: str, folder: Path) -> Path:
    """Write the folder; returns its index.html.

    Raises:
        UserError: `folder` is there and is no earlier report.
    """
    folder = folder.absolute()
    _refuse(folder)
    half = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        _fill(pool, pick_folder, half)
        _put(half, folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder / "index.html"


def _refuse(folder: Path) -> None:
    if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there, and is no report of curate's; give the name of a new folder")


def _put(half: Path, folder: Path) -> None:
    """Put the new folder into its place; the old one goes only then."""
    (half / MARK).write_text("A report of curate: it may be replaced by a newer one.\n")
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    half.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _fill(pool: Pool, pick_folder: str, folder: Path) -> None:
    found = gather(pool, pick_folder, samples=SAMPLES)
    pictures = Filed(folder)
    lists = _lists(pool, found, folder)
    more: dict[tuple[str, str], str] = {}
    for anchor, step, of_step in sections.anchors(found):
        for kind, samples in (("lost", of_step.lost), ("borderline", of_step.borderline), ("kept", of_step.kept)):
            if len(samples) > ON_INDEX:
                more[anchor, kind] = _pages(folder, found, anchor, step.id, kind, samples, pictures)
    html = draw(found, pictures, lists=lists, more=more, sheet=ON_INDEX)
    (folder / "index.html").write_text(html, encoding="utf-8", newline="\n")


def _pages(
    folder: Path, found: Found, anchor: str, step: str, kind: str, samples: Sequence[Shown], pictures: Filed
) -> str:
    """Pages with all samples of one sheet; the name of the first."""
    parts = [samples[i : i + ON_PAGE] for i in range(0, len(samples), ON_PAGE)]
    names = [f"{anchor}-{kind}-{n}.html" for n in range(1, len(parts) + 1)]
    for n, (name, part) in enumerate(zip(names, parts, strict=True)):
        title = f"{step}: {kind}, page {n + 1} of {len(parts)}"
        links = [f'<a href="index.html#{anchor}">back to {text(step)}</a>']
        links += [f'<a rel="prev" href="{names[n - 1]}">previous</a>'] if n else []
        links += [f'<a rel="next" href="{names[n + 1]}">next</a>'] if n + 1 < len(parts) else []
        way = f'<nav aria-label="Pages"><ul>{"".join(f"<li>{link}</li>" for link in links)}</ul></nav>'
        if kind == "borderline":
            body = figures.borderline(part, pictures)
        else:
            body = figures.sheet(
                part, found.keepers if kind == "lost" else {}, pictures, f"{kind} at {step}", found.filters[step].beside
            )
        content = (f"<header><h1>{text(title)}</h1>{way}</header>", f'<main id="main">{body}</main>')
        html = page(title, style(), *content, local_images=True)
        (folder / name).write_text(html, encoding="utf-8", newline="\n")
    return names[0]


def _lists(pool: Pool, found: Found, folder: Path) -> dict[tuple[str, str], str]:
    """Whole lists of uids, one a filter and reason, written shard by shard; (step, reason) -> relative path."""
    (folder / "uids").mkdir()
    names: dict[tuple[str, str], str] = {}
    for u in found.uid_lists:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{u.step}-{u.reason}".rstrip("-"))[:80]
        names[u.step, u.reason] = f"uids/{len(names) + 1:02d}-{stem}.txt"
        (folder / names[u.step, u.reason]).touch()
    for shard in found.about["shards"]:
        for key, uids in _dropped(pool, found.pick.folder, shard).items():
            with (folder / names[key]).open("a", encoding="ascii") as out:
                out.writelines(f"{u.hex()}\n" for u in uids)
    return names


def _dropped(pool: Pool, pick: str, shard: int) -> dict[tuple[str, str], list[bytes]]:
    """Uids of one shard by who dropped them and why, without those taken down."""
    uid = pool.facts(shard, ["uid"])[0].column("uid").combine_chunks()
    picked, _ = read_table(pool.storage, part_file(pick, shard_name(shard)), ["dropped_by", "reason"])
    table = pa.table({"uid": uid, "by": picked.column("dropped_by"), "why": pc.fill_null(picked.column("reason"), "")})
    gone = pc.is_in(uid, value_set=pool.removed)
    table = table.filter(pc.and_(pc.is_valid(table.column("by")), pc.invert(gone)))
    table = table.filter(pc.not_equal(table.column("by"), "removed"))
    found: dict[tuple[str, str], list[bytes]] = {}
    for u, by, why in zip(*(table.column(n).to_pylist() for n in ("uid", "by", "why")), strict=True):
        found.setdefault((by, why), []).append(u)
    return found
