"""Mix sources by weight: so many samples of each, drawn from what it has.

    - mix: {by: list, shares: {cc12m: 2, datacomp: 1}, samples: 300_000, over: survivors}
    - mix: {by: lang, shares: {en: 0.9, other: 0.1}, over: survivors}      # the largest mix that repeats nothing

Weights are shares of `samples`, rounded to whole samples that add up to it (largest remainders; of equal ones the
first name). What a source lacks is never made up silently: by default the run stops and names each source that falls
short and by how much. Mixing sources by fixed weights is common practice (SigLIP 2 trains on 90 % English and 10 %
other texts: Tschannen et al. 2025, from memory and unverified); no single paper is followed.

Which samples of a source: those with the smallest draws of (seed, "mix", uid), so a smaller mix lies within a larger
one of the same shares. Exact and in bounded memory: `filters.races`. No weights are needed.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from filters.races import Laps, Race, Runners
from filters.shares import apportioned, evenly, filled, roots
from filters.weights import unit
from stages.numbers import Shares
from stages.shuffle import Arrays

Short = Literal["error", "repeat", "fill", "less"]


class Mix(Race):
    """Samples of each value of `by` in the given shares; others, and values without a share, get "not_in_mix".

    Args:
        by: plain name of a column: the list, a source, a language, a cluster.
        shares: ``{value: weight}``; only their ratios matter. Other values are dropped.
        samples: of the whole mix, copies included; left out: as many as there can be without repeating any.
        short: a source has fewer samples than its share. error: stop, and say by how many; repeat: write each as often
            as it takes, evenly (`copies` in the verdict); fill: the others make up for it by their weights; less: the
            mix is so much smaller.
        seed: of the draw.
        on_missing: what becomes of samples without a value: drop (reason "missing"), or error.

    Raises:
        ValueError: while it runs: a source falls short and `short` says error; or it has no samples at all, where there
            is no total or `short` says repeat.
    """

    by: str = Field(min_length=1)
    shares: Shares
    samples: int | None = Field(default=None, ge=1)
    short: Short = "error"

    @field_validator("shares")
    @classmethod
    def _weights(cls, shares: Shares) -> Shares:
        if any(weight < 0 for _, weight in shares) or not any(weight for _, weight in shares):
            raise ValueError("weights are not below 0, and one at least is above")
        return shares

    def reads(self) -> tuple[str, ...]:
        return (self.by,)

    def entrants(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        column = table.column(self.by)
        if not any(test(column.type) for test in _WORDS):
            raise ValueError(f"mix: column {self.by!r} is {column.type}; expected words, whole numbers or truth values")
        present = column.is_valid().to_numpy()
        names = pa.array([name for name, _ in self.shares])
        race = pc.index_in(column.cast(pa.string()), names).fill_null(-1).to_numpy().astype(np.int64)
        return race, np.zeros(len(race)), present, race >= 0

    def surveyed(self, runners: Runners) -> np.ndarray:
        return runners.race

    def crowded(self) -> str:
        return "more sources than any mix has"

    def bins(self, plan: Arrays) -> np.ndarray:
        return roots(plan)

    def plan(self, keys: np.ndarray, counts: np.ndarray, asked: int) -> pa.Table:
        """(there, places): what each source has, and what it gives, copies included."""
        there = dict(zip(keys.tolist(), counts.tolist(), strict=True))
        have = [there.get(i, 0) for i in range(len(self.shares))]
        return pa.table({"there": have, "places": self.quotas(have)}, schema=_PLAN)

    def quotas(self, have: list[int]) -> list[int]:
        """How many each source gives, in the order of `shares`, where it has so many.

        Raises:
            ValueError: see above.
        """
        weights = [Fraction(str(weight)) for _, weight in self.shares]  # 0.1 is a tenth, as it is written
        if self.samples is None:
            return self._all_there(weights, have)
        wanted = apportioned(self.samples, weights)
        short = [(name, n, w) for (name, _), n, w in zip(self.shares, have, wanted, strict=True) if n < w]
        if not short or self.short == "less":
            return [min(n, w) for n, w in zip(have, wanted, strict=True)]
        if self.short == "fill" and sum(n for n, w in zip(have, weights, strict=True) if w) >= self.samples:
            return filled(self.samples, weights, have)
        if self.short == "repeat" and all(n for _, n, _ in short):
            return wanted
        raise ValueError(self._told(short, sum(_largest(weights, have))))

    def _all_there(self, weights: list[Fraction], have: list[int]) -> list[int]:
        none = [name for (name, weight), n in zip(self.shares, have, strict=True) if weight and not n]
        if none:
            raise ValueError(
                f"mix by {self.by!r}: no samples with {', '.join(map(repr, none))}, so that there is no mix in these "
                "shares; is it written so in the column? A weight of 0 leaves it out"
            )
        return _largest(weights, have)

    def _told(self, short: list[tuple[str, int, int]], most: int) -> str:
        lacks = "; ".join(f"{name!r} has {n:,} of {w:,} ({w - n:,} short)" for name, n, w in short)
        ways = {
            "error": "`short: repeat` writes copies, `fill` takes more of the others, `less` makes it smaller",
            "repeat": "there is nothing to repeat of a source without samples",
            "fill": "all of them together have too few",
        }
        return f"mix by {self.by!r}: {lacks}; without copies these shares hold for {most:,} samples; {ways[self.short]}"

    def arrivals(self, runners: Runners, plan: Arrays) -> tuple[np.ndarray, Laps]:
        return evenly(runners, plan, unit(self.seed, "mix", runners.high, runners.low))


_WORDS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_dictionary,
)
_PLAN = pa.schema([("there", pa.int64()), ("places", pa.int64())])


def _largest(weights: list[Fraction], have: list[int]) -> list[int]:
    """The most samples in these shares that repeat none: what the scarcest source allows."""
    most = min(Fraction(n) / w for n, w in zip(have, weights, strict=True) if w)
    return [int(most * w) for w in weights]
