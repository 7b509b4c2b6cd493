"""Captions alone: pictures are learned by writing what is said of them, token by token or all tokens at once.

    made = family("caption").build(Towers("tiny"), {}, seed=0)

CapPa of Tschannen et al. 2023 ("Image Captioners Are Scalable Vision Learners Too", arXiv:2306.07915).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from training_smoke.families.base import Losses, Moment
from training_smoke.families.captioner import Captioning


@dataclass(frozen=True)
class CaptionSettings:
    """parallel: the share of samples whose tokens are all predicted at once, from mask tokens that see each other: all
    that is said of them has to come from the picture. 0.75 is CapPa, 0 is Cap."""

    parallel: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.parallel <= 1:
            raise ValueError(f"parallel is a share, not {self.parallel}")


class CaptionOnly(Captioning):
    """Cap and CapPa.

    A picture's vector, where one is asked for, is the mean of its patches: there is none of texts in the same space, so
    this is for probes (`image_vectors`) and not for retrieval.
    """

    Settings = CaptionSettings
    separable = True
    scales: ClassVar = {**Captioning.scales, "tiny": {**Captioning.scales["tiny"], "settings": {"parallel": 0.5}}}

    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        return {"loss": self.said(self.memory(images), tokens, self.settings.parallel, moment)}

    def weight(self, tokens: Tensor) -> Tensor:
        """Tokens that are predicted."""
        return (self.labels(tokens) >= 0).sum()

    def image_vectors(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> float32 [n, width] in main memory: the mean of a picture's patches."""
        with self.inference():
            return self.memory(images).mean(dim=1).float().cpu()
