"""CoCa: which text belongs to which image, and what text an image would be given, token by token."""

from __future__ import annotations

from typing import NamedTuple

import torch.distributed as dist
from torch import Tensor

from training_smoke.objectives.caption import caption_loss
from training_smoke.objectives.clip import clip_loss


class CoCaLoss(NamedTuple):
    """loss: what is minimised; contrastive, caption: its parts before they are weighted."""

    loss: Tensor
    contrastive: Tensor
    caption: Tensor


def coca_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    logits: Tensor,
    labels: Tensor,
    *,
    contrastive_weight: float = 1.0,
    caption_weight: float = 2.0,
    groups: Tensor | None = None,
    world: dist.ProcessGroup | None = None,
) -> CoCaLoss:
    """Symmetric InfoNCE over the batch, and cross-entropy of the next token.

        loss = contrastive_weight * clip_loss + caption_weight * caption_loss

    Yu et al. 2022 (arXiv:2205.01917), section 3.2; the weights are of its section 4.1 and of open_clip. The second term
    is a mean over all tokens of the global batch, so a long caption says more than a short one.

    Args:
        image_features: [batch, dim], rows of unit length; any float type, both terms are computed in at least fp32
        text_features: [batch, dim], likewise; row i belongs to row i of image_features
        logit_scale: scalar or [1], the logarithm of what cosines are multiplied with: the parameter itself
        logits: [..., vocabulary], of the token that stands in `labels`; only of places that have one, if one likes
        labels: int64 [...]; -100 where there is nothing to predict
        groups: int64 [batch]; pairs of two different samples of one group are left out of both softmaxes
        world: the processes over which the global batch lies, equally many rows on each; None: all of it is here

    Returns:
        Three scalars. Their means over the ranks of `world` are those of the global batch, and so with gradients.

    Raises:
        ValueError: shapes that are not of the same pairs, or labels that are not of these logits

    >>> import torch
    >>> images = torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    >>> texts = torch.nn.functional.normalize(torch.tensor([[0.8, 0.6], [1.0, 1.0], [-1.0, 1.0]]))
    >>> logits = torch.tensor([[2.0, 1, 0, -1, 0], [0, 3, 0, 0, 1], [1, 1, 1, 1, 1]]).expand(3, 3, 5)
    >>> labels = torch.tensor([0, 1, -100]).expand(3, 3)
    >>> round(coca_loss(images, texts, torch.tensor(1 / 0.07).log(), logits, labels).loss.item(), 4)
    2.0185
    """
    contrastive = clip_loss(image_features, text_features, logit_scale.squeeze(), groups=groups, world=world)
    caption = caption_loss(logits, labels, world=world)
    return CoCaLoss(contrastive_weight * contrastive + caption_weight * caption, contrastive, caption)
