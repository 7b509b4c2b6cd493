"""Scores as weights of a draw, and the draws themselves: what `sample_by`, `soft_cap` and `hard_cap` share."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa

from stages.draws import hash64_halves
from stages.elementary import log, log1m
from stages.numbers import numbers

Scale = Literal["log", "linear"]
"""What a column says: the logarithm of a weight (any score, by softmax), or the weight itself."""


def log_weights(
    table: pa.Table, column: str, scale: Scale = "log", temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """(log weight, present): float64 (rows,), -inf where the weight is 0; bool (rows,), false for null and NaN.

    Raises:
        ValueError: an infinite score, or a weight below 0: names the sample.
    """
    values, present = numbers(table.column(column), column)
    bad = (np.isposinf(values) if scale == "log" else (values < 0) | np.isinf(values)) & present
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        told = "a score must be finite" if scale == "log" else "a weight must be finite and not below 0"
        hint = "" if scale == "log" else "; `scale: log` takes any score, by softmax"
        raise ValueError(f"sample {table.column('uid')[row].as_py().hex()}: {column} is {values[row]}; {told}{hint}")
    if scale == "linear":
        values = log(values)
    return values / temperature, present


def exponential(seed: int, salt: str, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """float64 (n,), above 0: exponential draws of mean 1, keyed as `stages.draws.uniform` is.

    Whoever has the smallest draw / weight wins a race with a chance in proportion to the weight; minus the logarithm
    of the draw is Gumbel noise, so the k smallest are Gumbel-top-k. Alike to the last bit on every processor, as all
    logarithms here and in what draws by them must be: several machines work out the same draws and compare them.
    """
    return -log1m(unit(seed, salt, high, low))


def unit(seed: int, salt: str, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """float64 (n,), above 0 and below 1: `stages.draws.uniform` by the halves of the uid, with 2^-54 for 0."""
    return np.maximum((hash64_halves(seed, salt, high, low) >> np.uint64(11)) * 2.0**-53, 2.0**-54)
