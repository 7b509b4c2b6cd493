"""Oracles of recipes that cut at a score of a CLIP: LAION, DataComp, DFN."""

from __future__ import annotations

import pandas as pd

from tests.recipes.oracle_parts import (
    at_least,
    characters,
    clip_score,
    english,
    first_of,
    language,
    largest_first,
    said,
    top_datacomp,
    top_exactly,
)
from tests.recipes.world import Chosen


def _laion_begins(seen: Chosen) -> pd.Series:
    """2.2, step 1: five characters, 5 KB."""
    return (characters(seen) >= 5) & (seen.rows["nbytes"] >= 5 * 1024)


def laion_400m(seen: Chosen, least: float) -> pd.Series:
    """2.2; step 2, one of each (url, text), is what a uid is."""
    return _laion_begins(seen) & english(seen) & at_least(clip_score(seen, "b32"), least)


def laion_2b_en(seen: Chosen, least: float) -> pd.Series:
    """2.3: as above, and one of each url among what is left."""
    kept = _laion_begins(seen) & english(seen) & at_least(clip_score(seen, "b32"), least)
    return first_of(seen.rows["url"], kept, largest_first(seen))


def laion_2b_multi(seen: Chosen, least: float) -> pd.Series:
    """2.3: what is not English, and what has no language."""
    kept = _laion_begins(seen) & (language(seen) != "en") & at_least(clip_score(seen, "mclip"), least)
    return first_of(seen.rows["url"], kept, largest_first(seen))


def top_share(seen: Chosen, name: str, fraction: float) -> pd.Series:
    """4.4: DataComp's cut over the whole pool."""
    return top_datacomp(clip_score(seen, name), fraction) & said(seen)


def above(seen: Chosen, name: str, least: float) -> pd.Series:
    return at_least(clip_score(seen, name), least) & said(seen)


def datacomp_laion2b(seen: Chosen, least: float) -> pd.Series:
    """4.4: English and B/32."""
    return english(seen) & at_least(clip_score(seen, "b32"), least)


def dfn(seen: Chosen) -> pd.Series:
    """5.1 (d): the best 15 % of the pool."""
    return top_exactly(clip_score(seen, "dfn"), 0.15)
