"""Pictures for models of transformers whose processors give squares: bytes until they are on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.captioner_decode import filled


class Squares:
    """What a processor's pictures become: `cut` on any thread, `normalised` for a forward pass."""

    def __init__(self, image_processor: Any, device: torch.device, dtype: torch.dtype, batch: int) -> None:
        self.processor, self.device, self.dtype, self.batch = image_processor, device, dtype, batch
        scale = float(image_processor.rescale_factor) if image_processor.do_rescale else 1.0
        plain = not image_processor.do_normalize
        mean = torch.tensor([0.0] * 3 if plain else image_processor.image_mean) / scale
        std = torch.tensor([1.0] * 3 if plain else image_processor.image_std) / scale
        self.mean, self.std = (x.view(1, 3, 1, 1).to(device) for x in (mean, std))

    def cut(self, picture: np.ndarray) -> Tensor:
        """uint8 (height, width, 3) -> uint8 [3, size, size]."""
        from PIL import Image

        made = self.processor(
            images=Image.fromarray(picture), do_rescale=False, do_normalize=False, return_tensors="pt"
        )
        pixels: Tensor = made["pixel_values"][0]
        if pixels.dtype != torch.uint8:  # some resize in floats: 0..255 all the same
            pixels = pixels.round().clamp(0, 255).byte()
        return pixels

    def passes(self, cut: Sequence[Tensor]) -> list[Tensor]:
        """Normalised [batch, 3, size, size] each, the last one filled up."""
        stacks = [torch.stack(list(cut[i : i + self.batch])) for i in range(0, len(cut), self.batch)]
        return [((filled(s, self.batch).to(self.device) - self.mean) / self.std).to(self.dtype) for s in stacks]
