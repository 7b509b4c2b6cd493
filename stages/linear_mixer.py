"""A learned linear mixer over score columns: each standardised, weighted, and added up to one score.

    # once, on labelled samples: stages.mixer_learning.learn
    learn(samples, ("clip_score", "dfn_score", "norm_sim"), good="good").save("mixer.json")

    columns:
      - linear_mixer: {columns: [clip_score, dfn_score, norm_sim], weights: mixer.json, name: mixed}
    filters:
      - soft_cap: {column: mixed, fraction: 1.0, alpha: 0.15, over: pool}

Follows M-FLYT (Shoshan et al. 2025, arXiv:2503.08805; repository formll/FLYT) in its form: a linear layer over twelve
standardised scores (CLIP B/32 and L/14, two DFN networks, two classifiers, FLYT, NormSim, negCLIPLoss, three of HYPE),
whose output is the log weight of soft cap sampling. M-FLYT learns the layer by differentiating a downstream loss
through a training step of CLIP, on GPUs; `stages.mixer_learning` is a logistic regression on samples that somebody, or
planted faults, have called good or bad. A layer that was learned the paper's way can be written to the same file.

The file of weights, JSON; mean and std are those of the samples it was learned on, so that a pool does not move them:

    {"bias": 0.3, "columns": {"clip_score": {"mean": 0.25, "std": 0.06, "weight": 1.9}, ...}}
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator

from stages.base import ERROR, Batch, Column, Source, Stage
from stages.numbers import numbers


@dataclass(frozen=True)
class Part:
    """What becomes of one score: weight * (value - mean) / std."""

    mean: float
    std: float
    weight: float


@dataclass(frozen=True)
class Mixer:
    """bias plus the parts, by the names of their columns; `learned` says on what, for people."""

    bias: float
    columns: dict[str, Part]
    learned: dict[str, Any]

    def save(self, path: str | Path) -> None:
        """Write the file that `LinearMixer` reads."""
        Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Mixer:
        """Read it again.

        Raises:
            ValueError: there is no such file, or it is no mixer; says what is missing.
        """
        if not Path(path).is_file():
            raise ValueError(f"linear_mixer: no weights at {path}; they are made by stages.mixer_learning.learn")
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            parts = {name: Part(**{k: float(v) for k, v in part.items()}) for name, part in found["columns"].items()}
            mixer = cls(float(found["bias"]), parts, dict(found.get("learned", {})))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ValueError(
                f'linear_mixer: {path} is no mixer ({type(e).__name__}: {e}); expected {{"bias": number, "columns": '
                '{name: {"mean": number, "std": number, "weight": number}}}'
            ) from e
        for name, part in parts.items():
            if not all(map(math.isfinite, asdict(part).values())) or part.std <= 0:
                raise ValueError(f"linear_mixer: {path}: {name} is {part}; expected finite numbers and a std above 0")
        if not parts or not math.isfinite(mixer.bias):
            raise ValueError(f"linear_mixer: {path} has no columns, or a bias of {mixer.bias}")
        return mixer


class LinearMixer(Stage):
    """Column `name`, float32: what the file of weights makes of the columns, rounded to 1e-4.

    Null, with an error that names the column, where a sample lacks one of the scores.

    Args:
        columns: the scores, those that the file names.
        weights: JSON with a bias, and of each column mean, std and weight; of `stages.mixer_learning`.
        name: of the column.

    Raises:
        ValueError: the file is not there, is no mixer, or is one of other columns.
    """

    columns: tuple[Source, ...] = Field(min_length=1)
    weights: str
    name: str = Field(default="mixed", pattern="^[a-z][a-z0-9_]{0,63}$")
    _mixer: Mixer | None = PrivateAttr(default=None)

    @field_validator("weights")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return str(Path(value).expanduser().absolute())

    def files(self) -> tuple[str, ...]:
        self._load()
        return (self.weights,)

    def reads(self) -> tuple[Column, ...]:
        return self.columns

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.float32())])

    def open(self) -> None:
        self._mixer = self._load()

    def _load(self) -> Mixer:
        mixer = Mixer.load(self.weights)
        here, there = sorted(c.field for c in self.columns), sorted(mixer.columns)
        if here != there:
            raise ValueError(
                f"linear_mixer: {self.weights} is of the columns {', '.join(there)}; here are {', '.join(here)}"
            )
        return mixer

    def run(self, batch: Batch) -> pa.Table:
        if self._mixer is None:
            self.open()
        assert self._mixer is not None
        total = np.full(batch.num_rows, self._mixer.bias)
        errors = np.full(batch.num_rows, None, object)
        for column in sorted(self.columns, key=lambda c: c.field):
            part = self._mixer.columns[column.field]
            values, present = numbers(batch[column], column.field)
            present &= np.isfinite(values)
            total += part.weight * ((np.where(present, values, 0) - part.mean) / part.std)
            errors[~present & (errors == None)] = f"no {column.field}"  # noqa: E711 - of an array
        answer = np.round(total, 4).astype(np.float32)
        columns = [pa.array(answer, mask=errors != None), pa.array(errors, pa.string())]  # noqa: E711
        return pa.table(columns, names=[self.name, ERROR])
