"""Vectors of a picture and its text by a hyperbolic CLIP, before they are lifted into its space.

    stage = HyperbolicEmbedding(weights="filters/meru/filter.pt")            # of `curate train-filter --objective meru`

    columns:                                                                 # in a recipe; `hype` asks for them itself
      - hyperbolic_embedding: {weights: filters/meru/filter.pt}

MERU (Desai et al. 2023, arXiv:2304.09172): towers as CLIP's, whose vectors, times a factor that is learned for each
tower, are tangent vectors at the origin of hyperbolic space. Their lengths count: what says little is short. Directions
alone are `clip_embedding`'s of the same file. What is done with them: `training_smoke.hyperbolic`, `stages.hype`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, field_validator

from stages.clip import ClipEmbedding
from stages.hyperbolic_weights import space


class HyperbolicEmbedding(ClipEmbedding):
    """Tangent vectors, fp16: `hype_image` of the stored picture, `hype_text` of the text.

    Null where there is no text, or no picture that decodes. Parameters are `clip_embedding`'s, but `weights` is a file
    of towers trained with MERU, which says its model itself.

    Raises:
        ValueError: the file is not there, or is of other towers.
    """

    model: None = None
    name: str = Field(default="hype", pattern="^[a-z][a-z0-9_]{0,31}$")

    @field_validator("model", mode="before")
    @classmethod
    def _by_the_file(cls, value: Any) -> None:
        if value is not None:
            raise ValueError("leave it out: the file of weights says what it is of")

    def files(self) -> tuple[str, ...]:
        space(self.weights)
        return super().files()

    def image_vectors(self, squares: np.ndarray) -> np.ndarray:
        return self.clip().image_vectors(squares, self.batch, unit=False) * space(self.weights).image

    def text_vectors(self, tokens: np.ndarray) -> np.ndarray:
        return self.clip().text_vectors(tokens, self.batch, unit=False) * space(self.weights).text
