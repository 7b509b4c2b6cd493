"""One self-contained HTML page of what a recipe kept and lost, with pictures.

write_report(pool, "picks/demo@0123456789ab", Path("report.html"))

The page loads nothing and runs nothing: thumbnails are re-encoded and embedded, and every word from the web is
escaped. The same pick gives the same page.
"""

from __future__ import annotations

from pathlib import Path

from curate.ask.funnel import funnel
from curate.ask.report.choose import choose
from curate.ask.report.counts import counts, outcomes
from curate.ask.report.html import page
from curate.ask.report.sections import (
    counts_section,
    download_section,
    filter_section,
    funnel_section,
    heading,
    recipe_section,
)
from curate.ask.sql import Session
from curate.ask.views import Views
from curate.pool.pool import Pool


def write_report(pool: Pool, pick_folder: str, out: Path, *, folder: Path | None = None) -> Path:
    """Write the page of a pick; returns its path.

    Args:
        pick_folder: ``picks/<recipe>@<hash>``, finished.

    Raises:
        UserError: the pick is not finished, or its files do not fit the pool.
    """
    pick = funnel(pool, pick_folder)
    about = pool.about(pick_folder)
    session = Session(Views(pool, pick_folder))
    sheets = choose(pool, pick, about["shards"])
    filters = [(f"filter-{s.number}", s) for s in pick.steps if s.folder]
    downloads = download_section(outcomes(session))
    inside = counts_section(counts(session))
    links = [("funnel", "Funnel")]
    links += [("downloads", "Downloads")] if downloads else []
    links += [(anchor, step.id) for anchor, step in filters]
    links += [("what", "What is in it")] if inside else []
    links += [("recipe", "Recipe")]
    html = page(
        f"{pick.recipe}: {pick.kept:,} of {pick.rows:,} samples",
        (Path(__file__).parent / "style.css").read_text(encoding="utf-8"),
        heading(pick, about, links),
        "<main>",
        funnel_section(pick),
        downloads,
        *(filter_section(anchor, step, sheets) for anchor, step in filters),
        inside,
        recipe_section(pick, about),
        "</main>",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8", newline="\n")
    return out
