"""Gather what a report tells about one pick: numbers, tables, and the samples that it shows.

found = gather(pool, "picks/demo@0123456789ab")

The same pick of the same pool gives the same answer, in whatever order shards were made; only timings, which tell of
runs, may differ.
"""

from __future__ import annotations

from curate.ask.funnel import funnel
from curate.ask.report.choose import choose
from curate.ask.report.counts import counts, outcomes
from curate.ask.report.found import Counts, Downloads, FilterFound, Found
from curate.ask.sql import Session
from curate.ask.views import Views
from curate.pool.pool import Pool


def gather(pool: Pool, pick_folder: str, *, samples: int = 24) -> Found:
    """All that a report tells about a finished pick.

    Args:
        pick_folder: ``picks/<recipe>@<hash>``.
        samples: pictures on each contact sheet.

    Raises:
        UserError: the pick is not finished, or its files do not fit the pool.
    """
    pick = funnel(pool, pick_folder)
    about = pool.about(pick_folder)
    session = Session(Views(pool, pick_folder))
    sheets = choose(pool, pick, about["shards"], samples)
    said = outcomes(session)
    return Found(
        pick=pick,
        about=about,
        filters={s.id: FilterFound(lost=sheets.lost[s.id], kept=sheets.kept[s.id]) for s in pick.steps if s.folder},
        keepers=sheets.keepers,
        groups=[],
        group_sizes=[],
        downloads=Downloads(tuple(said), (), 0, ()) if said else None,
        counts=[Counts(title, tuple(rows)) for title, rows in counts(session).items()],
        timings=[],
        uid_lists=[],
        final=sheets.final,
    )
