"""Oracles of recipes with captions: which texts a sample goes on with, in which entries, with which probabilities.

What captioners and language models wrote, and what models say of it, is read of the pool; bounds, choices, pieces and
probabilities are computed here. A sample's ways are a list of entries; an entry is {(source, number of the text): p}.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from tests.recipes.oracle_parts import settled, texts, top_exactly
from tests.recipes.world import Chosen

Entry = dict[tuple[str, int], float]
WEB = "web"


def emitted(seen: Chosen) -> pd.Series:
    """uid -> the entries that the pick has, copies unrolled."""
    found: dict[str, list[Entry]] = {}
    for facts in sorted((seen.pool / "pixels").glob("*.parquet")):
        uids = pq.read_table(facts, columns=["uid"]).column("uid").to_pylist()
        picks = pq.read_table(seen.pool / "picks" / seen.pick / facts.name).column("emit").to_pylist()
        for uid, ways in zip(uids, picks, strict=True):
            found[uid.hex()] = [
                {(t["source"], t["index"]): t["p"] for t in way["texts"]}
                for way in ways or []
                for _ in range(way["copies"])
            ]
    return pd.Series(found).reindex(seen.rows.index)


def entry(row: Sequence[tuple[str, Any, float]]) -> Entry:
    """Of (source, text or list of texts, share): those that are there, shares in proportion; a list has its own."""
    found: Entry = {}
    for source, value, share in row:
        several = value if isinstance(value, list) else [value]
        there = [i for i, text in enumerate(several) if said(text) is not None]
        found |= {(source, i): share / len(there) for i in there}
    total = sum(found.values())
    return {key: p / total for key, p in found.items()}


def said(text: Any) -> str | None:
    """A plain text, or one of a list with its source; None where there is none, which pandas may have as NaN."""
    text = text["text"] if isinstance(text, dict) else text
    return text if isinstance(text, str) else None


def each(seen: Chosen, *sources: tuple[str, float]) -> pd.Series:
    """One entry with these sources and shares."""
    columns = [(name, texts(seen) if name == WEB else seen.column(name), p) for name, p in sources]
    return pd.Series(
        [
            [made] if (made := entry([(name, values[uid], p) for name, values, p in columns])) else []
            for uid in seen.rows.index
        ],
        seen.rows.index,
    )


def laclip(seen: Chosen) -> pd.Series:
    """7.4: the original or one of the rewrites, uniformly, of those that are there; some may have failed."""
    ways, whole, partly = {}, 0, 0
    rewrites = seen.column("rewrites")
    for uid, original in texts(seen).items():
        there = [("rewrites", i) for i, text in enumerate(rewrites[uid] or []) if said(text) is not None]
        whole, partly = whole + (len(there) == 4), partly + (0 < len(there) < 4)
        there += [(WEB, 0)] * (said(original) is not None)
        ways[uid] = [dict.fromkeys(there, 1 / len(there))] if there else []
    assert whole, "no sample has all of its rewrites"
    assert partly, "no sample lacks only some of its rewrites, so their shares are not put to the test"
    return pd.Series(ways).reindex(seen.rows.index)


def only(kept: pd.Series, ways: pd.Series) -> pd.Series:
    """The entries of those that are kept."""
    return pd.Series([way if stays else [] for way, stays in zip(ways, kept, strict=True)], ways.index)


def capfilt(seen: Chosen) -> pd.Series:
    """7.1: either text that matches, by p > 0.5, each an entry."""
    web, blip = seen.column("itm").astype(float), seen.column("blip_itm").astype(float)
    captions, own = seen.column("blip"), texts(seen)
    return pd.Series(
        [
            [{(WEB, 0): 1.0}] * int(said(own[u]) is not None and web[u] > 0.5)
            + [{("blip", 0): 1.0}] * int(said(captions[u]) is not None and blip[u] > 0.5)
            for u in seen.rows.index
        ],
        seen.rows.index,
    )


def laion_coco(seen: Chosen) -> pd.Series:
    """7.2: five of all by one CLIP, one of these by another; what repeats itself, or a better one, is not chosen."""
    captions, scores = seen.column("blip"), seen.column("l14_blip_score")
    five, second = seen.column("five"), seen.column("rn50x64_five_score")
    last = seen.column("laion_coco")
    for uid in seen.rows.index:
        first = best(captions[uid], scores[uid], 5)
        assert [said(t) for t in five[uid] or []] == first, uid
        assert ([last[uid]] if said(last[uid]) is not None else []) == best(five[uid], second[uid], 1), uid
    return each(seen, ("laion_coco", 1.0))


def best(captions: Any, scores: Any, keep: int) -> list[str]:
    found: dict[str, str] = {}
    order = sorted(range(len(captions or [])), key=lambda i: (-(scores[i] if scores[i] is not None else -9.0), i))
    for i in order:
        text = said(captions[i])
        if text is None or scores[i] is None or repeats(text):
            continue
        found.setdefault(" ".join(plain(text)), text)
    return list(found.values())[:keep]


def plain(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’-]\w+)*", text.lower())


def repeats(text: str) -> bool:
    """More than 30 % of its pairs of words stood before; no word at all counts too."""
    words = plain(text)
    pairs = list(pairwise(words))
    return not words or (bool(pairs) and 1 - len(set(pairs)) / len(pairs) > 0.3)


def sieve(seen: Chosen, minilm: str) -> pd.Series:
    """5.6: half of the largest cosine with a caption, half of CLIP's, each between its percentiles; a fifth."""
    cosines_again(seen, minilm)
    parts = [ranged(seen.column(name).astype(np.float64)) for name in ("sieve", "l14_score")]
    fused = settled(seen, "fused", 0.5 * parts[0] + 0.5 * parts[1], within=2.01e-4)
    return only(top_exactly(fused, 0.2), each(seen, (WEB, 1.0)))


