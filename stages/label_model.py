"""Many weak votes made one probability that a sample is worth keeping: a label model over score columns.

    columns:
      - label_model:
          name: vote
          votes:
            - {column: clip_score, drop_below: 0.2, keep_above: 0.3}
            - {column: n_words, drop_below: 3, keep_above: 6, drop_above: 60}
            - {column: phash_quality, drop_below: 20}
    filters:
      - top_fraction: {column: vote, fraction: 0.4, over: pool}

Follows EcoDatum (Xu et al. 2025, arXiv:2502.08211): operators vote keep, abstain or drop by two cut points each, and a
label model in the manner of Snorkel combines them. Of the paper a summary was at hand; details are unverified. The
label model is Snorkel's (Ratner et al. 2019, "Training complex models with multi-task weak supervision"; its
LabelModel): votes are independent given whether the sample is good, and how often each operator votes keep or drop on
good and on bad samples is what explains best how often any two vote together. The objective is Snorkel's, from memory:

    sum over i != j of |O_ij - mu_i P mu_j^T|^2  +  sum over i of |O_ii - mu_i p|^2

with O the shares of samples that get two votes together, P = diag(p), p = (1 - keep_share, keep_share). It starts, as
Snorkel does, from operators that are right in 70 % of their votes, and is minimised by L-BFGS instead of some hundred
steps of gradient descent. Abstaining says nothing, as in Snorkel.

Counts of votes are integers, so no order and no cut of shards changes the model; the answer is rounded to 1e-4. The
paper's search for cut points on a small set of clean and noisy samples: `stages.label_search`. No weights are needed.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.base import (
    Barrier,
    Column,
    Inputs,
    Output,
    Phase,
    PhaseFile,
    Shape,
    ShardColumns,
    Source,
    per_shard,
    tree,
)
from stages.numbers import as_stored, numbers
from stages.shuffle import Layout

DROP, KEEP = 0, 1
RIGHT = 0.7  # share of an operator's votes that are right, where the search begins


Cut = Annotated[float, Field(allow_inf_nan=False)] | None


class Vote(BaseModel):
    """An operator: a column and the numbers beyond which it votes; between them it abstains, and without a value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: Source = Field(description="of numbers, or of truth values (0 and 1)")
    drop_below: Cut = Field(default=None, description="votes drop where the value is less")
    keep_above: Cut = Field(default=None, description="votes keep where it is at least this, and within keep_below")
    drop_above: Cut = Field(default=None, description="votes drop where the value is more")
    keep_below: Cut = Field(default=None, description="votes keep where it is at most this, and within keep_above")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.drop_below is None and self.keep_above is None and self.drop_above is None and self.keep_below is None:
            raise ValueError("expected at least one of drop_below, keep_above, drop_above, keep_below")
        low = [n for n in (self.drop_below, self.keep_above) if n is not None]
        high = [n for n in (self.keep_below, self.drop_above) if n is not None]
        if sorted(low) != low or sorted(high) != high or (low and high and low[-1] > high[0]):
            raise ValueError(
                "expected drop_below <= keep_above <= keep_below <= drop_above: a value would be voted for twice"
            )
        return self

    def cast(self, table: pa.Table) -> np.ndarray:
        """int8 (rows,): 1 keep, -1 drop, 0 abstain.

        Raises:
            ValueError: the column has no numbers.
        """
        column = table.column(self.column.field)
        values, present = numbers(column, self.column.field)
        low, high, least, most = (
            as_stored(cut, column.type) for cut in (self.drop_below, self.drop_above, self.keep_above, self.keep_below)
        )
        drop = np.zeros(len(values), bool)
        keep = np.full(len(values), least is not None or most is not None)
        if low is not None:
            drop |= values < low
        if high is not None:
            drop |= values > high
        if least is not None:
            keep &= values >= least
        if most is not None:
            keep &= values <= most
        return np.where(present, np.where(drop, -1, keep), 0).astype(np.int8)


