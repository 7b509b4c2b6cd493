"""A small given network on stored vectors, to one number a sample: aesthetic, NSFW and watermark heads.

    columns:
      - clip_embedding: {model: ViT-L-14-quickgelu, weights: openai, name: l14}
      - embedding_head: {vectors: l14_image, weights: heads/aesthetic_v2.pth, kind: aesthetic_v2, name: aesthetic}
      - embedding_head: {vectors: l14_image, weights: heads/nsfw_image.pt, kind: nsfw, name: nsfw}

kind, each as its authors' code has it:
- affine: weight . v + bias. LAION's aesthetic v1 (`sa_0_4_vit_l_14_linear.pth`): 0 to 10, on OpenAI's L/14.
- aesthetic_v2: five linear layers with nothing between them (christophschuhmann/improved-aesthetic-predictor,
  `simple_inference.py`; its weights: `sac+logos+ava1-l14-linearMSE.pth`), which are one affine map, and are folded
  into it. v1 and v2 have different scales.
- nsfw: batch normalisation with eps 0, 64, 512, 256, 1, ReLU between, sigmoid (mlfoundations/dataset2metadata,
  `models.py`). LAION calls above 0.5 unsafe; DataComp drops above 0.1, with weights that it trained anew.
- mlp: any chain of linear layers, ReLU between, `output` at the end; batch normalisation stands right before a layer.
No weights come with the project. A head belongs to the CLIP that it was trained on: on vectors of another one its
numbers mean nothing, and only another length of vector is noticed. LAION's own NSFW head is a Keras file: convert it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator

from stages.base import Batch, Column, Source, Stage
from stages.clip_weights import settled
from stages.head_weights import Layer, file_of, head_layers

Kind = Literal["affine", "aesthetic_v2", "nsfw", "mlp"]
Output = Literal["none", "sigmoid"]


class EmbeddingHead(Stage):
    """Column `<name>`: float32, rounded to 1e-4; null where the vector is, or where the answer is not finite.

    vectors: a column of vectors. weights: a file (.pt or .pth with a state dict, .safetensors, .npz): layers in the
    order in which they are computed. kind: how they are computed; see above. name: of the column. normalise: make
    vectors unit length first, as both authors do. output: of an mlp.

    Computed in float64, so that a row's company in a batch changes nothing that is left after rounding.

    Example:
        EmbeddingHead(vectors="l14_image", weights="heads/aesthetic_v1.pth", kind="affine", name="aesthetic")
    """

    version: ClassVar[int] = 1

    vectors: Source
    weights: str
    kind: Kind
    name: str = Field(pattern="^[a-z][a-z0-9_]{0,63}$")
    normalise: bool = True
    output: Output = "none"

    _layers: tuple[Layer, ...] | None = PrivateAttr(default=None)

    @field_validator("weights")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return settled(value)

    def files(self) -> tuple[str, ...]:
        """The weights.

        Raises:
            ValueError: there is no such file.
        """
        return (str(file_of(self.weights)),)

    def identity(self) -> dict[str, Any]:
        """With the file by what is in it."""
        found = super().identity()
        found["parameters"]["weights"] = self.files()[0]
        return found

    def reads(self) -> tuple[Column, ...]:
        return (self.vectors,)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.float32())])

    def open(self) -> None:
        """Load the weights.

        Raises:
            ValueError: they cannot be read, are of another kind, or want vectors of another length; says what to do.
        """
        layers = head_layers(self.weights, self.kind)
        owner = self.vectors.owner
        kind = owner.writes().field(self.vectors.field).type if owner is not None else pa.null()
        if pa.types.is_fixed_size_list(kind):
            self._fits(layers, kind.list_size)
        self._layers = layers

    def run(self, batch: Batch) -> pa.Table:
        if self._layers is None:
            self.open()
        assert self._layers is not None
        given, scores = batch[self.vectors], np.full(batch.num_rows, np.nan)
        known = given.is_valid().to_numpy(zero_copy_only=False)
        vectors = _matrix(given.drop_null())
        if len(vectors):
            self._fits(self._layers, vectors.shape[1])
            scores[known] = self._scores(vectors)
        scores[~np.isfinite(scores)] = np.nan
        return pa.table([pa.array(np.round(scores, 4).astype(np.float32), from_pandas=True)], schema=self.writes())

    def _scores(self, vectors: np.ndarray) -> np.ndarray:
        """float64 (n, dim) -> (n,)."""
        assert self._layers is not None
        with np.errstate(all="ignore"):  # of a vector of zeros, or of weights that are no numbers: null
            values = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if self.normalise else vectors
            for number, layer in enumerate(self._layers):
                values = (np.maximum(values, 0) if number else values) @ layer.weight.T + layer.bias
            scores = values[:, 0]
            return 1 / (1 + np.exp(-scores)) if self.kind == "nsfw" or self.output == "sigmoid" else scores

    def _fits(self, layers: tuple[Layer, ...], dim: int) -> None:
        wanted = layers[0].weight.shape[1]
        if dim != wanted:
            raise ValueError(
                f"embedding_head {self.name}: {self.weights} is for vectors of {wanted} numbers, and "
                f"{self.vectors.field!r} has {dim}: it was trained on another CLIP"
            )


def _matrix(vectors: pa.Array) -> np.ndarray:
    """float64 (n, dim) of a list without nulls, of one length."""
    flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return flat.reshape(len(vectors), -1) if len(vectors) else np.zeros((0, 0))
