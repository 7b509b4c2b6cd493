"""MERU: CLIP in hyperbolic space, where texts, which say less than pictures, lie nearer to the origin."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from training_smoke.hyperbolic import MIN_RADIUS, beyond_cone, distances, expm0
from training_smoke.objectives.gather import Shards
from training_smoke.objectives.pairs import clamp_scale, false_negatives, paired, wide

ENTAILMENT = 0.2
CURVATURES = 10.0  # a learned curvature stays within this factor of its first value


def meru_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    log_curvature: Tensor,
    image_scale: Tensor,
    text_scale: Tensor,
    *,
    entailment: float = ENTAILMENT,
    groups: Tensor | None = None,
    world: dist.ProcessGroup | None = None,
) -> Tensor:
    """Symmetric InfoNCE over minus the Lorentz distance, and a text's cone is to hold its image.

        x_i = expm0(a images_i),    y_j = expm0(b texts_j),    a = exp(image_scale) / sqrt(dim), b likewise
        loss = 1/2 [ mean_i CE(-s d(x_i, y_:), i) + mean_j CE(-s d(x_:, y_j), j) ]
               + entailment * mean_i max(0, exterior_angle(y_i, x_i) - aperture(y_i)),    s = exp(logit_scale)

    Desai et al. 2023 (arXiv:2304.09172), sections 3.1 to 3.3. The geometry is `training_smoke.hyperbolic`'s.

    Args:
        image_features: [batch, dim], of any length; any float type, the loss is computed in at least fp32
        text_features: [batch, dim], likewise; row i belongs to row i of image_features
        logit_scale: scalar, ln s: the parameter itself
        log_curvature: scalar, ln c, where the space's curvature is -c
        image_scale, text_scale: scalars: ln(a sqrt(dim)) and ln(b sqrt(dim)). Features whose entries are about 1 are at
            first vectors of length about 1
        entailment: weight of the second part
        groups: int64 [batch]; pairs of two different samples of one group are left out of both softmaxes
        world: the processes over which the global batch lies, equally many rows on each; None: all of it is here

    Returns:
        Scalar. Its mean over the ranks of `world` is the loss of the global batch, and so with gradients.

    Raises:
        ValueError: shapes that are not of the same pairs

    >>> images, texts = torch.tensor([[3.0, 4.0], [6.0, 0.0]]), torch.tensor([[2.0, 1.0], [0.0, 2.0]])
    >>> zero = torch.tensor(0.0)
    >>> round(meru_loss(images, texts, torch.tensor(1 / 0.07).log(), zero, zero, zero).item(), 4)
    12.9841
    """
    images, texts = paired(image_features, text_features, groups)
    shards = Shards(world)
    with torch.autocast(images.device.type, enabled=False):
        curvature = shards.replicated(wide(log_curvature)).exp()
        image_points = lifted(images, shards.replicated(wide(image_scale)), curvature)
        text_points = lifted(texts, shards.replicated(wide(text_scale)), curvature)
        scale = shards.replicated(wide(logit_scale)).exp()
        return points_loss(
            image_points, text_points, scale, curvature, entailment=entailment, groups=groups, world=world
        )


def points_loss(
    image_points: Tensor,
    text_points: Tensor,
    scale: Tensor,
    curvature: Tensor,
    *,
    entailment: float = ENTAILMENT,
    groups: Tensor | None = None,
    world: dist.ProcessGroup | None = None,
) -> Tensor:
    """`meru_loss` of what is in the space already.

    Args:
        image_points, text_points: space components, float [batch, dim], row i of one belonging to row i of the other
        scale, curvature: scalars: s and c themselves
    """
    shards = Shards(world)
    image_to_text = -scale * distances(image_points, shards.gather(text_points), curvature)  # [batch, global batch]
    # One process has all pairs in the first matrix; one of several has its own rows of two.
    text_to_image = (
        image_to_text.T if world is None else -scale * distances(text_points, shards.gather(image_points), curvature)
    )
    positives = shards.row_numbers(image_points)  # [batch]
    if groups is not None:
        left_out = false_negatives(groups, shards.gather(groups), positives)
        image_to_text = image_to_text.masked_fill(left_out, -torch.inf)
        text_to_image = text_to_image.masked_fill(left_out, -torch.inf)
    contrastive = (F.cross_entropy(image_to_text, positives) + F.cross_entropy(text_to_image, positives)) / 2
    outside = beyond_cone(text_points, image_points, curvature, MIN_RADIUS)  # [batch]
    return contrastive + entailment * outside.clamp(min=0).mean()


def lifted(features: Tensor, scale: Tensor, curvature: Tensor) -> Tensor:
    """Features as points: expm0(exp(scale) / sqrt(dim) * features), float [..., dim], space components."""
    return expm0(features * (scale.exp() / math.sqrt(features.shape[-1])), curvature)


class MERU(nn.Module):
    """`meru_loss` with its learned scales and curvature. Features are not of unit length: `TwoTowers.unit` is False.

    Call `after_step` after every step of the optimizer. Bounds are those of the paper, section 3.3: a curvature within
    a factor of ten of its first value, and no factor a or b above 1.
    """

    def __init__(
        self, init_scale: float = 1 / 0.07, init_curvature: float = 1.0, entailment: float = ENTAILMENT
    ) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(init_scale)))
        self.log_curvature = nn.Parameter(torch.tensor(math.log(init_curvature)))
        self.image_scale, self.text_scale = (nn.Parameter(torch.tensor(0.0)) for _ in range(2))
        self.entailment = entailment
        self._middle = math.log(init_curvature)
        self._dim: int | None = None  # of the features last seen: says at which scale the factor is 1

    @property
    def curvature(self) -> Tensor:
        """c, a scalar: the space's curvature is -c."""
        return self.log_curvature.exp()

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        groups: Tensor | None = None,
        world: dist.ProcessGroup | None = None,
    ) -> Tensor:
        self._dim = image_features.shape[-1]
        return meru_loss(
            image_features,
            text_features,
            self.logit_scale,
            self.log_curvature,
            self.image_scale,
            self.text_scale,
            entailment=self.entailment,
            groups=groups,
            world=world,
        )

    def lift_images(self, features: Tensor) -> Tensor:
        """[..., dim] as the image tower gives them -> points, space components, [..., dim], in at least fp32."""
        return lifted(wide(features), self.image_scale, self.curvature)

    def lift_texts(self, features: Tensor) -> Tensor:
        """As `lift_images`, of what the text tower gives."""
        return lifted(wide(features), self.text_scale, self.curvature)

    @torch.no_grad()
    def after_step(self) -> None:
        clamp_scale(self.logit_scale)
        reach = math.log(CURVATURES)
        self.log_curvature.clamp_(self._middle - reach, self._middle + reach)
        if self._dim is not None:
            for scale in (self.image_scale, self.text_scale):
                scale.clamp_(max=math.log(self._dim) / 2)

    def told(self) -> dict[str, float]:
        """The learned scale and curvature, as factors."""
        return {"scale": self.logit_scale.exp().item(), "curvature": self.curvature.item()}
