"""CLIP: which text belongs to which image, and which image to which text, out of the batch."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from training_smoke.objectives.gather import Shards
from training_smoke.objectives.pairs import clamp_scale, false_negatives, paired, wide


def clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    groups: Tensor | None = None,
    world: dist.ProcessGroup | None = None,
) -> Tensor:
    """Symmetric InfoNCE over all pairs of the batch.

        loss = 1/2 [ mean_i CE(s z_i:, i) + mean_j CE(s z_:j, j) ],    z = image_features @ text_features.T,
                                                                       s = exp(logit_scale)

    Radford et al. 2021 (arXiv:2103.00020), figure 3; InfoNCE is of van den Oord et al. 2018 (arXiv:1807.03748), eq. 4.

    Args:
        image_features: [batch, dim], rows of unit length; any float type, the loss is computed in at least fp32
        text_features: [batch, dim], likewise; row i belongs to row i of image_features
        logit_scale: scalar, ln s: the parameter itself
        groups: int64 [batch]; pairs of two different samples of one group are left out of both softmaxes
        world: the processes over which the global batch lies, equally many rows on each; None: all of it is here

    Returns:
        Scalar. Its mean over the ranks of `world` is the loss of the global batch, and so with gradients.

    Raises:
        ValueError: shapes that are not of the same pairs

    >>> images = torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    >>> texts = F.normalize(torch.tensor([[0.8, 0.6], [1.0, 1.0], [-1.0, 1.0]]))
    >>> round(clip_loss(images, texts, torch.tensor(1 / 0.07).log()).item(), 4)
    1.2443
    """
    images, texts = paired(image_features, text_features, groups)
    shards = Shards(world)
    with torch.autocast(images.device.type, enabled=False):
        scale = shards.replicated(wide(logit_scale)).exp()
        image_to_text = scale * images @ shards.gather(texts).T  # [batch, global batch]
        # One process has all pairs in the first matrix; one of several has its own rows of two.
        text_to_image = image_to_text.T if world is None else scale * texts @ shards.gather(images).T
        positives = shards.row_numbers(images)  # [batch]
        if groups is not None:
            left_out = false_negatives(groups, shards.gather(groups), positives)
            image_to_text = image_to_text.masked_fill(left_out, -torch.inf)
            text_to_image = text_to_image.masked_fill(left_out, -torch.inf)
        return (F.cross_entropy(image_to_text, positives) + F.cross_entropy(text_to_image, positives)) / 2


class CLIP(nn.Module):
    """`clip_loss` with its learned scale. Call `after_step` after every step of the optimizer."""

    def __init__(self, init_scale: float = 1 / 0.07) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(init_scale)))

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        groups: Tensor | None = None,
        world: dist.ProcessGroup | None = None,
    ) -> Tensor:
        return clip_loss(image_features, text_features, self.logit_scale, groups=groups, world=world)

    def after_step(self) -> None:
        clamp_scale(self.logit_scale)

    def told(self) -> dict[str, float]:
        """The learned scale, as a factor."""
        return {"scale": self.logit_scale.exp().item()}
