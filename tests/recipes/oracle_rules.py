"""Oracles of recipes that are rules over sizes, texts, languages and duplicates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tests.recipes.oracle_parts import (
    aspect,
    characters,
    cleaned,
    each,
    english,
    first_of,
    largest_first,
    said,
    shorter,
    sureness,
    words,
)
from tests.recipes.world import Chosen

FLAT = 1 << 63


def no_filter(seen: Chosen) -> pd.Series:
    return said(seen)


def datacomp_basic(seen: Chosen) -> pd.Series:
    """4.4: English, more than two words and five characters, side 200, aspect 3."""
    return english(seen) & (words(seen) > 2) & (characters(seen) > 5) & (shorter(seen) >= 200) & (aspect(seen) <= 3)


def coyo_rules(seen: Chosen) -> pd.Series:
    """2.5 without models: image, then text, then pair."""
    text = cleaned(seen)
    length, count = each(text, len, -1), each(text, lambda t: len(t.split(" ")) if t else 0, -1)
    image = (seen.rows["nbytes"] >= 5 * 1024) & (aspect(seen) <= 3) & (shorter(seen) >= 200)
    kept = image & english(seen) & (length > 5) & (length <= 1000) & (count >= 3) & (count <= 256)
    pair = seen.rows["sha256"] + "\n" + each(seen.rows["text"], str, "")
    return first_of(pair, kept, largest_first(seen))


def same_bytes(seen: Chosen, among: pd.Series) -> pd.Series:
    wide = pd.DataFrame({"width": -seen.rows["width"]})
    return first_of(seen.rows["sha256"], among, wide)


def near_pictures(seen: Chosen, among: pd.Series, distance: int, rank: pd.Series | None = None) -> pd.Series:
    """6.3: best first (by `rank`, smallest first; else the widest), each stays unless one that stayed is within the
    distance; poor hashes pair with nothing."""
    hashes = seen.column("phash64").astype("uint64")
    quality = seen.column("phash_quality")
    by = -seen.rows["width"] if rank is None else rank
    order = sorted(seen.rows.index[among], key=lambda u: (by[u], u))
    stay, kept = [], np.empty(0, np.uint64)
    for uid in order:
        code = np.uint64(hashes[uid])
        can_pair = quality[uid] >= 50 and int(code ^ np.uint64(FLAT)).bit_count() > 14
        if can_pair and (np.bitwise_count(kept ^ code) <= distance).any():
            continue
        stay.append(uid)
        kept = np.append(kept, code) if can_pair else kept
    return pd.Series(seen.rows.index.isin(stay), seen.rows.index)


def alike_pictures(seen: Chosen, among: pd.Series, distance: int, colours: float) -> pd.Series:
    """2.3 of dedup.md: the same by 256 bits of which one of eight cuts is equal, and by the mean difference of colours;
    the widest first."""
    order = sorted(seen.rows.index[among], key=lambda u: (-seen.rows["width"][u], u))
    hashes, quality, drawn = (seen.column(n)[order] for n in ("phash256", "phash_quality", "colours"))
    cuts = np.array([np.frombuffer(bytes.fromhex(h or "00" * 32), ">u4") for h in hashes]).astype(np.uint32)
    flat = np.bitwise_count(cuts ^ np.array([1 << 31, *[0] * 7], np.uint32)).sum(axis=1) <= 56
    can_pair = ~flat & (quality.to_numpy() >= 50) & drawn.notna().to_numpy()
    cells = np.array([np.frombuffer(bytes.fromhex(c or "00" * 108), np.uint8) for c in drawn]).astype(np.int64)
    stays = np.ones(len(order), bool)
    for i in np.flatnonzero(can_pair):
        others = np.flatnonzero(stays[:i] & can_pair[:i])
        near = np.bitwise_count(cuts[others] ^ cuts[i]).sum(axis=1) <= distance
        near &= (cuts[others] == cuts[i]).any(axis=1)
        near &= np.abs(cells[others] - cells[i]).mean(axis=1) <= colours
        stays[i] = not near.any()
    return pd.Series(seen.rows.index.isin(np.array(order)[stays]), seen.rows.index)


def dedup(seen: Chosen) -> pd.Series:
    everyone = pd.Series(True, seen.rows.index)
    return alike_pictures(seen, same_bytes(seen, everyone), 31, 4) & said(seen)


def web_default(seen: Chosen) -> pd.Series:
    """Bounds of the recipe itself; blank pictures are those of one colour that were planted."""
    kept = (shorter(seen) >= 128) & (aspect(seen) <= 3) & (seen.rows["kind"] != "blank")
    kept &= (words(seen) >= 3) & (characters(seen) >= 6) & (characters(seen) <= 1000) & sure_english(seen, 0.5)
    return near_pictures(seen, same_bytes(seen, kept), 4)


def sure_english(seen: Chosen, least: float) -> pd.Series:
    return english(seen) & (sureness(seen) >= np.float32(least))
