"""Soft cap sampling in rounds, as published: the phases, and the draws of a batch from all samples at once.

A batch of different samples with chances softmax(z) are the `batch` smallest of exponential draws / exp(z), keyed by
(seed, "soft_cap:<round>", uid). Most samples are far from being drawn: a kernel passes over those whose draw is above
what the last batch took, and only the others get a logarithm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from filters.copies import CopiesByScore
from filters.weights import exponential
from stages.base import Inputs, Need, Output, Phase, PhaseFile, Shape, ShardColumns
from stages.elementary import log
from stages.shuffle import Layout, by_span, gather, halves, places, rows_of, stacked

ROW_BYTES = 100  # in the part that draws
MOST_ROWS = 1 << 28
DRAWS = 53 * math.log(2) + 5  # the longest and the shortest draw of `exponential` differ by less than exp(this)
TRIES = 8  # before everybody gets a logarithm
LOOSEST = 1e200


@dataclass(frozen=True)
class Rounds:
    """The phases of `owner` in mode rounds."""

    owner: CopiesByScore
    alpha: float
    batch: int

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        """Raises ValueError where the samples are too many for one part."""
        if shape.total > MOST_ROWS:
            raise ValueError(
                f"soft_cap: {shape.total:,} samples are more than mode rounds can hold; use `mode: sequential`"
            )
        layout = Layout(shape)
        number = {span: i for i, span in enumerate(layout.spans)}
        scores = tuple(PhaseFile("scores", span) for span in number)
        need = Need(memory_gb=2 + shape.total * ROW_BYTES // 2**30, deadline_s=86_400)
        return (
            layout.from_shards("scores"),
            Phase("rounds", ("all",), lambda _: scores, need=need),
            Phase("gather", layout.spans, lambda part: (PhaseFile("rounds", "all", number[part]),)),
            layout.to_shards("verdict", "gather"),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "scores":
                return self._scores(inputs)
            case "rounds":
                return self._rounds(inputs)
            case "gather":
                return gather(part, inputs)
            case "verdict":
                return self._verdict(inputs)
        raise ValueError(f"soft_cap has no phase {phase!r}")

    def _scores(self, inputs: Inputs) -> Output:
        """(score, high, low, place) of all that are asked; NaN for those that take no part."""
        found = []
        for shard, table in zip(inputs.keys, inputs, strict=True):
            assert isinstance(shard, ShardColumns)
            runners = self.owner.runners(table)
            score = np.full(table.num_rows, np.nan)
            score[runners.row] = runners.score
            high, low = halves(table.column("uid"))
            rows = {"score": score, "high": high, "low": low, "place": places(shard.shard, table.num_rows)}
            found.append(pa.table({name: a[runners.asked] for name, a in rows.items()}))
        return Output(pa.concat_tables(found))

    def _rounds(self, inputs: Inputs) -> Output:
        """(place, copies) of what is drawn, a table a span."""
        rows = stacked(inputs)
        wanted = self.owner.wanted(len(rows["score"]))
        order = np.lexsort((rows["low"], rows["high"]))
        order = order[~np.isnan(rows["score"][order])]
        if wanted and not len(order):
            raise ValueError(f"soft_cap: {wanted:,} copies are asked for, and no sample has a weight")
        score, high, low = (rows[name][order] for name in ("score", "high", "low"))
        race = Batches(score, high, low, self.alpha, self.owner.seed)
        number = race.draw(wanted, self.batch)
        drawn = race.copies > 0
        found = {"place": rows["place"][order][drawn], "copies": race.copies[drawn]}
        stats = {"copies": wanted, "rounds": number, "most": int(race.copies.max(initial=0))}
        return Output(by_span(found, inputs, "scores"), stats)

    def _verdict(self, inputs: Inputs) -> Output:
        runners = self.owner.runners(inputs.select(ShardColumns).only())
        found = stacked(inputs.select(PhaseFile))
        copies = np.zeros(len(runners.asked), np.int64)
        copies[rows_of(found["place"])] = found["copies"]
        return self.owner.answer(runners, copies[runners.row])


class Batches:
    """Samples in the order of their uids, and how often each was drawn.

    Args:
        score: float64 (n,), log weights. high, low: uint64 (n,), halves of the uids. alpha: what a copy takes.
    """

    def __init__(self, score: np.ndarray, high: np.ndarray, low: np.ndarray, alpha: float, seed: int) -> None:
        self.score, self.seed = score, seed
        self.high, self.low = np.ascontiguousarray(high), np.ascontiguousarray(low)
        self.alpha = settled(alpha, float(np.ptp(score)) if len(score) else 0.0)
        self.copies = np.zeros(len(score), np.int32)
        self._top = score.max(initial=-np.inf)
        self._weight = np.exp(score - self._top)  # of a further copy
        self._bound = 0.0  # draws / weight that reach it have hardly a chance

    def draw(self, wanted: int, batch: int) -> int:
        """Draw batches until so many copies are drawn; returns the number of rounds."""
        left, number = wanted, 0
        while left:
            size = min(batch, len(self.score), left)
            if not self._bound:
                self._bound = 1.25 * size / float(self._weight.sum())
            chosen = self._batch(size, f"soft_cap:{number}")
            self.copies[chosen] += 1
            self._weight[chosen] = np.exp(self.score[chosen] - self._top - self.alpha * self.copies[chosen])
            left, number = left - size, number + 1
        return number

    def _batch(self, size: int, salt: str) -> np.ndarray:
        """The `size` samples with the smallest draws / weight; which those are does not depend on the bound."""
        at, wait = self._near(size, salt)
        time = log(wait) - self.score[at] + self.alpha * self.copies[at]
        first = np.argsort(time, kind="stable")[:size]  # of equal ones the smaller uid
        last = first[-1]
        with np.errstate(divide="ignore", over="ignore"):
            self._bound = min(LOOSEST, 1.25 * float(wait[last] / self._weight[at[last]]))
        return at[first]

    def _near(self, size: int, salt: str) -> tuple[np.ndarray, np.ndarray]:
        """Samples that include the first `size`, and their draws."""
        from filters.soft_cap_kernel import near

        for _ in range(TRIES):
            at = near(self.high, self.low, self.seed, salt, self._weight, self._bound)
            wait = exponential(self.seed, salt, self.high[at], self.low[at])
            sure = wait < self._weight[at] * self._bound * (1 - 1e-9)  # what rounding may turn around is not sure
            if np.count_nonzero(sure) >= size:
                return at[sure], wait[sure]
            if self._bound >= LOOSEST:
                break
            self._bound = min(4 * self._bound, LOOSEST)
        return np.arange(len(self.score)), exponential(self.seed, salt, self.high, self.low)


def settled(alpha: float, spread: float) -> float:
    """alpha, or for larger ones and infinity a number that does as much: no draw makes up for a copy less.

    Args:
        spread: between the largest and the smallest log weight.
    """
    return min(alpha, spread + DRAWS)
