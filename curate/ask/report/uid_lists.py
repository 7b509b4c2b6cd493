"""Lists of the uids that each filter dropped first, by reason: small ones whole, large ones as a question in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from curate.ask.report.found import UidList
from curate.ask.sql import Session
from filters.base import sql_string

BUDGET = 2_000_000  # bytes of uids in all
BYTES = 33  # 32 hex digits and what stands between two of them


def uid_lists(session: Session, pick: str, steps: Sequence[str]) -> list[UidList]:
    """Per step, in the order of `steps`, and reason, most frequent first; removed samples are in none.

    Args:
        pick: ``picks/<recipe>@<hash>``; the session is over it.
        steps: ids of the filters, and of the pick's own reasons.
    """
    asked = "SELECT dropped_by, reason, count(*) AS n FROM picks WHERE dropped_by IS NOT NULL GROUP BY 1, 2"
    counts = {(step, reason): n for step, reason, n in session.ask(asked).fetchall()}
    order = {step: i for i, step in enumerate(steps)}
    known = sorted(counts, key=lambda k: (order.get(k[0], len(order)), k[0], -counts[k], k[1] or ""))
    whole = _that_fit(counts)
    uids: dict[tuple[str, str | None], list[str]] = {key: [] for key in whole}
    if whole:
        found = session.ask(f"SELECT dropped_by, reason, uid FROM picks WHERE {' OR '.join(map(_that, whole))}")
        for step, reason, uid in found.fetchall():
            uids[step, reason].append(uid)
    return [
        UidList(key[0], key[1] or "", counts[key], tuple(sorted(uids[key])) if key in uids else None, _query(pick, key))
        for key in known
    ]


def _that_fit(counts: dict[tuple[str, str | None], int]) -> list[tuple[str, str | None]]:
    """The lists that fit into the budget, smallest first."""
    left, found = BUDGET // BYTES, []
    for key in sorted(counts, key=lambda k: (counts[k], k[0], k[1] or "")):
        if counts[key] > left:
            break
        left -= counts[key]
        found.append(key)
    return found


def _that(key: tuple[str, str | None]) -> str:
    step, reason = key
    why = "reason IS NULL" if reason is None else f"reason = {sql_string(reason)}"
    return f"(dropped_by = {sql_string(step)} AND {why})"


def _query(pick: str, key: tuple[str, str | None]) -> str:
    that = _that(key)[1:-1]
    return f"SELECT uid FROM picks WHERE pick = {sql_string(pick.removeprefix('picks/'))} AND {that} ORDER BY uid"
