"""Plain facts of the stored pixels: how bright, how sharp, how varied, and whether there is anything to see.

    ImageFacts().run(batch)      # mean, sharpness, entropy (float32), blank (bool), error

All four are taken on one small view: gray (ITU-R 601 luma), squashed to 256 x 256 by averaging areas. So the cost is
one decode whatever the stored size, and pictures of different sizes compare; detail finer than the view does not
count, and a picture below 256 px is enlarged by repeating pixels, which lowers its sharpness as it should.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from stages.base import IMAGE, Batch, Column, Stage

SIDE = 256
BLANK_BELOW = 5.0
"""Standard deviation in gray levels. One colour, also as a noisy JPEG, stays below 1, a "not available" placeholder
with one small line of text below 2; a thin black line across a white picture is at 16."""


class Facts(NamedTuple):
    """Facts of one gray picture, in the order of `ImageFacts.writes()`; numbers rounded to 1e-4."""

    mean: float
    sharpness: float
    entropy: float
    blank: bool


class ImageFacts(Stage):
    """Facts of every stored picture; one that does not decode has nulls and the reason in `error`.

    mean: gray level, 0 (black) to 255. sharpness: variance of the Laplacian, gray levels squared; photos lie in the
    hundreds and thousands, the same ones blurred by two pixels (of 224) at 20 to 50. entropy: bits of the gray
    histogram, 0 (one level) to 8. blank: the standard deviation of gray is below 5.
    """

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return pa.schema(
            [
                ("mean", pa.float32()),
                ("sharpness", pa.float32()),
                ("entropy", pa.float32()),
                ("blank", pa.bool_()),
                ("error", pa.string()),
            ]
        )

    def run(self, batch: Batch) -> pa.Table:
        undecoded = (None,) * len(Facts._fields)
        rows = [undecoded if gray is None else of_gray(gray) for gray in batch.images(side=SIDE, mode="L")]
        columns = [[row[i] for row in rows] for i in range(len(undecoded))]
        return pa.table([*columns, batch.image_errors()], schema=self.writes())


def of_gray(gray: np.ndarray) -> Facts:
    """Facts of a gray picture, uint8 (height, width), both at least 3.

    All sums are of integers and so exact: no machine and no batch size can change the last digit.
    """
    counts = np.bincount(gray.reshape(-1), minlength=256)
    levels = np.arange(256)
    total, total_of_squares = int(counts @ levels), int(counts @ levels**2)
    return Facts(
        mean=round(total / gray.size, 4),
        sharpness=round(_variance_of_laplacian(gray), 4),
        entropy=round(_entropy(counts), 4),
        blank=math.sqrt(_variance(gray.size, total, total_of_squares)) < BLANK_BELOW,
    )


def _variance(n: int, total: int, total_of_squares: int) -> float:
    """Population variance of integers from their sum and sum of squares."""
    return (n * total_of_squares - total * total) / (n * n)


def _variance_of_laplacian(gray: np.ndarray) -> float:
    """Of the four-neighbour kernel (0 1 0, 1 -4 1, 0 1 0), at the pixels that have all four."""
    values = gray.astype(np.int32)  # squares reach 1020^2
    inner = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * values[1:-1, 1:-1]
    flat = inner.reshape(-1)
    return _variance(flat.size, int(flat.sum(dtype=np.int64)), int(np.square(flat).sum(dtype=np.int64)))


def _entropy(counts: np.ndarray) -> float:
    """-sum p log2 p, in bits."""
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, -float(sum(p * math.log2(p) for p in shares.tolist())))
