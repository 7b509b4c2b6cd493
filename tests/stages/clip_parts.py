"""A tiny CLIP of open_clip's and one of ours, with random weights that are made here, and pictures to show them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stages.base import Batch, Column
from stages.clip import ClipEmbedding, ClipScore

DIM = 24
MODEL = "tiny-for-stages"
CONFIG = {
    "embed_dim": DIM,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TEXTS = ["a red bicycle", None, "", "犬 🐕", "a dog on a beach, a very long story of it " * 9, "it's 'quoted'", "x"]


@dataclass(frozen=True)
class Weights:
    """A file of open_clip's model MODEL, and one of towers of ours."""

    open_clip: str
    ours: str


def make_weights(folder: Path) -> Weights:
    """Registers MODEL in this process."""
    torch = pytest.importorskip("torch", reason="torch is not installed: the CLIP stages are not tested")
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: the CLIP stages are not tested")
    from training_smoke.config import Towers
    from training_smoke.towers import build
    from training_smoke.towers_file import save_towers

    (folder / f"{MODEL}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{MODEL}.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        torch.save(open_clip.create_model(MODEL).state_dict(), folder / "weights.pt")
    tiny = Towers("tiny-conv", image_size=16, context=8)
    save_towers(folder / "filter.pt", build(tiny, 3), tiny, {})
    return Weights(str(folder / "weights.pt"), str(folder / "filter.pt"))


def picture(number: int, width: int = 40, height: int = 30) -> bytes:
    """Smooth colours that differ by number, as PNG."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, number * 67 % 256)], -1).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "PNG")
    return out.getvalue()


def batch(texts: list[str | None] = TEXTS, broken: tuple[int, ...] = (3,)) -> Batch:
    images = [b"no picture" if i in broken else picture(i, 20 + 9 * i) for i in range(len(texts))]
    return Batch.of(pa.table({"text": pa.array(texts, pa.string())}), images)


def scored(stage: ClipScore, rows: Batch) -> tuple[pa.Table, list[float | None]]:
    """(vectors, scores), as a pass over a shard makes them."""
    embedding = stage.embedding()
    table = embedding.run(rows)
    rows.add({Column(embedding, n): table.column(n).combine_chunks() for n in table.column_names})
    return table, stage.run(rows).column(0).to_pylist()


def matrix(table: pa.Table, name: str) -> np.ndarray:
    """float32 (n, dim); NaN where null."""
    dim = table.schema.field(name).type.list_size
    return np.array([[np.nan] * dim if v is None else v for v in table.column(name).to_pylist()], np.float32)


def embedding(**parameters: Any) -> ClipEmbedding:
    return ClipEmbedding(**{"batch": 4, **parameters})
