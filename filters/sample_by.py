"""Draw so many samples without replacement, each with a chance by its score: Gumbel-top-k.

    SampleBy(over="pool", column="dsir", fraction=0.2)                                # by exp(log weight): DSIR
    SampleBy(over="survivors", column="hype", samples=12_800, temperature=0.5)
    SampleBy(over="survivors", column="likeness", samples=500, scale="linear")        # by the weight itself

Follows DSIR (Xie et al. 2023, arXiv:2302.03169), where samples are drawn by their importance weights with Gumbel-top-k:
log weight plus Gumbel noise, and the largest stay. That is the same as drawing one after another, each time among
those that are left with a chance in proportion to the weight (Yellott 1977; Kool et al. 2019), and needs no sum over
the pool. The HYPE sampler (Kim et al. 2024; from memory of the paper: unverified) draws so by its score, in some
readings with repetition: that is `hard_cap` with a high limit.

Every sample's noise is of (seed, "sample_by", uid): neither shards nor other samples change it, and of one seed a
smaller draw lies within a larger one. Exact in bounded memory: `filters.ranked`. No weights are needed.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from filters.base import OnMissing
from filters.ranked import Ranked
from filters.weights import Scale, exponential, log_weights
from stages.base import Inputs, Output, ShardColumns
from stages.elementary import log
from stages.numbers import number_of, order_of
from stages.shuffle import halves


class SampleBy(Ranked):
    """Draw by score, without replacement; others get "not_in_sample_by". What has no weight (0) is never drawn.

    Args:
        column: plain name of a column of numbers.
        samples: how many; all, where there are fewer. Expected is this or fraction.
        fraction: instead of samples: which share, above 0, at most 1; int(fraction * n) of the n asked.
        temperature: the chance goes by exp(score / temperature): small ones choose the best, large ones anyone.
        scale: log: the column is a log weight, or any score; linear: it is the weight, and is not below 0.
        seed: of the noise.
        on_missing: what becomes of samples without a score: drop (reason "missing"), keep, or error.

    Raises:
        ValueError: while it runs: an infinite score, or a weight below 0.
    """

    column: str = Field(min_length=1)
    samples: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    scale: Scale = "log"
    seed: int = 0
    on_missing: OnMissing = "error"

    @model_validator(mode="after")
    def _one_of_them(self) -> SampleBy:
        if (self.samples is None) == (self.fraction is None):
            raise ValueError("expected either samples or fraction")
        return self

    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def missing(self) -> OnMissing:
        return self.on_missing

    def last(self, asked: int) -> int:
        wanted = int(asked * self.fraction) if self.fraction is not None else self.samples
        assert wanted is not None  # the validator saw to it
        return min(wanted, asked) - 1

    def order(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, str]:
        """(order, present, kind): uint64 (rows,), of log(exponential draw / weight), smallest first."""
        weight, present = log_weights(table, self.column, self.scale, self.temperature)
        draws = exponential(self.seed, "sample_by", *halves(table.column("uid")))
        return order_of(log(draws) - weight), present, "float"

    def value(self, order: int, kind: str) -> float:
        """Score / temperature plus Gumbel noise."""
        return -number_of(order)

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        output = super().run(phase, part, inputs)
        return self._drawn(output, inputs) if phase == "verdict" else output

    def _drawn(self, output: Output, inputs: Inputs) -> Output:
        """The verdict without those of weight 0, which come last in the order and may have been reached."""
        verdict = output.tables
        assert isinstance(verdict, pa.Table)
        weight, _ = log_weights(inputs.select(ShardColumns).only(), self.column, self.scale)
        weightless = pa.array(np.isneginf(weight))
        keep = pc.if_else(weightless, pc.and_(verdict["keep"], False), verdict["keep"])
        lost = pc.and_(weightless, pc.is_valid(keep))
        reason = pc.if_else(lost, pc.coalesce(verdict["reason"], pa.scalar(self.beyond())), verdict["reason"])
        kept = pc.sum(keep).as_py() or 0
        return Output(pa.table([keep, reason], schema=verdict.schema), {"kept": kept})
