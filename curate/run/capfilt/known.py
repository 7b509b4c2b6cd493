"""Clean pairs that a pool knows already, by another list: CapFilt would take them for the web's.

refuse_known("pools/web", chosen.source)
"""

from __future__ import annotations

import shutil
from typing import Any

from curate.errors import UserError
from curate.pool.lists import Claim, Findings, Source, claims
from curate.pool.spill import Spill, kept_only, mark_duplicates, tally
from curate.pool.storage import Storage
from curate.pool.uid_runs import Runs, mark_known_by
from curate.pool.uids import identify
from curate.run.sources import open_source
from curate.run.sources.spec import SourceSpec


def refuse_known(pool: str, clean: dict[str, Any]) -> None:
    """Nothing, where no other list of the pool has one of the clean pairs, or there is no pool yet.

    Reads the uids of the clean pairs, unless the pool has them as a list of their own.

    Args:
        clean: an entry of `source:`.

    Raises:
        UserError: names the lists, and what to do.
    """
    storage = Storage.at(pool)
    if not storage.exists("pool.json"):
        return
    source, before = open_source(SourceSpec.model_validate(clean)), claims(storage)
    mine = next((c for c in before if (c.kind, c.list, c.hash) == ("list", source.name, source.hash)), None)
    if mine is not None and not mine.known:
        return
    found = _known_by(storage, source, [c for c in before if mine is None or c.first < mine.first])
    if found:
        where = ", ".join(f"{count:,} in the list {name}" for name, count in found.items())
        raise UserError(
            f"the pool {pool} has clean pairs of {clean['path']} already: {where}. A pair is in one list only, so that "
            "CapFilt would judge them like the web's: leave --pool out, or name a pool that has none of them"
        )


def _known_by(storage: Storage, source: Source, before: list[Claim]) -> dict[str, int]:
    """List -> how many of the source's pairs it has."""
    found: dict[str, int] = {}
    folder = storage.scratch()
    folder.mkdir(parents=True)
    try:
        spill = Spill(folder)
        for rows in source.survey(Findings()):
            spill.add(identify(*(rows.table.column(n).combine_chunks() for n in ("given", "url", "text", "content"))))
        fates = spill.finish()
        mark_duplicates(spill, fates)
        for claim in before:
            known = tally(fates)[2]
            for low, high, records in spill.groups():
                mark_known_by(Runs(storage, claim.uid_runs), low, high, kept_only(records, fates), fates)
            if more := tally(fates)[2] - known:
                found[claim.origin] = found.get(claim.origin, 0) + more
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found
