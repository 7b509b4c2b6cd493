"""How alike a picture and its text are: vectors of both by any CLIP, and their cosine.

    stage = ClipScore(weights="filters/dfn/filter.pt")            # of `curate train-filter`
    stage = ClipScore(model="ViT-B-32", weights="laion2b_s34b_b79k")

    columns:                                                      # in a recipe
      - clip_score: {weights: filters/dfn/filter.pt, name: dfn}
      - clip_score: {weights: filters/dfn/filter.pt, name: dfn, text: blip}                   # dfn_blip_score
    filters:
      - top_fraction: {column: dfn_score, fraction: 0.15, over: pool, on_missing: drop}

Radford et al. 2021 (CLIP); cosine as a filter: LAION-400M (Schuhmann et al. 2021), DataComp (Gadre et al. 2023);
a network trained for it: Data Filtering Networks (Fang et al. 2023). Preprocessing is open_clip's for the model.
Scores of two models do not compare: a threshold for one says nothing about another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PrivateAttr, field_validator, model_validator

from stages.base import IMAGE, TEXT, Batch, Column, Need, Source, Stage
from stages.clip_model import Clip, Device, Precision, shared, threads
from stages.clip_texts import TextInputs
from stages.clip_weights import is_tag, settled, weights_file, width
from stages.text_source import column_like, column_type

DAY_S = 86_400.0  # a shard of 10,000 through a large model on one core takes hours


class OfClip(Stage):
    """A stage over what one CLIP says. Its parameters name the model; stages with equal ones share its vectors.

    weights: a file; or, with `model`, a tag of open_clip ("laion2b_s34b_b79k"), which is fetched where it is not here.
    model: a configuration of open_clip ("ViT-B-32"); left out for files of `curate train-filter`, which say it.
    name: begins the names of the columns; give another to each CLIP of a recipe.
    batch: pictures, or short texts, in a forward pass; it decides the last bits of the vectors. `python -m
        stages.clip_batch` proposes one, and the precision, by measuring.
    precision: bf16 computes the image tower in bfloat16, where the processor can some four times as fast.
    device: cuda asks for a GPU a worker; the columns are the same ones, to some last bits.
    compiled: on a GPU, by torch.compile, which makes the start of each worker longer; what it gains on one is for
        bench/embed_gpu.py to say, and was not measured yet.
    cpus: threads of a worker, which compute or, beside a GPU, decode; the columns are the same ones, too.
    """

    weights: str
    model: str | None = None
    name: str = Field(default="clip", pattern="^[a-z][a-z0-9_]{0,31}$")
    batch: int = Field(default=32, ge=1, le=4096)
    precision: Precision = "fp32"
    device: Device = "cpu"
    compiled: bool = True
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
    def text_name(self) -> str:
        """Name of the column of the texts' vectors."""
        return f"{self.name}_text"

    def embedding(self) -> ClipEmbedding:
        """The stage that makes the vectors."""
        return ClipEmbedding(**{field: getattr(self, field) for field in OfClip.model_fields})


