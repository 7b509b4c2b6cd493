"""Towers in hyperbolic space (MERU), so that all that compares vectors by inner products ranks by distance there.

    encoders, objective = on_hyperboloid(TowerEncoders(towers), objective)
    encoders.encode_images(images) @ encoders.encode_texts(texts).T           # 1 - cosh(sqrt(c) distance)

With a = sqrt(c) x_t - 1 and b = sqrt(c) y_t - 1, a picture is (sqrt(c) x, a, 1) and a text (sqrt(c) y, -1 - b, -b): the
inner product is c <x, y> + 1, <x, y> being Lorentz's. Without the 1 all products of points near the origin would lie at
-1, where float32 has no digits left to tell distances apart.
A class is the mean of its prompts' tangent vectors, lifted, as MERU's evaluation has it (Desai et al. 2023, 4.2).
Between two pictures this product says nothing; probes look at `flat`, the directions of tangent vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from training_smoke.evaluate.encoders import TowerEncoders
from training_smoke.hyperbolic import distances, expm0, logm0
from training_smoke.objectives.meru import MERU, points_loss
from training_smoke.objectives.pairs import paired


class HyperbolicEncoders:
    """Towers that were trained with MERU, in evaluation mode. unit: vectors are to be left as long as they are."""

    unit = False

    def __init__(self, flat: TowerEncoders, objective: MERU) -> None:
        self.flat = flat
        self._objective = objective.to(flat.device).requires_grad_(False)
        self._curvature = objective.curvature.item()

    @property
    def image_size(self) -> int:
        return self.flat.image_size

    def encode_images(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> float32 [n, dim + 2] on the device."""
        return _of_images(self._objective.lift_images(self.flat.encode_images(images)), self._curvature)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings -> float32 [n, dim + 2] on the device."""
        return _of_texts(self._objective.lift_texts(self.flat.encode_texts(texts)), self._curvature)

    def class_vectors(self, text_vectors: Tensor) -> Tensor:
        """Of each class the mean over its prompts, taken in the tangent space: [classes, templates, dim + 2] ->
        [classes, dim + 2]."""
        tangent = logm0(_points(text_vectors, self._curvature), self._curvature).mean(dim=1)
        return _of_texts(expm0(tangent, self._curvature), self._curvature)


class OnHyperboloid(MERU):
    """The objective, of vectors that `HyperbolicEncoders` give."""

    def __init__(self, learned: MERU) -> None:
        super().__init__(entailment=learned.entailment)
        self.load_state_dict(learned.state_dict())
        self.requires_grad_(False)

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        groups: Tensor | None = None,
        world: dist.ProcessGroup | None = None,
    ) -> Tensor:
        images, texts = (_points(v, self.curvature) for v in paired(image_features, text_features, groups))
        return points_loss(
            images,
            texts,
            self.logit_scale.exp(),
            self.curvature,
            entailment=self.entailment,
            groups=groups,
            world=world,
        )

    def logits(self, image_vectors: Tensor, class_vectors: Tensor) -> Tensor:
        """[n, dim + 2], [classes, dim + 2] -> [n, classes]: minus the distance, at the scale that was learned."""
        images, classes = (_points(vectors, self.curvature) for vectors in (image_vectors, class_vectors))
        return -self.logit_scale.exp() * distances(images, classes, self.curvature)


def on_hyperboloid(encoders: TowerEncoders, objective: MERU) -> tuple[HyperbolicEncoders, OnHyperboloid]:
    """What `evaluate` takes as model and as objective."""
    measured = OnHyperboloid(objective)  # in main memory, where vectors are measured
    return HyperbolicEncoders(encoders, objective), measured


def _of_images(points: Tensor, curvature: float) -> Tensor:
    """Space components [..., dim] -> [..., dim + 2]."""
    above = _above(points, curvature)
    return torch.cat([points * curvature**0.5, above, torch.ones_like(above)], dim=-1)


def _of_texts(points: Tensor, curvature: float) -> Tensor:
    above = _above(points, curvature)
    return torch.cat([points * curvature**0.5, -1 - above, -above], dim=-1)


def _above(points: Tensor, curvature: float) -> Tensor:
    """sqrt(c) times the time, less the 1 that it has at the origin, without losing digits to it: [..., 1]."""
    squares = curvature * points.square().sum(dim=-1, keepdim=True)
    return squares / (1 + (1 + squares).sqrt())


def _points(vectors: Tensor, curvature: Tensor | float) -> Tensor:
    return vectors[..., :-2] / curvature**0.5
