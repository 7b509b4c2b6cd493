"""What stages over a model of texts share: its parameters, its identity, and forward passes of settled shapes.

    class Perplexity(OfTextModel): ...
    for rows, width in passes(lengths, 8, most=512):   # rows of about one length: few columns of filling
        ...

Used by `stages.perplexity` and `stages.toxicity`; models are in the layout of transformers (`stages.hub_weights`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr, field_validator

from stages import hub_weights
from stages.base import TEXT, Column, Need, Stage
from stages.hub_weights import Device, Precision

STEP = 16  # lengths are filled up to a multiple of it, so that there are few shapes


class OfTextModel(Stage):
    """A stage over what a model says of `text`.

    weights: a folder in the layout of transformers, or a name on its hub (`org/name`, `org/name@revision`). Workers
        take the commit that the name had where the work was given out, whatever it has in their own caches.
    batch: texts in a forward pass; it decides the last bits.
    precision: bf16 computes in bfloat16. device: cuda asks for a GPU a worker. cpus: threads of a worker; device and
    cpus leave the columns the same, to some last bits.
    """

    kind: ClassVar[hub_weights.Kind]

    weights: str
    batch: int = Field(default=8, ge=1, le=4096)
    precision: Precision = "fp32"
    device: Device = "cpu"
    cpus: int = Field(default=1, ge=1)
    _loaded: tuple[Any, Any] | None = PrivateAttr(default=None)
    _pinned: str | None = PrivateAttr(default=None)

    def __getstate__(self) -> dict[Any, Any]:
        """With the commit of a name, which the fingerprint is of."""
        state = super().__getstate__()
        return state | {
            "__pydantic_private__": {**state["__pydantic_private__"], "_pinned": hub_weights.pinned(self.place)}
        }

    @property
    def place(self) -> str:
        """The weights; in a worker, with the commit."""
        return self._pinned or self.weights

    @field_validator("weights")
    @classmethod
    def _settled(cls, value: str) -> str:
        return hub_weights.settled(value)

    def files(self) -> tuple[str, ...]:
        """Configuration, tokenizer and weights.

        Raises:
            ValueError: they are not there, and what to do.
        """
        try:
            return hub_weights.files(self.place)
        except ValueError as e:
            raise ValueError(f"{self.method()}: {e}") from e

    def identity(self) -> dict[str, Any]:
        """With the files' names in place of the folder: equal weights at two places, or by a name, are one stage."""
        found = super().identity()
        for machine in ("device", "cpus"):
            del found["parameters"][machine]
        found["parameters"]["weights"] = [Path(file).name for file in self.files()]
        return found

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def need(self) -> Need:
        return hub_weights.need(self.place, self.precision, self.device, self.cpus, self._work_gb)

    def _work_gb(self) -> float:
        return 1.0

    def open(self) -> None:
        """Load the model.

        Raises:
            ValueError: weights, packages or device are missing, or do not fit; says what to do.
        """
        self.files()
        try:
            loaded = hub_weights.load(self.kind, self.place, self.precision, self.device)
            self._fits(*loaded)
        except ValueError as e:
            raise ValueError(f"{self.method()}: {e}") from e
        self._loaded = loaded

    def _fits(self, model: Any, tokenizer: Any) -> None:
        """Raises ValueError where the parameters ask for what the model does not have."""

    def ready(self) -> tuple[Any, Any]:
        """(model, tokenizer), loaded where `open` was not called."""
        if self._loaded is None:
            self.open()
        assert self._loaded is not None
        return self._loaded


def longest(model: Any, tokenizer: Any) -> int | None:
    """Most tokens that model and tokenizer take, special ones among them; None: they know no bound."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int):
        positions -= _before_the_first(model)
    known = [n for n in (positions, tokenizer.model_max_length) if isinstance(n, int) and 0 < n < 1_000_000]
    return min(known, default=None)  # a tokenizer without a bound says 1e30


def _before_the_first(model: Any) -> int:
    """RoBERTa counts positions from the number of its filling token: so many are never used."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0


def passes(lengths: Sequence[int], batch: int, most: int | None) -> Iterator[tuple[np.ndarray, int]]:
    """(row numbers, at most `batch` of them, of about one length; how many columns hold them: a multiple of STEP, or
    `most`, the most that the model takes).

    The order is by length, then row: the same rows always meet in the same passes. Rows of length 0 are left out.
    """
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(sizes, kind="stable")
    order = order[sizes[order] > 0]
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        width = int(-(-sizes[rows[-1]] // STEP) * STEP)
        yield rows, width if most is None else min(width, most)
