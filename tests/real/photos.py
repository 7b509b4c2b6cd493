"""Real photos and captions from the data beside the project, some of each kind.

chosen = photos(shared_data)
chosen[0].key, chosen[0].image, chosen[0].captions
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

REHOSTED = 40  # photos of which somebody else published a copy of their own
COLUMNS = ["key", "source", "captions", "captions_zh", "captions_ar", "image"]


@dataclass(frozen=True)
class Photo:
    """One picture of the data. `rehosted`: the same picture as somebody else published it, or None."""

    key: str
    source: str
    image: bytes
    captions: tuple[str, ...]
    chinese: tuple[str, ...] = ()
    arabic: tuple[str, ...] = ()
    rehosted: bytes | None = None

    def open(self) -> Image.Image:
        return Image.open(io.BytesIO(self.image)).convert("RGB")


def photos(data: Path) -> list[Photo]:
    """599 photos, in an order of their own: 300 of Flickr8k, of which 40 were re-hosted, 200 products, 99 of COCO."""
    again = _rehosted(data)
    flickr = list(_read(data / "images/pairs_flickr8k-00000.parquet", again))
    web = list(_read(data / "images/pairs_web_products_coco.parquet", again))
    of = {s: [p for p in web if p.source == s] for s in ("fashion", "ikea_product", "coco_mini")}
    twice = [p for p in flickr if p.rehosted]
    once = [p for p in flickr if not p.rehosted]
    found = [*twice[:REHOSTED], *once[:260], *of["fashion"][:80], *of["ikea_product"][:120], *of["coco_mini"]]
    random.Random(7).shuffle(found)
    return found


def _rehosted(data: Path) -> dict[str, bytes]:
    table = pq.read_table(data / "images/neardup_pairs.parquet", columns=["key_a", "image_b"])
    return dict(zip(*(table.column(n).to_pylist() for n in ("key_a", "image_b")), strict=True))


def _read(path: Path, again: dict[str, bytes]) -> Iterator[Photo]:
    table = pq.read_table(path, columns=COLUMNS)
    table = table.filter(pc.greater(pc.list_value_length(table.column("captions")), 0))
    for row in table.to_pylist():
        words = (tuple(row[n] or ()) for n in ("captions", "captions_zh", "captions_ar"))
        yield Photo(row["key"], row["source"], row["image"], *words, rehosted=again.get(row["key"]))


def encoded(image: Image.Image, format: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures of one size, in dB."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)
