"""Learn a linear mixer from samples that are called good or bad: logistic regression on standardised scores.

    samples = pq.read_table("labelled.parquet")              # scores and a column of labels, of `curate sql ... --out`
    learn(samples, ("clip_score", "dfn_score"), good="good").save("mixer.json")

In the place of M-FLYT's learning (Shoshan et al. 2025), which differentiates a downstream loss through a training step;
see `stages/linear_mixer.py`. Labels may come from people, or from faults that were planted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from stages.auroc import auroc
from stages.linear_mixer import Mixer, Part
from stages.numbers import numbers

STEPS = 100


def learn(samples: pa.Table, columns: Sequence[str], good: str, penalty: float = 1.0) -> Mixer:
    """Fit a mixer to samples that are called good or bad: logistic regression on the standardised scores.

    Minimises the sum of log(1 + exp(-+score)) plus penalty / 2 * |weights|^2 by Newton's method; no random choice.

    Args:
        samples: a row a sample, as `curate sql ... --format parquet` writes them: `columns`, numbers; and `good`, truth
            values or 0 and 1. Rows without one of them are left out, and counted in `learned`.
        penalty: above 0; the larger, the smaller the weights.

    Returns:
        The mixer; `learned` has the number of samples, of good ones, and the AUROC on those samples themselves.

    Raises:
        ValueError: a column is everywhere the same, or all samples are good, or bad.

    Example:
        learn(table, ("clip_score", "aesthetic"), good="not_swapped").save("mixer.json")
    """
    if penalty <= 0:
        raise ValueError(f"learn: penalty {penalty}; expected a number above 0")
    x, y = _labelled(samples, columns, good)
    mean, std = x.mean(axis=0), x.std(axis=0)
    for name, s in zip(columns, std, strict=True):
        if s == 0:
            raise ValueError(f"learn: {name} is the same for all samples, so nothing is to be learned from it")
    weights = _newton(np.column_stack([np.ones(len(x)), (x - mean) / std]), y, penalty)
    score = ((x - mean) / std) @ weights[1:]
    learned = {"samples": len(y), "left_out": samples.num_rows - len(y), "good": int(y.sum()), "penalty": penalty}
    learned["auroc"] = round(auroc(score, y > 0), 4)
    parts = {n: Part(*map(float, row)) for n, *row in zip(columns, mean, std, weights[1:], strict=True)}
    return Mixer(float(weights[0]), parts, learned)


def _labelled(samples: pa.Table, columns: Sequence[str], good: str) -> tuple[np.ndarray, np.ndarray]:
    """(scores, labels): float64 (n, columns) and (n,), 1 for good, of the rows that have all of them."""
    read = [numbers(samples.column(name), name) for name in (*columns, good)]
    whole = np.logical_and.reduce([present & np.isfinite(values) for values, present in read])
    *scores, labels = (values[whole] for values, _ in read)
    if not set(np.unique(labels)) <= {0.0, 1.0}:
        raise ValueError(f"learn: {good} has values other than 0 and 1, or true and false")
    if labels.all() or not labels.any():
        raise ValueError(
            f"learn: of {len(labels):,} samples with all scores {int(labels.sum()):,} are good; both kinds are needed"
        )
    return np.column_stack(scores), labels


def _newton(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """float64 (k,): coefficients of a logistic regression; the first column, of ones, goes without penalty."""
    ridge = np.full(x.shape[1], penalty)
    ridge[0] = 0.0

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, np.where(y > 0, -1, 1) * (x @ w)).sum() + (ridge * w * w).sum() / 2)

    w = np.zeros(x.shape[1])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -500, 500)))
        slope = x.T @ (p - y) + ridge * w
        if np.abs(slope).max() < 1e-8 * len(y):
            return w
        curve = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge + 1e-12)
        step, here = np.linalg.solve(curve, slope), loss(w)
        while loss(w - step) > here and np.abs(step).max() > 1e-12:
            step = step / 2
        w = w - step
    raise ValueError(f"learn: no minimum found in {STEPS} steps; raise `penalty`")
