"""Cosine of any two columns of vectors, row by row.

    Cosine(a=Column(b32, "b32_image"), b=Column(l14, "l14_image"), name="agreement")

    columns:                                    # in a recipe: the score of a picture whose text is painted over
      - cosine: {a: clip_masked_image, b: clip_text, name: masked_score}

CLIP score (Radford et al. 2021) where the two are a picture and its text by one model: `clip_score` says the same with
fewer words. Nothing here is unverified; no weights are needed beyond those of the columns.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import Batch, Column, Source, Stage
from stages.vectors import rounded, rows_of


class Cosine(Stage):
    """`<name>`: cosine of `a` and `b`, float32 in -1..1, rounded to 1e-4; null where either is null or zero.

    Args:
        a, b: columns of vectors of one length, fixed_size_list<float16 or float32>[dim].
        name: of the column.

    Raises:
        ValueError: a column has no vectors, or the two have different lengths.

    Example:
        Cosine(a="x", b="y").run(Batch.of(pa.table({"x": x, "y": y})))      # one column `cosine`
    """

    a: Source
    b: Source
    name: str = Field(default="cosine", pattern="^[a-z][a-z0-9_]{0,31}$")

    def reads(self) -> tuple[Column, ...]:
        return (self.a, self.b)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.float32())])

    def run(self, batch: Batch) -> pa.Table:
        (x, there), (y, also) = (rows_of(batch[c], f"cosine: {c.field}") for c in self.reads())
        both = there & also
        if not both.any():  # also where plain lists, all null, have no length
            return pa.table([rounded(np.zeros(len(both)), both)], schema=self.writes())
        if x.shape[1] != y.shape[1]:
            raise ValueError(
                f"cosine: {self.a.field} has {x.shape[1]} dimensions and {self.b.field} has {y.shape[1]}; "
                "take two columns of one model"
            )
        found = cosines(x.astype(np.float64), y.astype(np.float64))
        return pa.table([rounded(np.clip(found, -1, 1), both)], schema=self.writes())


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 (n,): row by row; NaN where a row is of zeros, which have no direction."""
    with np.errstate(invalid="ignore"):  # 0 / 0
        return np.asarray(np.einsum("nd,nd->n", x, y) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)))
