"""Evaluation sets of coloured pictures in the layouts that users have, and a model that sees nothing but colour."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def picture(colour: Sequence[int], size: tuple[int, int] = (12, 9), form: str = "PNG") -> bytes:
    """One flat colour, encoded."""
    stream = io.BytesIO()
    Image.new("RGB", size, tuple(colour)).save(stream, form)
    return stream.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_folder(
    folder: Path,
    samples: Sequence[Mapping[str, bytes]],
    *,
    split: str = "test",
    shards: int = 2,
    kind: str | None = None,
    classnames: Sequence[str] = tuple(COLOURS),
    templates: Sequence[str] = ("a {c} thing", "{c}"),
) -> str:
    """A folder of CLIP_benchmark's layout; samples are extension -> bytes, dealt to shards in order."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    if kind != "retrieval":
        (folder / "classnames.txt").write_text("\n".join(classnames) + "\n")
        (folder / "zeroshot_classification_templates.txt").write_text("\n".join(templates) + "\n")
    if kind:
        (folder / "dataset_type.txt").write_text(f"{kind}\n")
    size = -(-len(samples) // shards)
    for shard in range(shards):
        some = list(enumerate(samples))[shard * size : (shard + 1) * size]
        members = {f"s{i:07d}.{extension}": data for i, sample in some for extension, data in sample.items()}
        write_tar(folder / split / f"{shard}.tar", members)
    (folder / split / "nshards.txt").write_text(f"{shards}\n")
    return str(folder)


def coloured(labels: Sequence[int], shown: Sequence[str] | None = None) -> list[dict[str, bytes]]:
    """Samples with .png and .cls; `shown` are the colours in the pictures, those of the labels where not given."""
    colours = shown or [list(COLOURS)[label] for label in labels]
    return [{"png": picture(COLOURS[c]), "cls": str(n).encode()} for c, n in zip(colours, labels, strict=True)]


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(values))
    return stream.getvalue()


def write_arrow(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """As `datasets` writes its cache: an Arrow stream."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([dict(row) for row in rows])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


class ColourModel:
    """Features are how much more red, green and blue there is than grey, in a picture or in the words of a text."""

    image_size = 8

    def __init__(self) -> None:
        self.pictures_seen = 0

    def encode_images(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, self.image_size, self.image_size)
        self.pictures_seen += len(images)
        return images.float().mean((2, 3)) / 255 - 0.3  # [n, 3], of any length

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self._meaning(text.lower()) for text in texts])

    def _meaning(self, text: str) -> Tensor:
        words = [torch.tensor(c) / 255 - 0.3 for name, c in COLOURS.items() if name in text]
        return torch.stack(words).mean(0) if words else torch.full((3,), 0.1)


class BrokenModel(ColourModel):
    """Diverged: its features are NaN."""

    def encode_images(self, images: Tensor) -> Tensor:
        return super().encode_images(images) * torch.nan
