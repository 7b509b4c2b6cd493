"""Oracles of recipes that look at vectors: negCLIPLoss and NormSim, clusters."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tests.recipes.oracle_parts import characters, english, of_text, settled, top_datacomp, top_exactly
from tests.recipes.world import Chosen


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def nearest(centroids: np.ndarray, x: np.ndarray) -> np.ndarray:
    """By L2."""
    found: np.ndarray = ((centroids**2).sum(axis=1) - 2 * x @ centroids.T).argmin(axis=1)
    return found


def are_means(centroids: np.ndarray, x: np.ndarray, *, spherical: bool) -> None:
    """k-means has done its work: centroids lie at the means of what is nearest to them, on the sphere if spherical.

    Measured against how far members lie from their mean: vectors that were drawn, and not moved, have about 1.
    """
    near = nearest(centroids, x)
    used, counts = np.unique(near, return_counts=True)
    assert len(used) > 0.8 * len(centroids)
    means = np.stack([x[near == j].mean(axis=0) for j in used])
    spread = ((x - means[np.searchsorted(used, near)]) ** 2).sum()
    off = ((centroids[used] - (unit(means) if spherical else means)) ** 2).sum(axis=1) @ counts
    assert off < 0.02 * spread, f"centroids lie {off / spread:.3f} of the spread off the means"


def log_sum(x: np.ndarray) -> np.ndarray:
    most = x.max(axis=1)
    return most + np.log(np.exp(x - most[:, None]).sum(axis=1))


def neg_clip_loss(seen: Chosen, tau: float) -> pd.Series:
    """5.3 over one batch, which is the whole pool where the pool is smaller than a batch."""
    image, text = seen.vectors("l14_image"), seen.vectors("l14_text")
    there = ~(np.isnan(image[:, 0]) | np.isnan(text[:, 0]))
    s = unit(image[there]) @ unit(text[there]).T
    found = np.full(len(there), np.nan)
    found[there] = np.diag(s) - tau / 2 * (log_sum(s / tau) + log_sum(s.T / tau))
    return settled(seen, "neg_clip_loss", pd.Series(found, seen.rows.index))


def norm_sim(seen: Chosen, targets: str) -> pd.Series:
    """5.3, p = infinity: the largest cosine to any target."""
    nearest = (unit(seen.vectors("l14_image")) @ unit(np.load(targets).astype(np.float64)).T).max(axis=1)
    return settled(seen, "norm_sim", pd.Series(nearest, seen.rows.index))


def neg_clip_loss_norm_sim(seen: Chosen, targets: str) -> pd.Series:
    """The best 30 % of the pool, and of those two thirds."""
    first = top_exactly(neg_clip_loss(seen, 0.01), 0.3)
    second = norm_sim(seen, targets)[first]
    return top_exactly(second, 2 / 3).reindex(first.index, fill_value=False)


# ---------------------------------------------------------------- DataComp's clusters


def like_targets(seen: Chosen, targets: str, k: int) -> pd.Series:
    """4.4: centroids by inner product, not normalised; those of the targets are the ones wanted."""
    table = seen.model("kmeans", "centroids", k=k, assign="dot")
    centroids = np.array(table.column("centroid").to_pylist(), np.float64)
    are_means(centroids, unit(seen.vectors("l14_image")), spherical=False)
    wanted = set((unit(np.load(targets).astype(np.float64)) @ centroids.T).argmax(axis=1))
    own = (unit(seen.vectors("l14_image")) @ centroids.T).argmax(axis=1)
    return pd.Series([c in wanted for c in own], seen.rows.index)


def fasttext_tokens(text: str) -> int:
    """Words at ASCII white space and NUL; each newline is one more."""
    return len(text.encode().replace(b"\0", b" ").split()) + text.count("\n")


def datacomp_image(seen: Chosen, targets: str, k: int) -> pd.Series:
    caption = english(seen) & (of_text(seen, fasttext_tokens, -1) > 1) & (characters(seen) > 5)
    return caption & like_targets(seen, targets, k)


def datacomp_1b(seen: Chosen, targets: str, k: int) -> pd.Series:
    """The bound of the score is that of the whole pool."""
    image, text = seen.vectors("l14_image"), seen.vectors("l14_text")
    score = pd.Series(np.round((unit(image) * unit(text)).sum(axis=1), 4).astype(np.float32), seen.rows.index)
    return datacomp_image(seen, targets, k) & top_datacomp(score, 0.3)
