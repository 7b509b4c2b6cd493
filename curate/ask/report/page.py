"""The page: what was found, drawn. The same findings give the same bytes.

html = draw(gather(pool, "picks/demo@0123456789ab"))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curate.ask.funnel import Step
from curate.ask.pictures import Shown
from curate.ask.report import figures, sections
from curate.ask.report.contamination_section import contamination_section
from curate.ask.report.duplicates import duplicates_section
from curate.ask.report.figures import Embedded, Pictures
from curate.ask.report.found import FilterFound, Found
from curate.ask.report.html import number, page, section, text
from curate.ask.report.plots import PATTERNS, histogram

MORE = Mapping[tuple[str, str], str]
"""(anchor of a filter, lost | kept | borderline) -> page with more samples."""


def style() -> str:
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def draw(
    found: Found,
    pictures: Pictures | None = None,
    *,
    lists: Mapping[tuple[str, str], str] | None = None,
    more: MORE | None = None,
    sheet: int | None = None,
) -> str:
    """The whole page.

    Args:
        pictures: where thumbnails go; None: into the page.
        lists: files with whole lists of uids, see `sections.uids_section`.
        more: pages with more samples of a sheet.
        sheet: samples shown on a sheet of this page; None: all that were gathered.
    """
    shown = pictures or Embedded()
    filters = [(a, s, _filter_section(a, s, f, found, shown, more or {}, sheet)) for a, s, f in sections.anchors(found)]
    parts = [
        ("funnel", "Funnel", sections.funnel_section(found.pick)),
        ("downloads", "Downloads", sections.download_section(found.downloads)),
        *((anchor, step.id, html) for anchor, step, html in filters),
        ("duplicates", "Duplicates", duplicates_section(found, shown, sheet)),
        ("evaluation", "Evaluation pictures", contamination_section(found.contamination, found.pick, shown, sheet)),
        ("kept", "What was kept", _final(found, shown, sheet)),
        ("what", "What is in it", sections.counts_section(found.counts)),
        ("timings", "Timings", sections.timings_section(found.timings)),
        ("uids", "Lists of uids", sections.uids_section(found.uid_lists, lists)),
        ("recipe", "Recipe", sections.recipe_section(found.pick, found.about)),
    ]
    present = [p for p in parts if p[2]]
    title = f"{found.pick.recipe}: {found.pick.kept:,} of {found.pick.rows:,} samples"
    return page(
        title,
        style(),
        '<a class="skip" href="#main">To the content</a>',
        PATTERNS,
        sections.heading(found.pick, found.about, [(anchor, name) for anchor, name, _ in present]),
        '<main id="main">',
        *(html for _, _, html in present),
        "</main>",
        _footer(found, shown),
        local_images=not isinstance(shown, Embedded),
    )


def _filter_section(
    anchor: str, step: Step, found: FilterFound, whole: Found, pictures: Pictures, more: MORE, most: int | None
) -> str:
    """What one filter did: how its quantities are spread, and pictures of lost, nearest and kept."""
    lost, near, kept = found.lost[:most], _both_sides(found, most), found.kept[:most]
    first = f"{number(step.dropped_first)} dropped here first" + (f", {len(lost)} shown" if lost else "")
    parts = [f"<p class='soft'>{first}; {number(step.left)} left.</p>"]
    if found.histograms:
        key = (
            '<ul class="key"><li><i class="keep"></i>kept in the end</li>'
            '<li><i class="lose"></i>dropped here first</li><li><i class="alone"></i>dropped by other filters</li></ul>'
        )
        parts.append(f'{key}<div class="plots">{"".join(map(histogram, found.histograms))}</div>')
    if lost:
        parts.append(f"<h3>Lost</h3>{figures.sheet(lost, whole.keepers, pictures, f'Lost at {step.id}', found.beside)}")
        parts.append(_more(more, anchor, "lost"))
    if near:
        parts.append(f"<h3>Nearest to the threshold</h3>{figures.borderline(near, pictures)}")
        parts.append(_more(more, anchor, "borderline"))
    if kept:
        opened = "" if lost else " open"
        body = figures.sheet(kept, {}, pictures, f"Kept by {step.id}")
        parts.append(f"<details{opened}><summary>Kept so far ({len(kept)} shown)</summary>{body}</details>")
        parts.append(_more(more, anchor, "kept"))
    return section(anchor, step.id, *parts)


def _both_sides(found: FilterFound, most: int | None) -> list[Shown]:
    """The nearest of either side, where a sheet holds fewer than were gathered."""
    if most is None:
        return found.borderline
    lost = [s for s in found.borderline if s.reason is not None]
    kept = [s for s in found.borderline if s.reason is None]
    return lost[: most // 2] + kept[: most // 2]


def _more(more: MORE, anchor: str, kind: str) -> str:
    return f'<p><a href="{text(more[anchor, kind])}">More of them</a></p>' if (anchor, kind) in more else ""


def _final(found: Found, pictures: Pictures, most: int | None) -> str:
    if not found.final:
        return ""
    shown = found.final[:most]
    note = f"<p class='soft'>{len(shown)} of {number(found.pick.kept)}, drawn by their uids.</p>"
    return section("kept", "What was kept", note, figures.sheet(shown, {}, pictures, "What was kept"))


def _footer(found: Found, pictures: Pictures) -> str:
    count = pictures.count if isinstance(pictures, Embedded) else None
    shown = "" if count is None else (
        f"{number(count)} pictures are shown. More of them, and whole lists of uids: "
        f"<code>curate report RECIPE --folder DIR</code>. "
    )  # fmt: skip
    return f"<footer><p class='soft'>{shown}Made by curate {text(found.about.get('version', ''))}.</p></footer>"
