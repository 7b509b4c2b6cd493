"""How well scores tell good samples from bad ones.

auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))      # 0.875
"""

from __future__ import annotations

import math

import numpy as np


def auroc(score: np.ndarray, good: np.ndarray) -> float:
    """Chance that a good sample has a higher score than a bad one: Mann-Whitney's U over the pairs; ties count half.

    Args:
        score: (n,), no NaN. good: bool (n,).

    Returns:
        NaN where all are good, or none is.
    """
    order = np.argsort(score, kind="stable")
    _, first, count = np.unique(score[order], return_index=True, return_counts=True)
    rank = np.repeat(first + (count + 1) / 2, count)  # average ranks, from 1
    n = int(good.sum())
    pairs = n * (len(good) - n)
    return float((rank[good[order]].sum() - n * (n + 1) / 2) / pairs) if pairs else math.nan
