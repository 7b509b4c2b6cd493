"""The one rule of ties: of equal scores, the one with the lower index comes first.

    before = ranks(scores, targets)           # int64 [n]: 0 is best

`torch.topk` leaves the order of ties open, so a collapsed model, which gives every candidate the same score, could be
right by luck of the implementation. Here it is right on 1 / candidates of a balanced set, which is chance. The ties
are those of the scores as computed: equal features may differ in the last bit after a matrix product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training_smoke.errors import TrainingError

ROWS = 1024
"""Queries whose scores are held at a time."""


def ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """How many candidates come before the target: those with a higher score, and those as high with a lower index.

    Example: scores [[.2, .7, .7]] has ranks [2], [0] and [1] for the targets 0, 1 and 2.

    Args:
        scores: float [n, candidates].
        targets: int64 [n].

    Returns:
        int64 [n].

    Raises:
        TrainingError: a score is NaN or infinite. NaN compares as false: its rank would be 0, the best there is.
    """
    require_finite(scores)
    targets = targets.unsqueeze(1)  # [n, 1]
    own = scores.gather(1, targets)
    earlier = torch.arange(scores.shape[1], device=scores.device) < targets  # [n, candidates]
    return ((scores > own) | ((scores == own) & earlier)).sum(1)


def require_finite(values: Tensor) -> None:
    """
    Raises:
        TrainingError: a value is NaN or infinite.
    """
    if not torch.isfinite(values).all():
        raise TrainingError("features or scores have NaN or infinity: this model cannot be evaluated; see its loss")
