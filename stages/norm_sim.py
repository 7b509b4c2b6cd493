"""How near a picture is to a set of target pictures.

    columns:
      - norm_sim: {vectors: l14_image, target: imagenet_train_l14.npy}                       # p: inf
      - norm_sim: {vectors: l14_image, target: imagenet_train_l14.npy, p: 2, squared: true, name: vas}

NormSim_p(v) = || X v ||_p over the target vectors X (Wang et al., NeurIPS 2024; baselines/vas2.py of the authors was
read): p = inf is the largest cosine to a target, p = 2 is sqrt(v^T X^T X v). The square of p = 2 orders samples as VAS,
v^T Sigma v, does (Wang et al. 2024): VAS divides by the number of targets. Without targets: the filter `norm_sim_2d`.
With p = inf and no other filter this is DataComp's ImageNet-distance baseline. Nothing here is [M].

Needed: a .npy file (n, dim) of vectors of the targets, by the model of `vectors`: ImageNet's train split, or the train
splits of the 24 downstream tasks. Rows of any length are brought to length one.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator, model_validator

from stages.base import Batch, Column, Need, Source, Stage
from stages.moments import Moments, quadratic
from stages.target_vectors import checked_npy, npy_file, same_length, target_blocks, target_shape, targets
from stages.vectors import Device, Nearest, dots, gpu_torch, rounded, unit


class NormSim(Stage):
    """`<name>`: float32, rounded to 1e-4; null where the vector is.

    Args:
        vectors: column of vectors; they are brought to length one.
        target: a .npy file, float (n, dim).
        p: inf (the largest cosine) or 2.
        squared: the square, with p: 2 only.
        name: of the column.
        device: cuda searches on a GPU (p: inf); the column is the same one.

    Raises:
        ValueError: no such file, another number of dimensions, no GPU.
    """

    vectors: Source
    target: str
    p: Literal["inf", 2] = "inf"
    squared: bool = False
    name: str = Field(default="norm_sim", pattern="^[a-z][a-z0-9_]{0,31}$")
    device: Device = Field(default="cpu", exclude=True)
    _shape: tuple[int, int] | None = PrivateAttr(default=None)
    _nearest: Nearest | None = PrivateAttr(default=None)
    _sigma: np.ndarray | None = PrivateAttr(default=None)

    @field_validator("p", mode="before")
    @classmethod
    def _infinity(cls, value: Any) -> Any:
        return "inf" if value == float("inf") else value  # YAML's .inf

    @field_validator("target")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return npy_file(value)

    @model_validator(mode="after")
    def _squared_goes_with_two(self) -> NormSim:
        if self.squared and self.p != 2:
            raise ValueError("squared goes with p: 2")
        return self

    def files(self) -> tuple[str, ...]:
        return (checked_npy(self.target, "norm_sim"),)

    def reads(self) -> tuple[Column, ...]:
        return (self.vectors,)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.float32())])

    def need(self) -> Need:
        """Memory: the targets in float32, and a block of cosines; for p: 2 a matrix (dim, dim), three times over."""
        try:
            shape = np.load(self.target, mmap_mode="r", allow_pickle=False).shape
        except (OSError, ValueError):  # `files()` tells
            return Need()
        resident = int(np.prod(shape)) * 4e-9 if self.p == "inf" else 0
        return Need(1, 1 if self.device == "cuda" else 0, 1.5 + resident, 86_400)

    def open(self) -> None:
        if self.device == "cuda":
            gpu_torch("norm_sim")
        self._shape = target_shape(self.target, "norm_sim")
        if self.p == "inf":
            self._nearest = Nearest(targets(self.target, "norm_sim"), "dot", self.device)
        else:
            moments = Moments.none(self._shape[1])
            for _, block in target_blocks(self.target, "norm_sim"):
                moments.add(block)
            self._sigma = moments.matrix(per=moments.count)

    def run(self, batch: Batch) -> pa.Table:
        if self._shape is None:
            self.open()
        assert self._shape is not None
        x, there = unit(batch[self.vectors], f"norm_sim: {self.vectors.field}")
        same_length(x, self._shape[1], "norm_sim", self.target)
        found = np.zeros(len(x))
        if there.any():
            found[there] = self._of(x[there])
        return pa.table([rounded(found, there)], schema=self.writes())

    def _of(self, x: np.ndarray) -> np.ndarray:
        if self._nearest is not None:
            return np.minimum(self._nearest.of(x)[2], 1)
        assert self._sigma is not None
        assert self._shape is not None
        squares = quadratic(x, self._sigma) * self._shape[0]
        return squares if self.squared else np.sqrt(np.maximum(squares, 0))


def norm_sim_2(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """float64 (n,): || X v ||_2 of each row, by its definition; the stage does the same with a matrix (dim, dim)."""
    return np.asarray(np.linalg.norm(dots(x, target), axis=1))
