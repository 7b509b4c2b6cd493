"""Oracles of recipes that are rules over captions and how often they occur: COYO-700M, Conceptual Captions, ALIGN.

Parts of speech are a model's output, so counts of them are read of the pool, as vectors are.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from tests.recipes.oracle_parts import (
    aspect,
    cleaned,
    draw,
    each,
    english,
    first_of,
    largest_first,
    of_text,
    shorter,
    texts,
    words,
)
from tests.recipes.world import Chosen

WORD = re.compile(r"\w+(?:['’-]\w+)*")


def spoken(seen: Chosen, column: str) -> pd.Series:
    """A count or share of parts of speech; -1 where there is none."""
    return seen.column(column).astype(np.float64).fillna(-1).astype(np.float32)


def clean_of(seen: Chosen, path: str) -> pd.Series:
    """No entry of the list, as whole words in any case."""
    listed = [re.escape(line.lower()) for line in Path(path).read_text().splitlines()]
    bad = re.compile(rf"(?<!\w)(?:{'|'.join(listed)})(?!\w)")
    return of_text(seen, lambda t: bad.search(t.lower()) is None, False)


def coyo_700m(seen: Chosen, profanity: str) -> pd.Series:
    """2.5, in the order of the card; the count is of what is left when it is taken."""
    text = cleaned(seen)
    length, count = each(text, len, -1), each(text, lambda t: len(t.split(" ")) if t else 0, -1)
    kept = (seen.rows["nbytes"] >= 5 * 1024) & (aspect(seen) <= 3) & (shorter(seen) >= 200) & english(seen)
    kept &= (length > 5) & (length <= 1000) & (count >= 3) & (count <= 256) & (spoken(seen, "n_nouns") >= 1)
    often = Counter(text[kept])
    kept &= pd.Series([often[t] <= 10 for t in text], text.index) & clean_of(seen, profanity)
    pair = pd.Series([f"{h} {t}" for h, t in zip(seen.column("phash64"), text, strict=True)], text.index)
    ties = [draw(0, "cap", uid) for uid in text.index]
    return first_of(pair, kept, largest_first(seen).assign(draw=pd.Series(ties, text.index, dtype="uint64")))


def repeated(text: str) -> float:
    found = [w.lower() for w in WORD.findall(text)]
    return 1 - len(set(found)) / len(found) if found else 1.0


def repetition(seen: Chosen) -> pd.Series:
    """As float32, which is what a pool stores: 3 of 10 in doubles is 0.30000000000000004."""
    return of_text(seen, repeated, 1.0).astype(np.float32)


def common_words(seen: Chosen, least: int) -> pd.Series:
    """Every word of the text occurs so often in the texts of the pool, in lower case; a text without words does not."""
    split = of_text(seen, lambda t: WORD.findall(t.lower()), ())
    counts = Counter(w for found in split for w in found)
    return each(split, lambda found: bool(found) and all(counts[w] >= least for w in found), False)


def cc3m(seen: Chosen, profanity: str, rare: int) -> pd.Series:
    """2.6 (1) and (2) as far as the recipe goes."""
    capitals = of_text(seen, lambda t: np.mean([w[0].isupper() for w in WORD.findall(t)] or [1.0]) <= 0.5, False)
    lower = of_text(seen, lambda t: bool(WORD.findall(t)) and WORD.findall(t)[0][0].islower(), True)
    phrase = r"(?:click\s*to\s*enlarge|stock\s*photo)"
    begun = re.compile(rf"\s*{phrase}(?!\w)|.*(?<!\w){phrase}\s*$", re.DOTALL)
    kept = (seen.rows["format"] == "jpeg") & (shorter(seen) > 400) & (aspect(seen) <= 2)
    for kind in ("n_determiners", "n_nouns", "n_prepositions"):
        kept &= spoken(seen, kind) >= 1
    kept &= (spoken(seen, "noun_ratio") <= np.float32(0.6)) & (repetition(seen) <= np.float32(0.3))
    kept &= capitals & ~lower & common_words(seen, rare)
    return kept & of_text(seen, lambda t: begun.match(t.lower()) is None, False) & clean_of(seen, profanity)


def cc12m(seen: Chosen, rare: int) -> pd.Series:
    """2.7."""
    kept = (seen.rows["format"] == "jpeg") & (shorter(seen) > 400) & (aspect(seen) <= 2.5)
    kept &= (words(seen) >= 3) & (words(seen) <= 256)
    kept &= (spoken(seen, "n_nouns") >= 1) & (spoken(seen, "n_determiners") >= 1)
    return kept & (repetition(seen) <= np.float32(0.2)) & common_words(seen, rare)


def align(seen: Chosen, texts_per_image: int, vocabulary: int) -> pd.Series:
    """2.8: both counts, and those of words and pairs, are of the raw pool."""
    said = texts(seen)[each(texts(seen), bool, False)]
    pairs = set(zip(said, seen.rows["sha256"][said.index], strict=True))
    images, captions = Counter(t for t, _ in pairs), Counter(s for _, s in pairs)

    def grams(text: str) -> list[tuple[str, ...]]:
        found = text.split()
        return [*((w,) for w in found), *pairwise(found)]

    counts = Counter(g for t in said for g in grams(t))
    cutoff, inside = 1, 0
    for count, members in sorted(Counter(counts.values()).items(), reverse=True):
        if inside + members > vocabulary:
            cutoff = count + 1
            break
        inside += members
    size = (shorter(seen) > 200) & (aspect(seen) < 3)
    often = pd.Series([captions[s] <= texts_per_image for s in seen.rows["sha256"]], seen.rows.index)
    shared = of_text(seen, lambda t: 1 <= images[t] <= 10, False)
    known = of_text(seen, lambda t: all(counts[g] >= cutoff for g in grams(t)), False)
    return size & often & shared & known & (words(seen) >= 3) & (words(seen) <= 20)
