"""How specific a picture and its text are, and how far apart, in hyperbolic space: the parts of HYPE's score.

    columns:
      - hype: {weights: filters/meru/filter.pt, reference: reference.npz}
      - weighted_sum:                                    # the recipe `hype` adds CLIP's cosine and the cluster bit
          columns: {hype_eps_i: 1, hype_eps_t: 1, hype_neg_d: 1}
          standardise: zscore
          name: hype_score

HYPE (Kim et al. 2024, arXiv:2404.17507; hyperbolic.py of naver-ai/hype was read): with xi(x, y) = exterior angle of y
at x - half-aperture of x, above 0 where y lies outside of the cone behind x,

    eps_i = mean over reference texts t of xi(t, picture)         general texts do not entail a specific picture
    eps_t = mean over reference pictures v of xi(text, v)         a specific text does not entail pictures in general
    neg_d = -distance(picture, text)

and HYPE = eps_i + eps_t - d + cos + c, where cos is CLIP's cosine, as DataComp's metadata have it, and c is 1 where the
picture lies in a cluster that ImageNet's do. `cos` here is that of the same towers, for who has no other CLIP. Departs:
the reference code takes acosh of what may be below 1 by rounding, and has NaN there; here such a distance is 0.

Needed: towers trained with MERU (`curate train-filter --objective meru`), and vectors of reference pairs by them
(`curate hype-reference`). Unverified: that parts are standardised over the pool before they are added.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator

from stages.base import Batch, Column, Need
from stages.clip import OfClip
from stages.clip_model import threads
from stages.cosine import cosines
from stages.hype_reference import Reference
from stages.hyperbolic_embedding import HyperbolicEmbedding
from stages.hyperbolic_weights import space
from stages.vectors import rounded, rows_of

if TYPE_CHECKING:
    from torch import Tensor

PAIRS = 1 << 20  # of rows and references looked at at a time: 8 MB an intermediate
PARTS = ("eps_i", "eps_t", "neg_d", "cos")


class Hype(OfClip):
    """`hype_eps_i`, `hype_eps_t`, `hype_neg_d`, `hype_cos`: float32, rounded to 1e-4.

    Null where the picture (eps_i), the text (eps_t) or either (neg_d, cos) is missing; cos also where a vector is zero
    and has no direction. The vectors are those of
    `hyperbolic_embedding` with the same parameters, which is run where they are not there yet.

    Args:
        weights: a file of towers trained with MERU.
        reference: .npz of `curate hype-reference`, vectors of pairs by the same towers.

    Raises:
        ValueError: a file is not there, is something else, or the reference is of other towers.
    """

    reference: str
    model: None = None
    name: str = Field(default="hype", pattern="^[a-z][a-z0-9_]{0,31}$")
    _reference: Reference | None = PrivateAttr(default=None)

    @field_validator("reference")
    @classmethod
    def _where(cls, value: str) -> str:
        return str(Path(value).expanduser().absolute())

    def files(self) -> tuple[str, ...]:
        Reference.load(self.reference, space(self.weights))
        return (*super().files(), self.reference)

    def identity(self) -> dict[str, Any]:
        """Name and reference alone: all else is in the vectors that are read."""
        return {**super().identity(), "parameters": {"name": self.name, "reference": self.reference}}

    def embedding(self) -> HyperbolicEmbedding:
        """The stage that makes the vectors."""
        return HyperbolicEmbedding(**{field: getattr(self, field) for field in OfClip.model_fields})

    def reads(self) -> tuple[Column, ...]:
        return (Column(self.embedding(), self.image), Column(self.embedding(), self.text_name))

    def writes(self) -> pa.Schema:
        return pa.schema([(f"{self.name}_{part}", pa.float32()) for part in PARTS])

    def need(self) -> Need:
        """Memory: the reference in float64, lifted, and a block of pairs; see `PAIRS`."""
        file = Path(self.reference)
        size = file.stat().st_size * 1e-9 if file.is_file() else 0  # `files` tells
        return Need(1, 0, round(1.5 + 8 * size, 1))

    def open(self) -> None:
        self._reference = Reference.load(self.reference, space(self.weights))

    def run(self, batch: Batch) -> pa.Table:
        if self._reference is None:
            self.open()
        assert self._reference is not None
        (image, pictured), (text, said) = (rows_of(batch[c], f"hype: {c.field}") for c in self.reads())
        with threads(1):
            found = parts(image.astype(np.float64), text.astype(np.float64), self._reference)
        there = {"eps_i": pictured, "eps_t": said, "neg_d": pictured & said, "cos": pictured & said}
        return pa.table([rounded(found[part], there[part]) for part in PARTS], schema=self.writes())


def parts(image: np.ndarray, text: np.ndarray, reference: Reference) -> dict[str, np.ndarray]:
    """HYPE's parts of pairs, float64 (n,) each, by name; "cos" is NaN where a vector is zero.

    Args:
        image, text: tangent vectors at the origin, float64 (n, dim), row i of one belonging to row i of the other.
    """
    import torch

    from training_smoke.hyperbolic import beyond_cones, distance, expm0

    c = reference.space.curvature
    pictures, texts = (expm0(torch.from_numpy(x), c) for x in (image, text))
    general_pictures, general_texts = (
        expm0(torch.from_numpy(x.astype(np.float64)), c) for x in (reference.image, reference.text)
    )
    return {
        "eps_i": _mean(lambda some: beyond_cones(general_texts, some, c).mean(dim=0), pictures, len(general_texts)),
        "eps_t": _mean(lambda some: beyond_cones(some, general_pictures, c).mean(dim=1), texts, len(general_pictures)),
        "neg_d": -distance(pictures, texts, c).numpy(),
        "cos": np.clip(cosines(image, text), -1, 1),
    }


def _mean(of: Callable[[Tensor], Tensor], rows: Tensor, others: int) -> np.ndarray:
    """float64 (n,): so many rows at a time that their pairs with the others fit in memory."""
    import torch

    found: np.ndarray = torch.cat([of(some) for some in rows.split(max(1, PAIRS // others))]).numpy()
    return found
