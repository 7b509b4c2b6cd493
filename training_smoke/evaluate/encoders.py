"""Models of ours as what `evaluate` takes: two towers as encoders, a family as what it is able to do.

evaluate(TowerEncoders(train(...)), "evalsets/wds_cifar10_test")
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training_smoke.families.base import Family
from training_smoke.models import Model
from training_smoke.towers import TwoTowers


class TowerEncoders:
    """A model in evaluation mode that takes pixels and strings.

    device: where it computes; None: where the towers lie. precision: "bf16" computes in mixed precision.
    """

    def __init__(self, towers: TwoTowers, device: str | torch.device | None = None, precision: str = "fp32") -> None:
        self.towers = (towers if device is None else towers.to(device)).eval()
        self.device = self.towers.mean.device
        self._low = precision == "bf16"

    @property
    def image_size(self) -> int:
        return self.towers.image_size

    def encode_images(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> unit vectors [n, dim] on the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._low):
            return self.towers.encode_images(images.to(self.device))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings -> unit vectors [n, dim] on the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._low):
            return self.towers.encode_texts(self.towers.tokenize(texts).to(self.device))


Able = TowerEncoders | Family
"""What `training_smoke.abilities` tells apart by its methods."""


def able(model: Model, device: str | torch.device | None = None, precision: str = "fp32") -> Able:
    """A model of ours, ready to be evaluated; device, precision: as of `TowerEncoders`."""
    if isinstance(model, TwoTowers):
        return TowerEncoders(model, device, precision)
    model = (model if device is None else model.to(device)).eval()
    model.low = precision == "bf16"
    return model
