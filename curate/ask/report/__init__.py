"""What a recipe kept and lost, with pictures: one self-contained HTML page, or a folder of them.

write_report(pool, "picks/demo@0123456789ab", Path("report.html"))

The page loads nothing and runs nothing: thumbnails are re-encoded and embedded, and every word from the web is
escaped. The same pick gives the same page, but for the timings, which tell of runs.
"""

from __future__ import annotations

import os
from pathlib import Path

from curate.pool.pool import Pool


def write_report(pool: Pool, pick_folder: str, out: Path, *, folder: Path | None = None) -> Path:
    """Write the page of a pick, or with `folder` the folder of pages; returns the path of the page to open.

    Args:
        pick_folder: ``picks/<recipe>@<hash>``, finished.

    Raises:
        UserError: the pick is not finished, its files do not fit the pool, or `folder` holds something else.
    """
    from curate.ask.report.gather import gather

    if folder is not None:
        from curate.ask.report.folder import write_folder

        return write_folder(pool, pick_folder, folder)
    from curate.ask.report.page import draw

    html = draw(gather(pool, pick_folder))
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_name(f".{out.name}.{os.getpid()}")
    half.write_text(html, encoding="utf-8", newline="\n")
    half.replace(out)  # who looks meanwhile sees the old page or the new one, whole
    return out
