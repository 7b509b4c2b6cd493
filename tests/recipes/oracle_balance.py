"""Oracles of recipes that balance: MetaCLIP, Meta CLIP 2, CLIP's queries, DSIR's draw."""

from __future__ import annotations

import hashlib
import json
import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from tests.recipes.oracle_parts import draw, each, english, hash64, language, settled, texts, top_exactly, uniform
from tests.recipes.world import Chosen

SPLIT = ",.;:?!`"
HAN = "\u4e00-\u9fff\u3400-\u4dbf"


def normalised(text: str) -> str:
    """3.2: spaces around seven marks and both ends, and for tabs and line ends."""
    text = f" {text} "
    for mark in SPLIT:
        text = text.replace(mark, f" {mark} ")
    return text.replace("\t", " ").replace("\n", " ").replace("\r", " ")


def matched(said: pd.Series, listed: list[str], needles: list[str] | None = None) -> pd.Series:
    """3.2: numbers of the entries in each text, by plain search."""
    padded = needles or [f" {entry} " for entry in listed]

    def search(text: str) -> tuple[int, ...]:
        haystack = normalised(text)
        return tuple(i for i, needle in enumerate(padded) if needle in haystack)

    return each(said, search, ())


def counted(matches: Iterable[tuple[int, ...]]) -> Counter[int]:
    return Counter(i for ids in matches for i in ids)


def chances(matches: pd.Series, counts: Mapping[int, int], t: float) -> pd.Series:
    """3.3: 1 - prod(1 - t / max(c, t)); 0 without a match."""

    def chance(ids: tuple[int, ...]) -> float:
        return 1.0 - math.prod(1.0 - t / max(counts[i], t) for i in ids)

    return each(matches, chance, 0.0)


def drawn(seen: Chosen, chance: pd.Series) -> pd.Series:
    """One number a text; as many stay as is to be expected, within four deviations."""
    numbers = [uniform(0, "metaclip", uid) for uid in chance.index]
    kept = pd.Series(np.array(numbers) < chance.to_numpy(), chance.index)
    assert abs(kept.sum() - chance.sum()) <= 4 * math.sqrt((chance * (1 - chance)).sum())
    return kept


def metaclip(seen: Chosen, metadata: str, t: int) -> pd.Series:
    asked = english(seen)
    said = texts(seen).where(asked, None)
    found = matched(each(said, str, None), json.loads(Path(metadata).read_text()))
    return drawn(seen, chances(found, counted(found[asked]), t)) & asked


def metaclip_v1_2(seen: Chosen, metadata: str, t: int) -> pd.Series:
    """3.4: whoever matches stays; the probability for the loader is of counts over the whole pool."""
    found = matched(texts(seen), json.loads(Path(metadata).read_text()))
    chance = chances(found, counted(found), t).where(texts(seen).notna())
    settled(seen, "match_p", chance, within=1e-6)
    return english(seen) & (chance > 0)


def clip_wit(seen: Chosen, metadata: str, most: int) -> pd.Series:
    """2.10: a query takes the pairs with its smallest draws; a pair stays that any query takes."""
    found = matched(texts(seen), json.loads(Path(metadata).read_text()))
    waiting: dict[int, list[tuple[int, str]]] = {}
    for uid, ids in found.items():
        own = draw(0, "query_cap", str(uid))
        for i in ids:
            waiting.setdefault(i, []).append((hash64(0, "query_cap", own, i), str(uid)))
    taken = {uid for line in waiting.values() for _, uid in sorted(line)[:most]}
    return pd.Series(found.index.isin(taken), found.index)


# ---------------------------------------------------------------- by language


def needle(entry: str) -> str:
    """3.5: a space on each side whose character is neither of a script without spaces nor punctuation."""
    bare = re.compile(f"[{HAN}{re.escape(string.punctuation)}]")
    return ("" if bare.match(entry[0]) else " ") + entry + ("" if bare.match(entry[-1]) else " ")


def threshold(counts: np.ndarray, share: float) -> int:
    """3.5: the count at which the share of matches up to it is nearest to `share`; at least 1."""
    ascending = np.sort(counts)
    if not ascending.sum():
        return 1
    return max(1, int(ascending[np.argmin(np.abs(np.cumsum(ascending) / ascending.sum() - share))]))


def metaclip2(seen: Chosen, metaclip2: str, t: int) -> pd.Series:
    """3.5: English has t; the share of its matches that are below gives every other language its own."""
    listed = {p.stem: json.loads(p.read_text()) for p in Path(metaclip2).glob("*.json")}
    home = each(language(seen), lambda lang: lang if lang in listed else "other", "other")
    found, counts = {}, {}
    for lang, entries in listed.items():
        mine = texts(seen)[home == lang]
        found[lang] = matched(mine, entries, [needle(e) for e in entries])
        tally = counted(found[lang])
        counts[lang] = np.array([tally[i] for i in range(len(entries))])
    of_english = counts["en"]
    share = of_english[of_english < t].sum() / of_english.sum()
    chance = []
    for lang, matches in found.items():
        limit = t if lang == "en" else threshold(counts[lang], share)
        chance.append(chances(matches, dict(enumerate(counts[lang].tolist())), limit))
    return drawn(seen, pd.concat(chance).reindex(seen.rows.index))


# ---------------------------------------------------------------- DSIR


def dsir(seen: Chosen, captions: str, fraction: float) -> pd.Series:
    """5.14: log weight of hashed words and pairs of words; Gumbel noise is added, and the largest stay."""

    def grams(text: str) -> list[int]:
        words = re.findall(r"\w+|[^\w\s]+", text.lower())
        named = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
        return [int(hashlib.sha256(g.encode()).hexdigest(), 16) % 10_000 for g in named]

    pool = each(texts(seen), grams, [])
    wanted = Counter(g for line in Path(captions).read_text().splitlines() for g in grams(line))
    raw = Counter(g for found in pool for g in found)

    w, r = wanted.total(), raw.total()
    ratio = {g: math.log(wanted[g] / w + 1e-8) - math.log(raw[g] / r + 1e-8) for g in raw}
    ours = each(pool, lambda found: sum(ratio[g] for g in found) if found else None, None)
    weight = settled(seen, "dsir", ours.astype(np.float64), within=1e-3)
    gumbel = [-math.log(-math.log1p(-uniform(0, "sample_by", uid))) for uid in weight.index]
    return top_exactly(weight.astype(np.float64) + gumbel, fraction)
