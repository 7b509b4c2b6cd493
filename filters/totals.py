"""How many copies a filter writes in all: what `soft_cap`, `hard_cap` and `rebalance` say alike."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from filters.races import Race


class Total(Race):
    """A race for `total` places.

    Args:
        total: copies in all, exactly; expected is this or fraction.
        fraction: instead of total, int(fraction * n) of the n samples asked: 1 is as many copies as samples.
    """

    total: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.total is None) == (self.fraction is None):
            raise ValueError("expected either total or fraction")
        return self

    def wanted(self, asked: int) -> int:
        """Copies in all."""
        if self.total is not None:
            return self.total
        assert self.fraction is not None  # the validator saw to it
        return int(asked * self.fraction)
