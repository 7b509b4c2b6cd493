"""Keep so many samples, drawn by their uids: the control that tells what a filter chose from how much it left.

    RandomSubset(over="pool", samples=12_800)
    RandomSubset(over="survivors", fraction=0.1, seed=7)

Every sample has its draw, hash64(seed, "random_subset", uid) as in `stages.draws`; the smallest draws stay. So a
smaller subset of the same seed lies within a larger one, and neither the order of shards nor other samples change a
draw. DataComp's random subsets are the baseline of this name (Gadre et al. 2023, arXiv:2304.14108, table 3).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from filters.ranked import Ranked
from stages.draws import hash64


class RandomSubset(Ranked):
    """A random `fraction`, or so many `samples` (all, where there are fewer); others get "not_in_random_subset".

    Args:
        samples: how many, or
        fraction: which share, above 0, at most 1; int(fraction * n) are kept.
        seed: of the draw.
    """

    samples: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)
    seed: int = 0

    @model_validator(mode="after")
    def _one_of_them(self) -> RandomSubset:
        if (self.samples is None) == (self.fraction is None):
            raise ValueError("expected either samples or fraction")
        return self

    def reads(self) -> tuple[str, ...]:
        return ()

    def order(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, str]:
        return hash64(self.seed, "random_subset", table.column("uid")), np.ones(table.num_rows, bool), "uint"

    def value(self, order: int, kind: str) -> int:
        return int(order)

    def last(self, asked: int) -> int:
        wanted = int(asked * self.fraction) if self.fraction is not None else self.samples
        assert wanted is not None  # the validator saw to it
        return min(wanted, asked) - 1
