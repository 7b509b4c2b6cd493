"""Pictures and texts that a pool for recipes is made of: the real data beside the project, else the demo's scenes.

material = real(Path("../shared/data"))
material.pictures[0].captions, material.foreign["zh"][0], material.alts[0]
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

FLICKR, COCO, PRODUCTS = 700, 80, 240  # how many pictures of each source


@dataclass(frozen=True)
class Picture:
    """A picture as it was published, encoded, and what people wrote of it."""

    image: bytes
    captions: tuple[str, ...]
    rehosted: bytes | None = None

    def open(self) -> Image.Image:
        return Image.open(io.BytesIO(self.image)).convert("RGB")


@dataclass(frozen=True)
class Material:
    """pictures: first photos of people and places, then products. foreign: language -> texts that are not English.
    alts: alt-texts and titles of the web, on anything."""

    pictures: tuple[Picture, ...]
    foreign: dict[str, tuple[str, ...]]
    alts: tuple[str, ...]


def real(data: Path) -> Material:
    """1,020 real pictures with their captions, sentences in other languages, real alt-texts."""
    again = pq.read_table(data / "images/neardup_pairs.parquet", columns=["key_a", "image_b"]).to_pydict()
    rehosted = dict(zip(again["key_a"], again["image_b"], strict=True))
    flickr = _captioned(data / "images/pairs_flickr8k-00000.parquet")
    twice = [r for r in flickr if r["key"] in rehosted][:60]
    once = [r for r in flickr if r["key"] not in rehosted][: FLICKR - len(twice)]
    web = _captioned(data / "images/pairs_web_products_coco.parquet")
    coco = [r for r in web if r["source"] == "coco_mini"][:COCO]
    products = [r for r in web if r["source"] in ("fashion", "ikea_product")]
    products = random.Random(5).sample(products, PRODUCTS)
    rows = [*twice, *once, *coco, *products]
    pictures = tuple(Picture(r["image"], tuple(r["captions"]), rehosted.get(r["key"])) for r in rows)
    foreign = {
        "zh": tuple(max(r["captions_zh"], key=len) for r in once[:60]),
        "ar": tuple(max(r["captions_ar"], key=len) for r in once[60:100]),
        **_sentences(data / "text/langid.parquet"),
    }
    return Material(pictures, foreign, _alts(data / "text"))


def _captioned(path: Path) -> list[dict[str, Any]]:
    table = pq.read_table(path, columns=["key", "source", "captions", "captions_zh", "captions_ar", "image"])
    table = table.filter(pc.greater(pc.list_value_length(table.column("captions")), 0))
    rows: list[dict[str, Any]] = table.slice(0, 1200 if table.num_rows < 4000 else 4500).to_pylist()
    return rows


def _sentences(path: Path) -> dict[str, tuple[str, ...]]:
    table = pq.read_table(path)
    table = table.filter(pc.equal(table.column("kind"), "sentences"))
    found = {}
    for lang in ("de", "fr", "es", "ja", "ru", "hi"):
        of = table.filter(pc.equal(table.column("lang"), lang)).column("text").to_pylist()
        found[lang] = tuple(of[:14])
    return found


def _alts(folder: Path) -> tuple[str, ...]:
    laion = pq.read_table(folder / "laion_urls_10k.parquet").column("text").to_pylist()
    cc3m = pq.read_table(folder / "cc3m_validation.parquet").column("caption").to_pylist()
    titles = pq.read_table(folder / "openimages_xm3600_titles.parquet").column("title").to_pylist()
    some = random.Random(9).sample
    return tuple(t for t in [*some(laion, 150), *some(cc3m, 90), *some(titles, 60)] if t)


def drawn() -> Material:
    """The same of the demo's scenes, where the real data is not there."""
    from curate.demo.draw import draw, encoded
    from curate.demo.scenes import english, scene
    from curate.demo.tongues import LANGUAGES, translated

    scenes = [scene(i) for i in range(760)]
    pictures = [Picture(encoded(draw(s)), tuple(english(s, k) for k in range(5))) for s in scenes]
    foreign = {lang: tuple(translated(s, lang) for s in scenes[:30]) for lang in LANGUAGES}
    titles = [english(s, 3) for s in scenes[:300]]
    alts = [f"{a} - {b.title()} | Shop {i}" for i, (a, b) in enumerate(zip(titles[:150], titles[150:], strict=True))]
    return Material(tuple(pictures), foreign, tuple(alts))
