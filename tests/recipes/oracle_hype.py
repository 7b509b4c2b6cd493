"""Oracles of HYPE's recipes: hyperbolic trigonometry on tangent vectors, in numpy; scores standardised; draws.

Vectors are read of the pool, and some are embedded again by torch alone.
"""

from __future__ import annotations

import heapq
import math
from functools import lru_cache

import numpy as np
import pandas as pd

from tests.recipes.oracle_parts import cosine, settled, texts, top_exactly, uniform
from tests.recipes.oracle_vectors import like_targets
from tests.recipes.world import Chosen


@lru_cache(maxsize=1)
def curvature(weights: str) -> float:
    import torch

    return math.exp(torch.load(weights, weights_only=True)["about"]["objective"]["log_curvature"])


def sides(x: np.ndarray, y: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(origin to x, origin to y, x to y), times sqrt(c), of all pairs of tangent vectors: (n, 1), (m), (n, m)."""
    a, b = (math.sqrt(c) * np.linalg.norm(p, axis=1) for p in (x, y))
    cosines = c * (x @ y.T) / np.outer(a, b)
    cosh = np.outer(np.cosh(a), np.cosh(b)) - np.outer(np.sinh(a), np.sinh(b)) * np.clip(cosines, -1, 1)
    return a[:, None], b, np.arccosh(np.maximum(cosh, 1 + 1e-15))


def xi(x: np.ndarray, y: np.ndarray, c: float) -> np.ndarray:
    """5.2 by the law of cosines: how far y lies outside of the cone of x; (n, m)."""
    a, b, d = sides(x, y, c)
    at_x = (np.cosh(a) * np.cosh(d) - np.cosh(b)) / (np.sinh(a) * np.sinh(d))
    return np.pi - np.arccos(np.clip(at_x, -1, 1)) - np.arcsin(np.minimum(0.2 / np.sinh(a), 1))


def embedded_again(seen: Chosen, weights: str) -> None:
    """Some texts' vectors are those of the towers, times the factor that was learned."""
    import torch

    from training_smoke.towers_file import load_towers

    towers, learned = load_towers(weights), torch.load(weights, weights_only=True)["about"]["objective"]
    some = texts(seen).dropna().iloc[::211]
    with torch.inference_mode():
        features = towers.encode_texts(towers.tokenize(list(some))).double().numpy()
    wanted = features * math.exp(learned["text_scale"]) / math.sqrt(features.shape[1])
    found = pd.DataFrame(seen.vectors("hype_text"), seen.rows.index).loc[some.index].to_numpy()
    assert len(some) > 5
    assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()


def zscore(values: pd.Series) -> pd.Series:
    """Of those that are there, by the deviation of the population."""
    x = values.astype(np.float64)
    return (x - x.mean()) / x.std(ddof=0)


def score(seen: Chosen, meru: str, hype_reference: str, targets: str, k: int) -> pd.Series:
    """5.2: specificities, minus the distance, CLIP's cosine and the cluster bit, each standardised over the pool."""
    embedded_again(seen, meru)
    c, known = curvature(meru), np.load(hype_reference)
    image, text = seen.vectors("hype_image"), seen.vectors("hype_text")
    own = np.array([sides(x[None], y[None], c)[2][0, 0] for x, y in zip(image, text, strict=True)])
    found = {
        "hype_eps_i": xi(known["text"].astype(np.float64), image, c).mean(axis=0),
        "hype_eps_t": xi(text, known["image"].astype(np.float64), c).mean(axis=1),
        "hype_neg_d": -own / math.sqrt(c),
    }
    parts = [settled(seen, name, pd.Series(v, seen.rows.index)) for name, v in found.items()]
    parts += [cosine(seen, "l14_image", "l14_text"), like_targets(seen, targets, k).astype(float)]
    whole = sum((zscore(p) for p in parts), pd.Series(0.0, seen.rows.index))
    return settled(seen, "hype_score", whole)


def hype(seen: Chosen, meru: str, hype_reference: str, targets: str, k: int) -> pd.Series:
    """5.2: a fifth of the pool."""
    return top_exactly(score(seen, meru, hype_reference, targets, k), 0.2)


def sampler(seen: Chosen, meru: str, hype_reference: str, targets: str, k: int) -> pd.Series:
    """As many copies as a fifth of the pool, drawn with replacement by exp(score): everyone's next draw comes after an
    exponential time of his own."""
    z = score(seen, meru, hype_reference, targets, k).dropna().astype(np.float64)

    def wait(uid: str, lap: int) -> float:
        return -math.log1p(-uniform(0, f"soft_cap:{lap}", uid)) / math.exp(z[uid])

    coming = [(wait(uid, 0), uid, 0) for uid in z.index]
    heapq.heapify(coming)
    copies = pd.Series(0, seen.rows.index)
    for _ in range(int(len(seen.rows) * 0.2)):
        time, uid, lap = coming[0]
        copies[uid] += 1
        heapq.heapreplace(coming, (time + wait(uid, lap + 1), uid, lap + 1))
    return copies