class LabelModel(Barrier):
    """Column `name`, float32: the probability that a sample is worth keeping, given the votes.

    It is `keep_share` where all abstain.

    Args:
        votes: at least three operators: two that agree might both be wrong.
        keep_share: the share of the pool that is worth keeping; votes alone cannot tell it.
        name: of the column.

    The phase `model` says in its footer how often each operator votes and how often it is right.
    """

    votes: tuple[Vote, ...] = Field(min_length=3)
    keep_share: float = Field(default=0.5, gt=0, lt=1)
    name: str = Field(default="label_model", pattern="^[a-z][a-z0-9_]{0,63}$")

    def reads(self) -> tuple[Column, ...]:
        return tuple(dict.fromkeys(vote.column for vote in self.votes))

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.float32())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape)
        total = tree("total", "together", layout.spans)
        return (
            layout.from_shards("together"),
            *total,
            Phase("model", ("all",), lambda _: (PhaseFile(total[-1].name, "all"),)),
            per_shard("answers", shape, (PhaseFile("model", "all"),)),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase.split("-")[0]:
            case "together":
                return self._counted(sum((together(self._cast(table)) for table in inputs), start=self._none))
            case "total":
                return self._counted(sum((table.column("n").to_numpy() for table in inputs), start=self._none))
            case "model":
                return self._model(inputs)
            case "answers":
                return self._answers(inputs)
        raise ValueError(f"{self.method()} has no phase {phase!r}")

    @property
    def _none(self) -> np.ndarray:
        return np.zeros(4 * len(self.votes) ** 2 + 1, np.int64)

    def _counted(self, counts: np.ndarray) -> Output:
        return Output(pa.table({"n": counts}))

    def _cast(self, table: pa.Table) -> np.ndarray:
        """int8 (rows, operators)"""
        return np.stack([vote.cast(table) for vote in self.votes], axis=1)

    def _model(self, inputs: Inputs) -> Output:
        """(drop, keep) of each operator's two votes: their chances on bad and on good samples."""
        counts = inputs.only().column("n").to_numpy()
        size = 2 * len(self.votes)
        chances = fitted(counts[:-1].reshape(size, size), int(counts[-1]), self.keep_share)
        return Output(pa.table({"bad": chances[:, DROP], "good": chances[:, KEEP]}), self._told(counts, chances))

    def _told(self, counts: np.ndarray, chances: np.ndarray) -> dict[str, Any]:
        """Of each operator: the share of samples that it votes on, and of its votes that are right."""
        size, total = 2 * len(self.votes), max(int(counts[-1]), 1)
        cast = np.diag(counts[:-1].reshape(size, size)).reshape(-1, 2).sum(axis=1) / total
        p = np.array([1 - self.keep_share, self.keep_share])
        joint = (chances * p).reshape(-1, 2, 2)  # (operator, vote, truth)
        right = np.trace(joint, axis1=1, axis2=2) / joint.sum(axis=(1, 2))
        names = [f"{number} {vote.column.field}" for number, vote in enumerate(self.votes)]
        found = {n: {"votes": round(c, 4), "right": round(r, 4)} for n, c, r in zip(names, cast, right, strict=True)}
        return {"samples": int(counts[-1]), "operators": found}

    def _answers(self, inputs: Inputs) -> Output:
        chances = inputs.select(PhaseFile).only()
        model = np.stack([chances.column(n).to_numpy() for n in ("bad", "good")], axis=1)
        votes = self._cast(inputs.select(ShardColumns).only())
        answer = np.round(probability(votes, model, self.keep_share), 4).astype(np.float32)
        return Output(
            pa.table([pa.array(answer)], schema=self.writes()), {"voted": int((votes != 0).any(axis=1).sum())}
        )


def together(votes: np.ndarray) -> np.ndarray:
    """int64 (4 m^2 + 1,): how many samples get votes a and b, for all pairs of the 2 m votes, and the samples.

    Args:
        votes: int8 (rows, m), 1 keep, -1 drop, 0 abstain. Vote 2 i is operator i's drop, 2 i + 1 its keep.
    """
    cast = np.stack([votes == -1, votes == 1], axis=2).reshape(len(votes), 2 * votes.shape[1]).astype(np.float64)
    return np.append((cast.T @ cast).astype(np.int64).ravel(), len(votes))  # float64 counts exactly to 2^53


def fitted(counts: np.ndarray, total: int, keep_share: float) -> np.ndarray:
    """float64 (2 m, 2): the chance of each vote on bad and on good samples that explains the counts best.

    Args:
        counts: int64 (2 m, 2 m), as `together` has them. total: samples. keep_share: of them are good.
    """
    from scipy.optimize import minimize

    p = np.array([1 - keep_share, keep_share])
    seen = counts / max(total, 1)
    size = len(counts)
    operator = np.arange(size) // 2
    others = operator[:, None] != operator[None, :]
    often = np.diag(seen)
    right = np.where(np.arange(size)[:, None] % 2 == np.arange(2)[None, :], RIGHT, 1 - RIGHT)
    least = 1 / (10 * max(total, 10))  # what never happened may happen yet

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        mu = flat.reshape(size, 2)
        apart = others * ((mu * p) @ mu.T - seen)
        alone = mu @ p - often
        slope = 4 * (apart @ mu) * p + 2 * np.outer(alone, p)
        return float((apart**2).sum() + (alone**2).sum()), slope.ravel()

    start = np.clip(often[:, None] * right / p, least, 1 - least)
    bounds = [(least, 1 - least)] * (2 * size)
    options = {"maxiter": 10_000, "maxfun": 100_000, "ftol": 1e-15, "gtol": 1e-12}
    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    chances: np.ndarray = found.x.reshape(size, 2)
    return chances


def probability(votes: np.ndarray, chances: np.ndarray, keep_share: float) -> np.ndarray:
    """float64 (rows,): that a sample is good, given its votes; operators are added one by one, alike for any rows."""
    log_odds = np.full(len(votes), np.log(keep_share) - np.log1p(-keep_share))
    says = np.log(chances[:, KEEP]) - np.log(chances[:, DROP])  # what each vote says for good
    for operator, vote in enumerate(votes.T):
        log_odds += np.where(vote == 0, 0.0, np.where(vote == 1, says[2 * operator + 1], says[2 * operator]))
    return 1 / (1 + np.exp(-log_odds))
