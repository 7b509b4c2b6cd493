"""WinoGAViL: which of five to twelve pictures go with a cue; scored by the overlap with what people chose.

    scores = [jaccard(similarities, associated) for ...]
    metrics(scores, candidates)               # {"jaccard_score_10-12": ...}, DataComp's main metric, and the others

Bitton et al. 2022, "WinoGAViL: Gamified Association Benchmark to Challenge Vision-and-Language Models"; prompt and
groups as in mlfoundations/datacomp, eval_utils/wino_eval.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from training_smoke.errors import TrainingError


def prompt(cue: str) -> str:
    """The cue as a caption, in lower case: "A bridge", "An owl"."""
    cue = cue.lower()
    return f"An {cue}" if cue[:1] in {"a", "e", "i", "o", "u"} else f"A {cue}"


def jaccard(similarities: np.ndarray, associated: np.ndarray) -> float:
    """|P & Y| / |P | Y| where Y are the m associated pictures and P the m most similar, ties to the lower index.

    Example: similarities [.9, .1, .8, .2, .3], associated [1, 0, 0, 0, 1]: P = {0, 2}, 1 / 3.

    Args:
        similarities: float [candidates], of the cue with each picture.
        associated: bool [candidates].

    Raises:
        TrainingError: nothing is associated, or similarities are not finite.
    """
    if not np.isfinite(similarities).all():
        raise TrainingError("similarities of a WinoGAViL instance are NaN or infinite")
    m = int(associated.sum())
    if not m:
        raise TrainingError("a WinoGAViL instance without associations has no score")
    hits = int(associated[np.argsort(-similarities, kind="stable")[:m]].sum())
    return hits / (2 * m - hits)


def metrics(scores: ArrayLike, candidates: ArrayLike) -> dict[str, float]:
    """Mean Jaccard index over all instances and by number of candidates, under DataComp's names.

    Args:
        scores: float [n], of each instance. candidates: int [n], how many pictures it has.
    """
    score, size = np.asarray(scores, np.float64), np.asarray(candidates)
    chosen = {"avg_jaccard_score": size > 0} | {f"jaccard_score_{n}": size == n for n in (5, 6, 10, 12)}
    chosen |= {"jaccard_score_5-6": size <= 6, "jaccard_score_10-12": size >= 10}
    return {name: float(score[mask].mean()) for name, mask in chosen.items() if mask.any()}
