"""What CapFilt made: how many texts of either kind the filter took for a match, in figures and in words.

found = summary(pool, "out/capfilt.yaml", threshold=0.5)
found["web"]["rejected"], found["synthetic"]["rejected"]       # shares of the texts that were judged
"""

from __future__ import annotations

from typing import Any

from curate.recipe import load_recipe
from curate.run.capfilt.recipe import ITM, SYNTHETIC, SYNTHETIC_ITM, is_clean
from filters.base import sql_number

NO_TEXT = "no_text"


def summary(pool: str, recipe: str, threshold: float) -> dict[str, Any]:
    """
    Returns:
        clean: pairs; web, synthetic: pictures, texts that were judged, matches, rejected (the share of those judged
        that are none; None without any); of synthetic also distinct, the share of captions that differ. pairs: of all.

    Raises:
        UserError: the recipe has not been run on the pool as it is.
    """
    import curate

    least, clean = sql_number(threshold), is_clean(load_recipe(recipe).sources[0].list_name)
    rows = curate.open(pool, recipe).sql(
        f"""SELECT {clean} AS clean, count(*), count({ITM}), count_if({ITM} > {least}), count({SYNTHETIC}),
            count({SYNTHETIC_ITM}), count_if({SYNTHETIC_ITM} > {least}), count(DISTINCT {SYNTHETIC}),
            sum(coalesce(times, 0))
        FROM samples WHERE dropped_by IS NULL OR dropped_by = '{NO_TEXT}' GROUP BY 1"""
    )
    found = {bool(clean): [int(count) for count in counts] for clean, *counts in rows.fetchall()}
    pictures, judged, matches, written, read, good, distinct, _ = found.get(False, [0] * 8)
    return {
        "clean": found.get(True, [0])[0],
        "web": {"pictures": pictures, "judged": judged, "matches": matches, "rejected": _share(judged, matches)},
        "synthetic": {
            "pictures": pictures, "written": written, "judged": read, "matches": good, "rejected": _share(read, good),
            "distinct": round(distinct / written, 4) if written else None,
        },
        "pairs": sum(counts[-1] for counts in found.values()),
    }  # fmt: skip


def lines(found: dict[str, Any]) -> list[str]:
    """The same in words."""
    web, synthetic = found["web"], found["synthetic"]
    return [
        f"{'clean pairs':<32} {found['clean']:>12,}",
        f"{'web texts that match':<32} {web['matches']:>12,}   {_told(web)}",
        f"{'generated texts that match':<32} {synthetic['matches']:>12,}   {_told(synthetic)}",
        f"{'pairs':<32} {found['pairs']:>12,}",
    ]


def _share(judged: int, matches: int) -> float | None:
    return round(1 - matches / judged, 4) if judged else None


def _told(kind: dict[str, Any]) -> str:
    failed = kind["pictures"] - kind["judged"]
    lost = f", {failed:,} without a judgement" if failed else ""
    said = "none judged" if kind["rejected"] is None else f"of {kind['judged']:,}: {kind['rejected']:.1%} rejected"
    return f"({said}{lost})"