class WithClip(OfClip):
    """A stage that holds the model, and what was prepared for it."""

    _loaded: Clip | None = PrivateAttr(default=None)
    _prepared: WeakKeyDictionary[Batch, Any] | None = PrivateAttr(default=None)

    def identity(self) -> dict[str, Any]:
        """With the file as `files()` names it, so that equal weights at two places, or by a tag, are one stage."""
        found = super().identity()
        for machine in ("device", "compiled", "cpus"):
            del found["parameters"][machine]
        found["parameters"]["weights"] = self.files()[0]
        return found

    def need(self) -> Need:
        """Memory: weights as float32, again in bf16, and what a forward pass holds, by the size of the file.

        What a tag names is fetched for it. What cannot be had counts as nothing: `files` refuses it before it runs.
        """
        file = Path(self.weights)
        try:
            size = (file if file.is_file() else weights_file(self.model, self.weights)).stat().st_size
        except (ValueError, FileNotFoundError):
            size = 0
        return Need(self.cpus, 1 if self.device == "cuda" else 0, 1.5 + 3 * size / 1e9, DAY_S)

    def open(self) -> None:
        """Load the model.

        Raises:
            ValueError: weights, model or device are missing, or do not fit; says what to do.
        """
        compiled = self.compiled and self.device == "cuda"
        self._prepared = WeakKeyDictionary()
        self._loaded = shared(self.model, self.weights, self.precision, self.device, compiled)

    def clip(self) -> Clip:
        """The model, loaded where it is not yet."""
        if self._loaded is None:
            self.open()
        assert self._loaded is not None
        return self._loaded

    def inputs(self, batch: Batch) -> Any:
        """What the model is given for the batch, made without it."""
        raise NotImplementedError(f"{type(self).__name__}.inputs")

    def prepare(self, batch: Batch) -> None:
        """Decode, cut to squares and into tokens: a thread may do it while `run` has other batches, after `open()`."""
        assert self._prepared is not None, "open() comes first: threads would make one each"
        self._prepared[batch] = self.inputs(batch)

    def given(self, batch: Batch) -> Any:
        """The inputs of the batch, prepared or not; those that were prepared only once."""
        ready = None if self._prepared is None else self._prepared.pop(batch, None)
        return self.inputs(batch) if ready is None else ready

    def vector_type(self) -> pa.DataType:
        """Of a column: a list of as many float16 as the model says; of any number where it is not to be had yet."""
        dim = width(self.model, self.weights)
        return pa.list_(pa.float16()) if dim is None else pa.list_(pa.float16(), dim)

    def column(self, batch: Batch, rows: np.ndarray, vectors: np.ndarray) -> tuple[pa.Array, np.ndarray]:
        """(vectors as float16 at their rows, else null; which rows have one that is not finite, bool).

        Args:
            rows: int (n,), numbers of the batch's rows. vectors: float32 (n, dim), theirs.
        """
        dim = width(self.model, self.weights)
        assert dim is not None  # open() has read the file
        out, known = np.zeros((batch.num_rows, dim), np.float16), np.zeros(batch.num_rows, bool)
        if len(rows):
            out[rows], known[rows] = vectors, True
        finite = np.isfinite(out).all(axis=1)
        out[~finite] = 0
        values = pa.array(out.reshape(-1), pa.float16())
        return pa.FixedSizeListArray.from_arrays(values, dim, mask=pa.array(~(known & finite))), np.asarray(~finite)


