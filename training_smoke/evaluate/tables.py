"""Evaluation sets that Hugging Face `datasets` left in its cache, as DataComp's download_evalsets.py fetches them.

    CaptionTable("evalsets/hf_cache/nlphuji___flickr_1k_test_image_text_retrieval").samples()
    AssociationTable("evalsets/hf_cache/nlphuji___winogavil").instances()

Any folder will do that has the test split as .arrow or .parquet files with the columns image, caption (those of
nlphuji/flickr_1k_test_... and nlphuji/mscoco_2014_5k_test_...), or cue, candidates, candidate_images, associations
(nlphuji/winogavil). `datasets` itself is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training_smoke.errors import TrainingError
from training_smoke.evaluate.folders import Sample


@dataclass(frozen=True)
class CaptionTable:
    """Pictures with several captions each: a retrieval set."""

    path: str

    def samples(self, split: str = "test") -> Iterator[Sample]:
        """
        Raises:
            TrainingError: no such files, columns are missing, or a picture has no caption.
        """
        for number, row in enumerate(_rows(self.path, split, ("image", "caption"))):
            if not row["caption"]:
                raise TrainingError(f"{self.path}:{number} has no caption: give it one, or take it out of the set")
            yield Sample(f"{self.path}:{number}", _bytes(row["image"]), tuple(row["caption"]))


@dataclass(frozen=True, slots=True)
class Instance:
    """A cue, the pictures to choose from as encoded bytes, and bool [candidates]: those that go with it."""

    name: str
    cue: str
    images: tuple[bytes, ...]
    associated: np.ndarray


@dataclass(frozen=True)
class AssociationTable:
    """WinoGAViL."""

    path: str

    def instances(self) -> Iterator[Instance]:
        """
        Raises:
            TrainingError: no such files, or columns are missing.
        """
        columns = ("cue", "candidates", "candidate_images", "associations")
        for number, row in enumerate(_rows(self.path, "test", columns)):
            associated = np.isin(np.asarray(row["candidates"]), np.asarray(row["associations"]))
            images = tuple(_bytes(image) for image in row["candidate_images"])
            yield Instance(f"{self.path}:{number}", row["cue"], images, associated)


def _rows(folder: str, split: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    fs, root = fsspec.url_to_fs(folder)
    within = {f: PurePosixPath(f).relative_to(PurePosixPath(root)) for f in sorted(fs.find(root))}
    files = [f for f, path in within.items() if path.suffix in (".arrow", ".parquet") and _is_of(split, path)]
    if not files:
        raise TrainingError(f"{folder} has no .arrow or .parquet files of the {split} split")
    for file in files:
        with fs.open(file, "rb") as stream:
            for batch in _batches(file, stream):
                if lacking := [c for c in columns if c not in batch.schema.names]:
                    raise TrainingError(f"{file} has no column {', '.join(lacking)}; it has {batch.schema.names}")
                yield from batch.select(list(columns)).to_pylist()


def _is_of(split: str, path: PurePosixPath) -> bool:
    """<builder>-test.arrow, test-00000-of-00002.parquet or test/0000.parquet; not cache-<hash>.arrow, left by maps."""
    return split == path.parent.name or split in re.split(r"[-.]", path.name)


def _batches(file: str, stream: Any) -> Iterator[pa.RecordBatch]:
    try:
        if file.endswith(".parquet"):
            yield from pq.ParquetFile(stream).iter_batches(batch_size=64)
        else:
            yield from pa.ipc.open_stream(stream)
    except pa.ArrowInvalid as e:
        raise TrainingError(f"{file} is broken ({e}): download it again") from e


def _bytes(image: dict[str, Any]) -> bytes:
    """An image column holds {bytes, path}; where bytes are null, the path names an extracted file."""
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    with fsspec.open(image["path"], "rb") as file:
        return bytes(file.read())
