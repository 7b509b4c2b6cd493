"""What contrastive objectives share: features of the same pairs, and pairs that are no negatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MAX_LOGIT_SCALE = math.log(100)


def wide(values: Tensor) -> Tensor:
    """The same values in fp32 where they came in less: a scale of 100 magnifies bf16's errors to whole logits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def paired(image_features: Tensor, text_features: Tensor, groups: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both features, [batch, dim], in at least fp32.

    Raises ValueError when row i of one cannot belong to row i of the other, or to entry i of `groups`: several of
    these shapes would broadcast to a number.
    """
    if image_features.ndim != 2 or image_features.shape != text_features.shape or not len(image_features):
        raise ValueError(
            "image_features and text_features must both be [batch, dim], not "
            f"{list(image_features.shape)} and {list(text_features.shape)}"
        )
    if groups is not None and groups.shape != image_features.shape[:1]:
        raise ValueError(f"groups must be [{len(image_features)}], one for each pair, not {list(groups.shape)}")
    return wide(image_features), wide(text_features)


def false_negatives(groups: Tensor, all_groups: Tensor, row_numbers: Tensor) -> Tensor:
    """Pairs of two different samples of one duplicate group, which are neither positive nor negative.

    groups [batch] of this rank's rows, all_groups [global batch], row_numbers [batch]: bool [batch, global batch].
    """
    same_group = groups[:, None] == all_groups
    return same_group.scatter(1, row_numbers[:, None], False)


@torch.no_grad()
def clamp_scale(logit_scale: nn.Parameter) -> None:
    """Hold exp(logit_scale) in [1, 100]: the upper bound is of CLIP (section 2.5), the lower of open_clip."""
    logit_scale.clamp_(0, MAX_LOGIT_SCALE)