class ClipEmbedding(WithClip):
    """Vectors of length one, fp16: `clip_image` of the stored picture, `clip_text` of the text.

    Null where there is no text, or no picture that decodes.

    Example:
        stage = ClipEmbedding(weights="filters/dfn/filter.pt")
        stage.run(Batch.of(pa.table({"text": ["a red bicycle"]}), [jpeg]))      # fixed_size_list<float16>[dim] twice
    """

    version: ClassVar[int] = 2  # texts at the shortest of a few lengths: other last bits

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE, TEXT)

    def writes(self) -> pa.Schema:
        vector = self.vector_type()
        return pa.schema([(self.image, vector), (self.text_name, vector), ("error", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        with threads(self.cpus):
            given = self.given(batch)
            image, lost = self.column(batch, given.pictures, self.image_vectors(given.squares))
            text, unsaid = self.column(batch, given.texts, self.text_vectors(given.tokens))
        errors = [why or _lost(a, b) for why, a, b in zip(batch.image_errors(), lost, unsaid, strict=True)]
        return pa.table([image, text, pa.array(errors, pa.string())], schema=self.writes())

    def image_vectors(self, squares: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3) -> float32 (n, dim)."""
        return self.clip().image_vectors(squares, self.batch)

    def text_vectors(self, tokens: np.ndarray) -> np.ndarray:
        """int64 (n, context) -> float32 (n, dim)."""
        return self.clip().text_vectors(tokens, self.batch)

    def inputs(self, batch: Batch) -> _Inputs:
        clip, images, texts = self.clip(), batch.images(), batch[TEXT].to_pylist()
        pictures, said = there(images), there(texts)
        squares = clip.squares([images[i] for i in pictures])  # type: ignore[misc]
        return _Inputs(pictures, squares, said, clip.tokens([texts[i] for i in said]))


@dataclass(frozen=True)
class _Inputs:
    """What the towers are given: rows that have a picture, its squares; rows that have a text, its tokens."""

    pictures: np.ndarray
    squares: np.ndarray
    texts: np.ndarray
    tokens: np.ndarray


def there(rows: Sequence[Any]) -> np.ndarray:
    """Numbers of the rows that are not None, int64."""
    return np.flatnonzero(np.array([row is not None for row in rows], bool))


def _lost(image: bool, text: bool) -> str | None:
    """Why a row has no vector though it has a picture and a text."""
    of = " and ".join(what for what, bad in (("picture", image), ("text", text)) if bad)
    return f"clip: the model's vector of the {of} is not finite" if of else None


class ClipScore(WithClip):
    """`clip_score`: cosine of the vectors of picture and text, float32 in -1..1, rounded to 1e-4.

    Null where either is missing. The vectors are those of `clip_embedding` with the same parameters, which is run
    where they are not there yet; a threshold then opens this column only.

    Of a text other than the web's `clip_<text>_score`, a list where that is one. Vectors of those texts are made here
    and not kept: a text that is the web's has the score that the web's has.

    text: a column of texts, or of lists of them; left out, the web's.
    look: make the pictures' vectors here too, where only survivors have the text: those of all samples are not wanted.

    Example:
        ClipScore(model="ViT-L-14-quickgelu", weights="openai", name="l14")  # l14_score; LAION-5B kept above 0.26
    """

    text: Source = TEXT
    look: bool = False

    @property
    def column_name(self) -> str:
        return f"{self.name}_score" if self.text == TEXT else f"{self.name}_{self.text.field}_score"

    @property
    def _computes(self) -> bool:
        """Whether it makes vectors itself, and does not only read them."""
        return self.look or self.text != TEXT

    def identity(self) -> dict[str, Any]:
        """Of what only reads vectors the name alone: all else is in them."""
        if self._computes:
            return super().identity()
        return {**OfClip.identity(self), "parameters": {"name": self.name}}

    def reads(self) -> tuple[Column, ...]:
        if not self._computes:
            return (Column(self.embedding(), self.image), Column(self.embedding(), self.text_name))
        return (IMAGE if self.look else Column(self.embedding(), self.image), self.text)

    def writes(self) -> pa.Schema:
        if not self._computes:
            return pa.schema([(self.column_name, pa.float32())])
        return pa.schema([(self.column_name, column_type(self.text, pa.float32())), ("error", pa.string())])

    def need(self) -> Need:
        return super().need() if self._computes else Need()

    def open(self) -> None:
        if self._computes:
            super().open()

    def prepare(self, batch: Batch) -> None:
        if self._computes:
            super().prepare(batch)

    def run(self, batch: Batch) -> pa.Table:
        if not self._computes:
            image, text = (batch[column] for column in self.reads())
            return pa.table([cosine(image, text)], schema=self.writes())
        # Of pictures that others looked at beside this stage, why they do not decode is theirs to tell.
        with threads(self.cpus):
            given = self.given(batch)
            image, known = self._pictures(batch, given), batch.image_errors() if self.look else [None] * batch.num_rows
            vectors = self.clip().text_vectors(given.tokens, self.batch)
        values, errors = given.scores(image, vectors, known)
        column = column_like(batch, self.text, values, pa.float32())
        return pa.table([column, pa.array(errors, pa.string())], schema=self.writes())

    def inputs(self, batch: Batch) -> TextInputs:
        return TextInputs.of(batch, self.text, self.clip(), look=self.look)

    def _pictures(self, batch: Batch, given: TextInputs) -> pa.Array:
        """fixed_size_list<float16>, one a row: as they were kept, or made now."""
        if not self.look:
            return batch[self.reads()[0]]
        return self.column(batch, given.pictures, self.clip().image_vectors(given.squares, self.batch))[0]


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
