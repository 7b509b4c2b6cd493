"""Built-in recipes, and the one that `curate init` writes, over real photos with planted faults."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import curate
from curate.init import write_recipe
from curate.recipe import load_recipe
from curate.run.job import Job
from curate.run.progress import Progress

LONG_CAPTION = " ".join(["a dog runs over the grass"] * 60)  # 360 words
CHINESE = "一只狗在草地上奔跑"


def edited(photo: bytes, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").resize(size).save(out, "JPEG", quality=95)
    return out.getvalue()


@pytest.fixture(scope="module")
def photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos as they are and one of each fault; `planted` says which."""
    table = pq.read_table(shared_data / "images" / "pairs_flickr8k-00000.parquet", columns=["image", "captions"])
    images = table.column("image")[:20].to_pylist()
    captions = [c[0] for c in table.column("captions")[:20].to_pylist()]
    rows = [("good", images[i], captions[i]) for i in range(8)]
    rows += [
        ("tiny", edited(images[8], (60, 50)), captions[8]),
        ("wide", edited(images[9], (1000, 205)), captions[9]),
        ("short", images[10], "dog"),
        ("long", images[11], LONG_CAPTION),
        ("chinese", images[12], CHINESE),
        ("same_file", images[13], captions[13]),
        ("same_file", images[13], captions[14]),
        ("resized", images[15], captions[15]),
        ("resized", edited(images[15], (300, 250)), captions[16]),
    ]
    planted, image, text = zip(*rows, strict=True)
    path = tmp_path_factory.mktemp("photos") / "photos.parquet"
    pq.write_table(pa.table({"planted": planted, "image": pa.array(image, pa.binary()), "text": text}), path)
    return path


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One pool for all recipes."""
    return tmp_path_factory.mktemp("pool") / "pool"


def fates(pool: Path, recipe_path: str, *overrides: str) -> dict[str, list[str]]:
    """What was planted -> ids of the filters that dropped it, "" where kept."""
    recipe = load_recipe(recipe_path, [f"pool={pool}", "run.executor=inline", *overrides])
    with Progress(None, "test") as progress:
        outcome = Job(recipe).run(progress)
    assert not outcome.failed
    found = defaultdict(list)
    handle = curate.open(str(pool), outcome.pick.removeprefix("picks/"))
    for planted, dropped_by in handle.sql("SELECT planted, dropped_by FROM samples ORDER BY 2 NULLS FIRST").fetchall():
        found[planted].append(dropped_by or "")
    return dict(found)


def expected(**faults: str) -> dict[str, list[str]]:
    """All kept but one of each fault."""
    kept = {"good": 8, "tiny": 1, "wide": 1, "short": 1, "long": 1, "chinese": 1, "same_file": 2, "resized": 2}
    return {k: [""] * (n - (k in faults)) + [faults.get(k, "")] * (k in faults) for k, n in kept.items()}


FATES = {
    "no_filter": {},
    "datacomp_basic": {"tiny": "image_size", "wide": "image_size", "short": "caption_length", "chinese": "english"},
    "dedup": {"same_file": "exact", "resized": "near"},
    "web_default": {
        "tiny": "image_size", "wide": "image_size", "short": "caption_length", "chinese": "caption_length",
        "long": "caption_length", "same_file": "exact", "resized": "near",
    },
    "coyo_rules": {
        "tiny": "bytes", "wide": "image_size", "short": "caption_length", "chinese": "english",
        "long": "caption_length",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FATES)
def test_built_in_recipes_drop_what_they_say(photos: Path, pool: Path, name: str) -> None:
    assert fates(pool, name, f"source.path={photos}") == expected(**FATES[name])


def test_the_recipe_that_init_writes_runs(photos: Path, tmp_path: Path) -> None:
    write_recipe(str(photos), tmp_path / "mine.yaml")
    faults = {"tiny": "image_size", "wide": "image_size", "short": "caption_length", "chinese": "english"}
    assert fates(tmp_path / "pool", str(tmp_path / "mine.yaml")) == expected(same_file="exact", **faults)
