"""Find the cut points of a label model's operators on a small set of samples known to be clean or noisy.

    votes, score = search(probe, ("clip_score", "n_words", "phash_quality"), clean="clean")

EcoDatum (Xu et al. 2025, arXiv:2502.08211) searches cut points automatically, for the best quality of the label model
on a small set of clean and noisy samples; how it measures quality and how it searches is unverified. Here: quality is
the AUROC of the label model's probability, clean above noisy, and one operator after another is given the best pair of
quantiles of its column, round and round until none gets better. The labels choose the cut points only; the model itself
is fitted to the votes alone, as it is on a pool. Large values count for good; who calls negates a column where small
ones do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import pyarrow as pa

from stages.auroc import auroc
from stages.label_model import Vote, fitted, probability, together
from stages.numbers import numbers

ROUNDS = 5


def search(
    probe: pa.Table, columns: Sequence[str], clean: str, keep_share: float = 0.5, steps: int = 8
) -> tuple[tuple[Vote, ...], float]:
    """(votes, AUROC on the probe): for each column the cut points that make the label model tell clean from noisy best.

    Args:
        probe: a row a sample: `columns`, numbers; and `clean`, truth values or 0 and 1.
        columns: at least three.
        keep_share: as in `LabelModel`.
        steps: cut points are among so many quantiles of a column.

    Raises:
        ValueError: fewer than three columns; a sample without a label; no clean or no noisy ones; a column without
            values.
    """
    if len(columns) < 3:
        raise ValueError(f"search: a label model needs at least three operators, not {len(columns)}")
    labels = _labels(probe, clean)
    choices = [_choices(probe, name, steps) for name in columns]
    cast = [[vote.cast(probe) for vote in votes] for votes in choices]
    chosen = [len(votes) // 2 for votes in choices]

    def quality(chosen: list[int]) -> float:
        votes = np.stack([cast[i][c] for i, c in enumerate(chosen)], axis=1)
        counts = together(votes)
        chances = fitted(counts[:-1].reshape(2 * len(chosen), -1), int(counts[-1]), keep_share)
        return auroc(np.round(probability(votes, chances, keep_share), 4), labels)

    best = quality(chosen)
    for _ in range(ROUNDS):
        before = best
        for i, votes in enumerate(choices):
            for c in range(len(votes)):
                other = [*chosen[:i], c, *chosen[i + 1 :]]
                found = quality(other)
                if found > best:
                    chosen, best = other, found
        if best == before:
            break
    return tuple(votes[c] for votes, c in zip(choices, chosen, strict=True)), round(best, 4)


def _labels(probe: pa.Table, clean: str) -> np.ndarray:
    """bool (rows,): which samples are clean."""
    labels, known = numbers(probe.column(clean), clean)
    if not known.all() or set(np.unique(labels)) != {0.0, 1.0}:
        raise ValueError(f"search: {clean} must say of every sample whether it is clean, and some of both are needed")
    return labels > 0


def _choices(probe: pa.Table, name: str, steps: int) -> list[Vote]:
    """Votes of a column with every pair of its quantiles."""
    values, present = numbers(probe.column(name), name)
    if not present.any():
        raise ValueError(f"search: {name} has no values")
    cuts = np.unique(np.quantile(values[present], np.linspace(0, 1, steps + 2)[1:-1]))
    pairs = combinations_with_replacement(cuts.tolist(), 2)
    return [Vote(column=name, drop_below=low, keep_above=high) for low, high in pairs]