def ranged(values: pd.Series) -> pd.Series:
    low, high = np.quantile(values.dropna(), [0.001, 0.999])
    return ((values - low) / (high - low)).clip(0, 1)


def cosines_again(seen: Chosen, minilm: str) -> None:
    """Of some samples, by transformers alone."""
    from tests.stages.sentence_parts import by_hand

    own, captions, stored = texts(seen), seen.column("blip"), seen.column("sieve")
    some = [u for u in seen.rows.index if own[u] and captions[u]][::29]
    assert len(some) > 3
    for uid in some:
        lines = [without(own[uid]), *(without(said(c) or "") for c in captions[uid])]
        if not lines[0]:
            continue
        vectors = by_hand(minilm, [line or "x" for line in lines])
        cosines = [float(vectors[0] @ v) if line else 0.0 for v, line in zip(vectors[1:], lines[1:], strict=True)]
        assert abs(max(cosines) - stored[uid]) < 2e-3, uid


def without(text: str) -> str:
    for phrase in ("an image of", "a photo of", "stock photo", "photo stock", "a photo", "an image", "image", "photo"):
        text = re.sub(re.escape(phrase), "", text, flags=re.IGNORECASE)
    return text.strip()


def nguyen(seen: Chosen, fraction: float) -> pd.Series:
    """7.3: raw where raw >= s; else synthetic where synthetic >= the same s."""
    raw, synthetic = (seen.column(n).astype(np.float64) for n in ("l14_score", "l14_blip2_score"))
    down = np.sort(raw.fillna(-np.inf).to_numpy())[::-1]
    s = down[int(len(down) * fraction) - 1]
    assert set(seen.column("top_30")) == {s}
    found: list[list[Entry]] = []
    for uid in seen.rows.index:
        if raw[uid] >= s:
            found.append([{(WEB, 0): 1.0}])
        elif synthetic[uid] >= s:
            found.append([{("blip2", 0): 1.0}])
        else:
            found.append([])
    return pd.Series(found, seen.rows.index)


def dreamlip(seen: Chosen) -> pd.Series:
    """7.7: sentences of all six, cut at ". ", in their order; one web text to eight of them."""
    names = [f"{length}_{model}" for model in ("ib", "sv", "lla") for length in ("short", "long")]
    captions, pieces = [seen.column(name) for name in names], seen.column("pieces")
    for uid in seen.rows.index:
        wanted = [p for column in captions for p in cut(column[uid])]
        assert [said(p) for p in pieces[uid] or []] == wanted, uid
    return each(seen, (WEB, 1.0), ("pieces", 8.0))


def cut(text: str | None) -> list[str]:
    tidy = [" ".join(piece.split()) for piece in (said(text) or "").split(". ")]
    return [piece for piece in tidy if any(c.isalnum() for c in piece)]


def clips(seen: Chosen) -> pd.Series:
    """7.8: the web's text or a sentence of the description; together the sentences are all of it."""
    long, pieces = seen.column("long"), seen.column("pieces")
    for uid in seen.rows.index:
        joined = "".join("".join((said(p) or "").split()) for p in pieces[uid] or [])
        assert set(joined) <= set("".join((said(long[uid]) or "").split())), uid
        assert sum(map(str.isalnum, joined)) == sum(map(str.isalnum, said(long[uid]) or "")), uid
    return each(seen, (WEB, 0.5), ("pieces", 0.5))
