"""Pictures as BLIP's fine-tuning shows them: a part of each, at times mirrored, so that few pairs last for longer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST = 0.5  # of a picture's area
FLAT = math.log(4 / 3)  # sides are to each other as 3 : 4 to 4 : 3
DRAWS = 5


def varied(images: Tensor, draws: Tensor) -> Tensor:
    """A part of each picture at the picture's own size, mirrored for half of them.

    torchvision's RandomResizedCrop(scale=(0.5, 1)) and RandomHorizontalFlip, as salesforce/BLIP's data/__init__.py has
    them; its RandAugment is left out. A part that does not fit is made to fit, where torchvision draws again.

    Args:
        images: uint8 [n, 3, side, side]. draws: float [n, 5] in [0, 1): area, form, place across and down, mirror.

    Returns:
        uint8 [n, 3, side, side], on the device of the pictures.
    """
    # Training calls this under autocast, and in bfloat16 affine_grid is most of a pixel off at the edges.
    with torch.autocast(images.device.type, enabled=False):
        grid = F.affine_grid(_parts(draws.to(images.device, torch.float32)), list(images.shape), align_corners=False)
        seen = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return seen.round().clamp(0, 255).to(torch.uint8)


def _parts(draws: Tensor) -> Tensor:
    """float32 [n, 2, 3]: where in its picture a place of the part lies."""
    area, form, across, down, mirror = draws.unbind(1)
    share = LEAST + (1 - LEAST) * area
    ratio = torch.exp(FLAT * (2 * form - 1))
    wide, high = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
    zero = torch.zeros_like(wide)
    # affine_grid's coordinates go from -1 to 1: a part so wide has its middle in [wide - 1, 1 - wide].
    return torch.stack(
        [
            torch.stack([torch.where(mirror < 0.5, -wide, wide), zero, (2 * across - 1) * (1 - wide)], 1),
            torch.stack([zero, high, (2 * down - 1) * (1 - high)], 1),
        ],
        1,
    )
