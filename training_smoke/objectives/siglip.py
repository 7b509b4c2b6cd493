"""SigLIP: of each image and each text of the batch, whether they belong together."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training_smoke.objectives.gather import Shards
from training_smoke.objectives.pairs import clamp_scale, false_negatives, paired, wide


def siglip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    *,
    groups: Tensor | None = None,
    chunk: int | None = None,
    world: dist.ProcessGroup | None = None,
) -> Tensor:
    """Sigmoid loss over all pairs of the batch.

        loss = -1/N sum_ij log sigmoid(y_ij (t z_ij + b)),    z = image_features @ text_features.T,
                                                              t = exp(logit_scale),
                                                              y_ij = 1 where i = j, else -1

    Zhai et al. 2023 (arXiv:2303.15343), section 3.2. The sum is divided by the batch N, not by the pairs N^2.

    Args:
        image_features: [batch, dim], rows of unit length; any float type, the loss is computed in at least fp32
        text_features: [batch, dim], likewise; row i belongs to row i of image_features
        logit_scale: scalar, ln t: the parameter itself
        logit_bias: scalar, b
        groups: int64 [batch]; pairs of two different samples of one group are left out of the sum
        chunk: so many images at a time, their logits [chunk, global batch] made anew in the backward pass: for
            batches whose logits do not fit in memory
        world: the processes over which the global batch lies, equally many rows on each; None: all of it is here

    Returns:
        Scalar. Its mean over the ranks of `world` is the loss of the global batch, and so with gradients.

    Raises:
        ValueError: shapes that are not of the same pairs; a chunk below 1

    >>> images = torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    >>> texts = F.normalize(torch.tensor([[0.8, 0.6], [1.0, 1.0], [-1.0, 1.0]]))
    >>> round(siglip_loss(images, texts, torch.tensor(10.0).log(), torch.tensor(-10.0)).item(), 4)
    2.5722
    """
    images, texts = paired(image_features, text_features, groups)
    shards = Shards(world)
    with torch.autocast(images.device.type, enabled=False):
        scale = shards.replicated(wide(logit_scale)).exp()
        bias = shards.replicated(wide(logit_bias))
        # Features are small beside logits, so they are gathered whole; it is the logits that may come in chunks.
        all_texts = shards.gather(texts)  # [global batch, dim]
        all_groups = None if groups is None else shards.gather(groups)  # [global batch]
        positives = shards.row_numbers(images)  # [batch]

        def log_likelihood(rows: slice) -> Tensor:
            logits = scale * images[rows] @ all_texts.T + bias  # [chunk, global batch]
            signs = torch.full_like(logits, -1).scatter(1, positives[rows, None], 1)
            of_pairs = F.logsigmoid(signs * logits)
            if groups is not None and all_groups is not None:
                of_pairs = of_pairs.masked_fill(false_negatives(groups[rows], all_groups, positives[rows]), 0)
            return of_pairs.sum()

        return -_summed(log_likelihood, len(images), chunk) / len(images)


def _summed(term: Callable[[slice], Tensor], rows: int, chunk: int | None) -> Tensor:
    """The sum of `term` over all rows; in chunks, nothing but its inputs is held for the backward pass."""
    if chunk is None:
        return term(slice(0, rows))
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 image, not {chunk}")
    parts = [slice(first, first + chunk) for first in range(0, rows, chunk)]
    terms = [checkpoint(term, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.stack(terms).sum()


class SigLIP(nn.Module):
    """`siglip_loss` with its learned scale and bias. Call `after_step` after every step of the optimizer.

    They start at ln 10 and -10, where almost all pairs are negatives to the model, as almost all are. From zeros,
    as transformers builds SiglipModel, the first steps do little but find that out (Zhai et al. 2023, section 3.2).
    """

    def __init__(self, init_scale: float = 10.0, init_bias: float = -10.0, chunk: int | None = None) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(init_scale)))
        self.logit_bias = nn.Parameter(torch.tensor(init_bias))
        self.chunk = chunk

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        groups: Tensor | None = None,
        world: dist.ProcessGroup | None = None,
    ) -> Tensor:
        return siglip_loss(
            image_features,
            text_features,
            self.logit_scale,
            self.logit_bias,
            groups=groups,
            chunk=self.chunk,
            world=world,
        )

    def after_step(self) -> None:
        # big_vision, the reference, lets the scale run free; open_clip clamps it for every objective. We clamp: at a
        # scale without bound one pair alone decides the gradient, and one bound for both keeps runs comparable.
        clamp_scale(self.logit_scale)

    def told(self) -> dict[str, float]:
        """The learned scale, as a factor, and bias."""
        return {"scale": self.logit_scale.exp().item(), "bias": self.logit_bias.item()}
