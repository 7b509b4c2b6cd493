"""Which sentence of a document each of its pictures belongs to.

    assign(similarities)                         # float [pictures, sentences] -> int64 [pictures]

MMC4 (Zhu et al. 2023, section 2): the assignment with the largest sum of CLIP similarities in which no sentence has two
pictures; where there are more pictures than sentences, those left over go to the sentence most like them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import yaml

from curate.errors import UserError
from curate.interchange.interleaved import Document, Picture
from curate.interchange.interleaved_kept import Kept
from curate.pool.columns import read_table
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from curate.recipe import Recipe, recipe_from
from curate.run.prints import Prints
from stages.base import fact, shard_name

if TYPE_CHECKING:
    from stages.clip import ClipEmbedding

SHARDS = 16  # whose vectors are held
STORED = "stored"
ROUND = 4  # digits of a similarity, as those of scores


def assign(similarities: np.ndarray) -> np.ndarray:
    """The sentence of each picture: int64 [pictures].

    Args:
        similarities: float [pictures, sentences], at least one sentence.

    Raises:
        ValueError: no sentences, or a similarity that is not finite.
    """
    from scipy.optimize import linear_sum_assignment

    matrix = np.asarray(similarities, np.float64)
    if matrix.ndim != 2 or (matrix.shape[0] and not matrix.shape[1]) or not np.isfinite(matrix).all():
        raise ValueError(f"similarities {matrix.shape} are not finite numbers of pictures x sentences")
    if not len(matrix):
        return np.zeros(0, np.int64)
    found = matrix.argmax(axis=1)  # of pictures that are left over
    pictures, sentences = linear_sum_assignment(matrix, maximize=True)
    found[pictures] = sentences
    return found.astype(np.int64)


def assigned(document: Document, similarities: np.ndarray) -> Document:
    """The document with its pictures at the sentences that `assign` gives them; without texts as it is."""
    if not document.texts:
        return document
    where = assign(similarities)
    values = np.asarray(similarities, np.float64)
    pictures: list[Picture] = [
        replace(picture, sentence=int(at), similarity=float(row[at]))
        for picture, at, row in zip(document.pictures, where, values, strict=True)
    ]
    return document.placed(pictures, values)


@dataclass
class Matcher:
    """Assigns by vectors of pictures that the pool has, and of sentences that the same CLIP makes.

    folder, field: of the column with the vectors. stage: the `clip_embedding` that made it.
    """

    pool: Pool
    folder: str
    field: str
    stage: ClipEmbedding
    kept: Kept

    def __post_init__(self) -> None:
        self._vectors = lru_cache(SHARDS)(self._read)

    @classmethod
    def of(cls, pool: Pool, pick: str, column: str, kept: Kept, device: str = "cpu") -> Matcher:
        """Of a column that a `clip_embedding` or `clip_score` of the pick's recipe writes.

        Raises:
            UserError: the recipe has no such column, or the CLIP cannot be had.
        """
        from stages.clip import ClipEmbedding, ClipScore

        owner = _recipe(pool, pick).known.get(column, fact(column)).owner
        if not isinstance(owner, ClipEmbedding | ClipScore):
            raise UserError(
                f"--assign {column}: the recipe of {pick} has no CLIP that writes it: name a `clip_embedding` or "
                "`clip_score` under its `columns:`, and run it"
            )
        stage = (owner.embedding() if isinstance(owner, ClipScore) else owner).model_copy(
            update={"device": device, "compiled": False}
        )
        try:
            stage.open()
            folder = Prints().stage_folder(stage)
        except ValueError as e:
            raise UserError(f"--assign {column}: its CLIP cannot be loaded: {e}") from e
        return cls(pool, folder, stage.image, stage, kept)

    def similarities(self, document: Document, samples: Sequence[int]) -> np.ndarray:
        """float64 [pictures, sentences]: cosines, rounded to 1e-4.

        Args:
            samples: numbers in `kept` of the samples of the document's pictures.

        Raises:
            UserError: a picture has no vector.
        """
        tokens = self.stage.clip().tokens(document.texts)
        texts = self.stage.text_vectors(tokens).astype(np.float64)
        images = np.stack([self._vector(n) for n in samples]).astype(np.float64)
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        return np.round(images @ texts.T, ROUND)

    def _vector(self, sample: int) -> np.ndarray:
        shard, row = int(self.kept.shard[sample]), int(self.kept.row[sample])
        there, vectors = self._vectors(shard)
        if not there[row] or not vectors[row].any():
            (uid,) = self.kept.uid([sample])
            raise UserError(
                f"{self.field}: the kept picture {uid.hex()} has no vector; let a filter drop such pictures"
            )
        vector: np.ndarray = vectors[row]
        return vector

    def _read(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """(which rows have a vector, float16 [rows, dim])."""
        rel = part_file(self.folder, shard_name(shard))
        if not self.pool.storage.exists(rel):
            raise UserError(
                f"{self.pool.storage}/{rel}: no vectors; run the recipe, or put the weights back that it ran with"
            )
        table, footer = read_table(self.pool.storage, rel, [self.field])
        expected = self.pool.facts(shard, ["uid"])[1]
        if (footer["rows"], footer["uid_digest"]) != (expected["rows"], expected["uid_digest"]):
            raise UserError(f"{self.folder}: shard {shard} belongs to other rows; delete its file and run again")
        column: pa.FixedSizeListArray = table.column(self.field).combine_chunks()
        dim = column.type.list_size
        values = column.values.slice(column.offset * dim, len(column) * dim).to_numpy(zero_copy_only=False)
        return column.is_valid().to_numpy(zero_copy_only=False), values.reshape(-1, dim)


def _recipe(pool: Pool, pick: str) -> Recipe:
    """The recipe as it was when the pick was made."""
    return recipe_from(yaml.safe_load(pool.about(pick)["yaml"]))
