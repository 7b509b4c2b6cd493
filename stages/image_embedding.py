"""Vectors of the stored picture by a model that looks at pictures only: copy descriptors (SSCD, ISC), DINOv2.

    columns:                                                        # in a recipe
      - image_embedding: {preset: sscd_disc_mixup, weights: given/sscd_disc_mixup.torchscript.pt}     # sscd_image
      - image_embedding: {preset: dinov2, weights: facebook/dinov2-large}                             # dinov2_image
      - image_embedding: {kind: timm, model: resnet50, weights: r50.safetensors, size: 224, resize: crop, name: r50}

Presets (`stages.image_presets` has their sources) are what is published:

    sscd_disc_mixup         SSCD (Pizzi et al. 2022), TorchScript; shorter side 288, so one picture a forward pass
    sscd_disc_mixup_320     the same, squashed to 320 x 320: for GPUs
    isc_ft_v107             ISC21's winner (Yokoo 2021), 512 x 512 squashed, mean = std = 0.5; decontaminates DataComp
    dinov2, dinov2_timm     DINOv2 (Oquab et al. 2023) as transformers and as timm have it; 224 cut out of 256

What is given beside a preset stands in its place. No weights come with it. Cosines of 0.75 are copies with a precision
of 90 % by SSCD on DISC, says its README; thresholds of one model say nothing about another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator, model_validator

from stages import image_weights
from stages.base import IMAGE, Batch, Column, Need, Stage
from stages.clip import DAY_S, there
from stages.clip_model import Device, threads
from stages.image_cut import Resize
from stages.image_model import ImageModel, Precision, load
from stages.image_presets import PRESETS, Kind, Look, Three

_OF_LOOK = ("kind", "size", "resize", "shorter", "mean", "std", "interpolation", "name")
_PASS_GB = 0.03  # of a picture of 224 x 224 in a forward pass: 0.012 to 0.026 of ResNet-50, EfficientNetV2-M, ViT-B/14


class ImageEmbedding(Stage):
    """`<name>_image`: vectors of length one, fp16; null, with an `error`, where there is no picture or no vector.

    Args:
        weights: a file (torchscript, isc, timm); a folder with config.json and model.safetensors, or its name on the
            Hugging Face hub (timm, transformers). Workers take the commit that a name had when the work was given out.
        preset: a published model by name, see above; without one, kind, size and resize must be given.
        kind: of file. torchscript: a program that gives (n, dim) for (n, 3, rows, columns), as SSCD's. isc: one of
            ISC21's checkpoints. timm. transformers: its pooled output, or its first token.
        model: kind timm, of a file: the name of timm's.
        size: pixels a side.
        resize: shorter, that side becomes size; squash, both do; crop, the middle of size is cut out of a picture
            whose shorter side became `shorter`.
        shorter: for `resize: crop`, not below size; left out, size.
        interpolation: bilinear, also where nothing says it, or bicubic; both against aliasing, as torchvision's.
        mean: of RGB in 0..1, taken off each pixel; left out, ImageNet's.
        std: divides what is left.
        name: begins the column's name.
        batch: pictures in a forward pass; it decides the last bits.
        precision: bf16 computes in bfloat16.
        device: cuda asks for a GPU a worker. cpus: threads of a worker. The column is the same, to some last bits.

    Example:
        ImageEmbedding(preset="isc_ft_v107", weights="given/isc_ft_v107.pth.tar")       # isc_image, 256 numbers

    Raises:
        ValueError: no such preset, a parameter is missing, or does not go with the kind.
    """

    weights: str
    preset: Literal[tuple(PRESETS)] | None = None  # type: ignore[valid-type]
    kind: Kind | None = None
    model: str | None = None
    size: int | None = Field(default=None, ge=8, le=2048)
    resize: Resize | None = None
    shorter: int | None = Field(default=None, ge=8, le=4096)
    interpolation: Literal["bilinear", "bicubic"] | None = None
    mean: Three | None = None
    std: Three | None = None
    name: str | None = Field(default=None, pattern="^[a-z][a-z0-9_]{0,31}$")
    batch: int = Field(default=8, ge=1, le=4096)
    precision: Precision = "fp32"
    device: Device = "cpu"
    cpus: int = Field(default=1, ge=1)
    _loaded: ImageModel | None = PrivateAttr(default=None)
    _prepared: WeakKeyDictionary[Batch, Any] | None = PrivateAttr(default=None)
    _pinned: str | None = PrivateAttr(default=None)

    def __getstate__(self) -> dict[Any, Any]:
        """With the commit of a name, which the fingerprint is of."""
        state = super().__getstate__()
        private = {**state["__pydantic_private__"], "_pinned": image_weights.pinned(self.place)}
        return state | {"__pydantic_private__": private}

    @field_validator("weights")
    @classmethod
    def _settled(cls, value: str) -> str:
        return image_weights.settled(value)

    @model_validator(mode="after")
    def _whole(self) -> ImageEmbedding:
        lacks = [n for n in ("kind", "size", "resize") if self.preset is None and getattr(self, n) is None]
        if lacks:
            raise ValueError(f"give a preset ({', '.join(PRESETS)}), or {' and '.join(lacks)}")
        look = self.look
        if look.shorter is not None and (look.resize != "crop" or look.shorter < look.size):
            raise ValueError(f"shorter: {look.shorter} goes with `resize: crop`, and is not below size: {look.size}")
        if not all(s > 0 for s in look.std):
            raise ValueError("std: pictures are divided by it: each number is above 0")
        if look.kind != "timm" and self.model is not None:
            raise ValueError(f"model: goes with `kind: timm`; files of {look.kind} say what they are of")
        if look.kind == "torchscript" and self.precision != "fp32":
            raise ValueError("a TorchScript has the types that it was saved with: leave precision out")
        return self

    @property
    def look(self) -> Look:
        """The preset, with what is given beside it."""
        given = {n: v for n in _OF_LOOK if (v := getattr(self, n)) is not None}
        if self.preset is None:
            return Look(**given)
        known = PRESETS[self.preset]
        if given.get("resize", known.resize) != "crop":
            given.setdefault("shorter", None)
        if given.get("kind", known.kind) != known.kind:
            given["dim"] = None
        return known.having(given)

    @property
    def place(self) -> str:
        """The weights; in a worker, with the commit."""
        return self._pinned or self.weights

    @property
    def image(self) -> str:
        """Name of the column."""
        return f"{self.look.name}_image"

    def files(self) -> tuple[str, ...]:
        """The files of the weights, wherever a name has put them.

        Raises:
            ValueError: they are not there, and what to do.
        """
        try:
            return image_weights.files(self.look, self.place, self.model)
        except ValueError as e:
            raise ValueError(f"image_embedding: {e}") from e

    def identity(self) -> dict[str, Any]:
        """How pictures are looked at, spelled out, and the files: a preset, and what it stands for, are one stage."""
        look = self.look
        said: dict[str, Any] = {n: getattr(look, n) for n in _OF_LOOK}
        said |= {"model": self.model, "batch": self.batch, "precision": self.precision}
        return {**super().identity(), "parameters": said | {"weights": [Path(f).name for f in self.files()]}}

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        dim = image_weights.width(self.look, self.place, self.model)
        vector = pa.list_(pa.float16()) if dim is None else pa.list_(pa.float16(), dim)
        return pa.schema([(self.image, vector), ("error", pa.string())])

    def need(self) -> Need:
        """Memory: the weights twice, and what a forward pass holds. What cannot be had counts as nothing: `files`
        refuses it before it runs."""
        try:
            size_gb = sum(Path(f).stat().st_size for f in self.files()) / 1e9
        except ValueError:
            size_gb = 0.0
        look = self.look
        pictures = 8 if look.resize == "shorter" else self.batch  # one that is eight times as long as high
        work_gb = pictures * (look.size / 224) ** 2 * _PASS_GB
        return Need(self.cpus, 1 if self.device == "cuda" else 0, 1.5 + 2 * size_gb + work_gb, DAY_S)

    def open(self) -> None:
        """Load the model.

        Raises:
            ValueError: weights, packages or device are missing, or do not fit; says what to do.
        """
        look = self.look
        self.files()
        try:
            loaded = load(look, self.place, self.model, self.precision, self.device)
            found = loaded.width()
            if look.dim not in (None, found):
                raise ValueError(f"{self.place} gives {found} numbers, and {self.preset} has {look.dim}: other weights")
        except ValueError as e:
            raise ValueError(f"image_embedding: {e}") from e
        self._prepared, self._loaded = WeakKeyDictionary(), loaded

    def prepare(self, batch: Batch) -> None:
        """Decode and cut: a thread may do it while `run` has other batches, after `open()`."""
        assert self._prepared is not None, "open() comes first: threads would make one each"
        self._prepared[batch] = self._inputs(batch)

    def run(self, batch: Batch) -> pa.Table:
        ready = None if self._prepared is None else self._prepared.pop(batch, None)
        given = self._inputs(batch) if ready is None else ready
        with threads(self.cpus):
            vectors = self._model().vectors(given.pixels, self.batch)
        column, lost = _column(batch.num_rows, given.rows, vectors)
        said = [
            why or ("image_embedding: the model's vector is not finite, or zeros" if bad else None)
            for why, bad in zip(batch.image_errors(), lost, strict=True)
        ]
        column = column if len(given.rows) else pa.nulls(batch.num_rows, self.writes().field(0).type)
        return pa.table([column, pa.array(said, pa.string())], schema=self.writes())

    def _inputs(self, batch: Batch) -> _Inputs:
        images = batch.images()
        rows = there(images)
        return _Inputs(rows, self._model().pixels([images[i] for i in rows]))  # type: ignore[misc]

    def _model(self) -> ImageModel:
        if self._loaded is None:
            self.open()
        assert self._loaded is not None
        return self._loaded


@dataclass(frozen=True)
class _Inputs:
    """Rows that have a picture, int64, and what the model is shown of each."""

    rows: np.ndarray
    pixels: list[np.ndarray]


def _column(count: int, rows: np.ndarray, vectors: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """(vectors as float16 at their rows, else null; bool (count,): rows whose vector is no direction)."""
    out, known = np.zeros((count, vectors.shape[1]), np.float16), np.zeros(count, bool)
    out[rows], known[rows] = vectors, True
    good = np.isfinite(out).all(axis=1) & out.any(axis=1)
    out[~good] = 0
    values = pa.array(out.reshape(-1), pa.float16())
    column = pa.FixedSizeListArray.from_arrays(values, max(out.shape[1], 1), mask=pa.array(~(known & good)))
    return column, np.asarray(known & ~good)
