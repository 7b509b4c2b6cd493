"""What a teacher knows, kept beside the pictures: its vectors of augmented pictures, and of several captions.

    captions:
      make:
        - augmentations: {count: 10}
        - caption: {model: coca_ViT-L-14, ..., n: 5, name: coca}
        - teacher_images: {model: ViT-L-14-quickgelu, weights: openai, name: openai, augmentations: augmentations}
        - teacher_texts: {model: ViT-L-14-quickgelu, weights: openai, name: openai, text: coca}

Reinforced datasets (Vasu et al. 2023, arXiv:2311.17049, MobileCLIP, section 3; DataCompDR: five captions of a CoCa, ten
or thirty augmentations, two teachers of 768 numbers each). A student is trained on the same augmentations
(stages/augment.py) against these vectors, and the teachers never run again. Departs: float16 in place of bfloat16, as
all vectors of a pool are: of numbers in -1..1 it is the finer of the two; teachers' vectors stand apart, not
concatenated. Both stages are dear, so they are asked about survivors only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.augment import augmented
from stages.base import IMAGE, TEXT, Batch, Column, Source
from stages.clip import WithClip, there
from stages.clip_model import threads
from stages.clip_weights import width
from stages.text_source import column_like, column_type
from stages.texts import texts_of

Pair = tuple[np.ndarray, Mapping[str, Any]]  # a picture, uint8 (height, width, 3), and an augmentation

BAD = "teacher: the model's vector is not finite"


class OfTeacher(WithClip):
    """A stage that keeps vectors of one teacher; parameters are those of `clip_embedding`."""

    sparse: ClassVar[bool] = True

    def vectors(self, found: np.ndarray, places: np.ndarray, count: int) -> tuple[pa.Array, np.ndarray]:
        """(float16 vectors at their places of `count`, else null; which places have one that is not finite)."""
        dim = width(self.model, self.weights)
        assert dim is not None  # open() has read the file
        out, known = np.zeros((count, dim), np.float16), np.zeros(count, bool)
        if len(places):
            out[places], known[places] = found, True
        finite = np.asarray(np.isfinite(out).all(axis=1))
        out[~finite] = 0
        mask = pa.array(~(known & finite))
        return pa.FixedSizeListArray.from_arrays(pa.array(out.reshape(-1), pa.float16()), dim, mask=mask), ~finite


class TeacherImages(OfTeacher):
    """`<name>_augmented`: list of unit vectors, float16, one for each augmentation of `augmentations`, in its order.

    Null where no picture decodes, or where the augmentations are null; a single vector is null, with an `error`, where
    the model's is not finite. The crop is scaled to the teacher's size and then operated upon, nothing else is cut.

    augmentations: the column that `augmentations` writes.

    Example:
        TeacherImages(model="ViT-L-14-quickgelu", weights="openai", name="openai", augmentations="augmentations")
    """

    augmentations: Source

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE, self.augmentations)

    def writes(self) -> pa.Schema:
        return pa.schema([(f"{self.name}_augmented", pa.list_(self.vector_type())), ("error", pa.string())])

    def inputs(self, batch: Batch) -> _Wanted:
        """Decodes the pictures; squares are many times as large, so that they are made where they are used."""
        images, asked = batch.images(), batch[self.augmentations].to_pylist()
        rows = there([None if image is None else a for image, a in zip(images, asked, strict=True)])
        counts = np.zeros(batch.num_rows, np.int64)
        counts[rows] = [len(asked[row]) for row in rows]
        pairs = [(image, one) for row in rows if (image := images[row]) is not None for one in asked[row]]
        return _Wanted(rows, counts, pairs)

    def squares(self, pairs: Sequence[Pair]) -> Iterator[np.ndarray]:
        """uint8 (n, size, size, 3), at most `batch` at once; threads make those of the next while the model looks."""
        size, coming = self.clip().fit.size, deque[list[Future[np.ndarray]]]()
        with ThreadPoolExecutor(self.cpus, thread_name_prefix="augment") as pool:
            for start in range(0, len(pairs), self.batch):
                coming.append([pool.submit(augmented, *pair, size) for pair in pairs[start : start + self.batch]])
                if len(coming) > 1:
                    yield np.stack([one.result() for one in coming.popleft()])
            while coming:
                yield np.stack([one.result() for one in coming.popleft()])

    def run(self, batch: Batch) -> pa.Table:
        with threads(self.cpus):
            given = self.given(batch)
            parts = [self.clip().image_vectors(squares, self.batch) for squares in self.squares(given.pairs)]
        found = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
        items, lost = self.vectors(found, np.arange(len(found)), len(found))
        absent = np.ones(batch.num_rows, bool)
        absent[given.rows] = False
        offsets = pa.array(np.concatenate([[0], np.cumsum(given.counts)]), pa.int32())
        lists = pa.ListArray.from_arrays(offsets, items, mask=pa.array(absent))
        bad = set(np.repeat(np.arange(batch.num_rows), given.counts)[lost].tolist())
        errors = [why or (BAD if row in bad else None) for row, why in enumerate(batch.image_errors())]
        return pa.table([lists, pa.array(errors, pa.string())], schema=self.writes())


@dataclass(frozen=True)
class _Wanted:
    """Rows with a picture and augmentations; how many of these each row has; row after row, a picture and one each."""

    rows: np.ndarray
    counts: np.ndarray
    pairs: list[Pair]


class TeacherTexts(OfTeacher):
    """`<name>_<text>`: the unit vector of a text, float16; of a list of texts, a list as long.

    Null where the text is null. The web text's own vector is in `clip_embedding`; this one is for captions.

    text: a column of texts; left out, the web's.

    Example:
        TeacherTexts(model="ViT-L-14-quickgelu", weights="openai", name="openai", text="coca")       # openai_coca
    """

    text: Source = TEXT

    def reads(self) -> tuple[Column, ...]:
        return (self.text,)

    def writes(self) -> pa.Schema:
        kind = column_type(self.text, self.vector_type())
        return pa.schema([(f"{self.name}_{self.text.field}", kind), ("error", pa.string())])

    def inputs(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """(places of the texts that are there, their tokens)."""
        texts, _ = texts_of(batch[self.text])
        places = there(texts)
        return places, self.clip().tokens([text for text in texts if text is not None])

    def run(self, batch: Batch) -> pa.Table:
        texts, offsets = texts_of(batch[self.text])
        with threads(self.cpus):
            places, tokens = self.given(batch)
            found = self.clip().text_vectors(tokens, self.batch)
        items, lost = self.vectors(found, places, len(texts))
        bad = pc.is_in(
            pa.array(np.arange(batch.num_rows)), pa.array(np.searchsorted(offsets, np.flatnonzero(lost), "right") - 1)
        )
        errors = pc.if_else(bad, pa.scalar(BAD), pa.scalar(None, pa.string()))
        return pa.table([column_like(batch, self.text, items, items.type), errors], schema=self.writes())
