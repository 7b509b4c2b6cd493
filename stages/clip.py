"""How alike a picture and its text are: vectors of both by any CLIP, and their cosine.

    stage = ClipScore(weights="filters/dfn/filter.pt")            # of `curate train-filter`
    stage = ClipScore(model="ViT-B-32", weights="laion2b_s34b_b79k")

    columns:                                                      # in a recipe
      - clip_score: {weights: filters/dfn/filter.pt, name: dfn}
    filters:
      - top_fraction: {column: dfn_score, fraction: 0.15, over: pool, on_missing: drop}

Radford et al. 2021 (CLIP); cosine as a filter: LAION-400M (Schuhmann et al. 2021), DataComp (Gadre et al. 2023);
a network trained for it: Data Filtering Networks (Fang et al. 2023). Preprocessing is open_clip's for the model.
Scores of two models do not compare: a threshold for one says nothing about another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PrivateAttr, field_validator, model_validator

from stages.base import IMAGE, TEXT, Batch, Column, Need, Stage
from stages.clip_model import Clip, Device, Precision, load, threads
from stages.clip_weights import is_tag, settled, weights_file, width

DAY_S = 86_400.0  # a shard of 10,000 through a large model on one core takes hours


class OfClip(Stage):
    """A stage over what one CLIP says. Its parameters name the model; stages with equal ones share its vectors.

    weights: a file; or, with `model`, a tag of open_clip ("laion2b_s34b_b79k"), which is fetched where it is not here.
    model: a configuration of open_clip ("ViT-B-32"); left out for files of `curate train-filter`, which say it.
    name: begins the names of the columns; give another to each CLIP of a recipe.
    batch: pictures, or texts, in a forward pass; it decides the last bits of the vectors.
    precision: bf16 computes the image tower in bfloat16, where the processor can some four times as fast.
    device: cuda asks for a GPU a worker; the columns are the same ones, to some last bits.
    cpus: threads of a worker; the columns are the same ones, too.
    """

    weights: str
    model: str | None = None
    name: str = Field(default="clip", pattern="^[a-z][a-z0-9_]{0,31}$")
    batch: int = Field(default=32, ge=1, le=4096)
    precision: Precision = "fp32"
    device: Device = "cpu"
    cpus: int = Field(default=1, ge=1)

    @field_validator("weights")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return settled(value)

    @model_validator(mode="after")
    def _named(self) -> OfClip:
        if self.model is None and is_tag(self.weights):
            raise ValueError(f"{self.weights!r} is no file: give its path, or `model:` if it is a tag of open_clip")
        return self

    def files(self) -> tuple[str, ...]:
        """The file of weights, wherever a tag has put it.

        Raises:
            ValueError: there is none, and why.
        """
        return (str(weights_file(self.model, self.weights)),)

    @property
    def image(self) -> str:
        return f"{self.name}_image"

    @property
    def text(self) -> str:
        return f"{self.name}_text"

    def embedding(self) -> ClipEmbedding:
        """The stage that makes the vectors."""
        return ClipEmbedding(**{field: getattr(self, field) for field in OfClip.model_fields})


class ClipEmbedding(OfClip):
    """Vectors of length one, fp16: `clip_image` of the stored picture, `clip_text` of the text.

    Null where there is no text, or no picture that decodes.

    Example:
        stage = ClipEmbedding(weights="filters/dfn/filter.pt")
        stage.run(Batch.of(pa.table({"text": ["a red bicycle"]}), [jpeg]))      # fixed_size_list<float16>[dim] twice
    """

    _loaded: Clip | None = PrivateAttr(default=None)

    def identity(self) -> dict[str, Any]:
        """With the file as `files()` names it, so that equal weights at two places, or by a tag, are one stage."""
        found = super().identity()
        for machine in ("device", "cpus"):
            del found["parameters"][machine]
        found["parameters"]["weights"] = self.files()[0]
        return found

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE, TEXT)

    def writes(self) -> pa.Schema:
        dim = width(self.model, self.weights)
        vector = pa.list_(pa.float16()) if dim is None else pa.list_(pa.float16(), dim)
        return pa.schema([(self.image, vector), (self.text, vector), ("error", pa.string())])

    def need(self) -> Need:
        """Memory: weights as float32, again in bf16, and what a forward pass holds, by the size of the file."""
        file = Path(self.weights)
        size_gb = file.stat().st_size / 1e9 if file.is_file() else 0.6
        return Need(self.cpus, 1 if self.device == "cuda" else 0, 1.5 + 3 * size_gb, DAY_S)

    def open(self) -> None:
        """Load the model.

        Raises:
            ValueError: weights, model or device are missing, or do not fit; says what to do.
        """
        self._loaded = load(self.model, self.weights, self.precision, self.device)

    def run(self, batch: Batch) -> pa.Table:
        if self._loaded is None:
            self.open()
        assert self._loaded is not None
        with threads(self.cpus):
            image, lost = self._vectors(batch.images(), self._loaded.image_vectors)
            text, unsaid = self._vectors(batch[TEXT].to_pylist(), self._loaded.text_vectors)
        errors = [why or _lost(a, b) for why, a, b in zip(batch.image_errors(), lost, unsaid, strict=True)]
        return pa.table([image, text, pa.array(errors, pa.string())], schema=self.writes())

    def _vectors(
        self, rows: Sequence[Any], encode: Callable[[Sequence[Any], int], np.ndarray]
    ) -> tuple[pa.Array, np.ndarray]:
        """(vectors, null where the row is; which rows the model has no answer for, bool)."""
        dim = width(self.model, self.weights)
        assert dim is not None  # open() has read the file
        out, asked = np.zeros((len(rows), dim), np.float16), np.array([row is not None for row in rows], bool)
        there = np.flatnonzero(asked)
        for start in range(0, len(there), self.batch):
            some = there[start : start + self.batch]
            out[some] = encode([rows[i] for i in some], self.batch)
        finite = np.isfinite(out).all(axis=1)
        out[~finite] = 0
        values = pa.array(out.reshape(-1), pa.float16())
        return pa.FixedSizeListArray.from_arrays(values, dim, mask=pa.array(~(asked & finite))), np.asarray(~finite)


def _lost(image: bool, text: bool) -> str | None:
    """Why a row has no vector though it has a picture and a text."""
    of = " and ".join(what for what, bad in (("picture", image), ("text", text)) if bad)
    return f"clip: the model's vector of the {of} is not finite" if of else None


class ClipScore(OfClip):
    """`clip_score`: cosine of the vectors of picture and text, float32 in -1..1, rounded to 1e-4.

    Null where either is missing. The vectors are those of `clip_embedding` with the same parameters, which is run
    where they are not there yet; a threshold then opens this column only.

    Example:
        ClipScore(model="ViT-L-14-quickgelu", weights="openai", name="l14")  # l14_score; LAION-5B kept above 0.26
    """

    def identity(self) -> dict[str, Any]:
        """The name alone: all else is in the vectors that are read."""
        return {**super().identity(), "parameters": {"name": self.name}}

    def reads(self) -> tuple[Column, ...]:
        return (Column(self.embedding(), self.image), Column(self.embedding(), self.text))

    def writes(self) -> pa.Schema:
        return pa.schema([(f"{self.name}_score", pa.float32())])

    def run(self, batch: Batch) -> pa.Table:
        image, text = (batch[column] for column in self.reads())
        return pa.table([cosine(image, text)], schema=self.writes())


def cosine(a: pa.Array, b: pa.Array) -> pa.Array:
    """Row by row cosine of two columns of vectors of one length, float32 rounded to 1e-4; null where either is null.

    A vector of zeros has no direction, and a null answer.
    """
    both = pc.and_(pc.is_valid(a), pc.is_valid(b))
    x, y = (_rows(column.filter(both)) for column in (a, b))
    with np.errstate(invalid="ignore"):  # 0 / 0
        found = np.einsum("nd,nd->n", x, y) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    scores = np.full(len(a), np.nan)
    scores[both.to_numpy(zero_copy_only=False)] = np.clip(np.round(found, 4), -1, 1)
    return pa.array(scores.astype(np.float32), from_pandas=True)


def _rows(vectors: pa.Array) -> np.ndarray:
    """float64 (n, dim) of a fixed-size list without nulls."""
    return vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, vectors.type.list_size)
