"""Real photos that lie in parquet with their bytes: kept as they are, and made smaller by each rule."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.real.jobs import packed, run, stored
from tests.real.photos import photos, psnr

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\..*")


def test_photos_in_parquet_with_their_bytes_keep_all_captions(shared_data: Path, tmp_path: Path) -> None:
    """No web: the pictures lie in the parquet, five captions each; the first is the text and all five stay."""
    path = shared_data / "images/pairs_web_products_coco.parquet"
    source = pq.read_table(path, columns=["key", "captions", "meta", "image", "sha256"]).slice(4300, 271).to_pylist()
    pq.write_table(pq.read_table(path).slice(4300, 271), tmp_path / "photos.parquet")
    done = run(
        {
            "recipe": "bytes",
            "pool": str(tmp_path / "pool"),
            "shard_size": 100,
            "source": {"path": str(tmp_path / "photos.parquet"), "text": "captions", "url": None},
            "ingest": {"resize": "none"},
            "filters": [{"image_size": {"max_aspect": 1.5}}],
            "pack": {"samples": 1000},
        },
        tmp_path,
    )
    pictures = stored(done.pool)
    samples = {s["uid"]: s for s in done.rows("SELECT * FROM samples")}
    wanted = {hashlib.md5(f"{s['captions'][0]}sha256:{s['sha256']}".encode()).hexdigest(): s for s in source}
    assert samples.keys() == pictures.keys() == wanted.keys()
    for uid, s in wanted.items():
        found = samples[uid]
        assert pictures[uid] == s["image"]
        assert (found["text"], found["captions"]) == (s["captions"][0], s["captions"])
        assert (found["key"], found["meta"], found["sha256"]) == (s["key"], s["meta"], s["sha256"])
        long, short = max(found["width"], found["height"]), min(found["width"], found["height"])
        assert (found["dropped_by"] == "image_size") == (long > 1.5 * short)
    in_pack = packed(done.pool / done.manifest["folder"])
    assert in_pack.keys() == {uid for uid, s in samples.items() if s["dropped_by"] is None}
    assert all(p.about["captions"] == wanted[uid]["captions"] for uid, p in in_pack.items())
    assert done.said[0].startswith(f"list photos: {len(wanted)} new samples in 3 shards")


@pytest.mark.parametrize("how", ["long", "short", "border", "crop"])
def test_made_smaller_a_picture_stays_the_same_picture(how: str, shared_data: Path, tmp_path: Path) -> None:
    """Sizes by the rule; pixels within 27 dB of what another resampler makes of the source."""
    side = 160
    some = [p for p in photos(shared_data) if p.source in ("coco_mini", "fashion")][:40]
    table = {"text": [p.captions[0] for p in some], "image": [p.image for p in some], "key": [p.key for p in some]}
    pq.write_table(pa.table(table), tmp_path / "some.parquet")
    done = run(
        {
            "recipe": "smaller",
            "pool": str(tmp_path / "pool"),
            "source": {"path": str(tmp_path / "some.parquet"), "url": None},
            "ingest": {"resize": how, "side": side},
        },
        tmp_path,
    )
    by_key = {p.key: p for p in some}
    pictures = stored(done.pool)
    samples = done.rows("SELECT * FROM samples")
    assert len(samples) == len(some)
    for s in samples:
        source = by_key[s["key"]].open()
        found = np.asarray(Image.open(io.BytesIO(pictures[s["uid"]])).convert("RGB"))
        wanted = np.asarray(_resized(source, how, side))
        assert (s["original_width"], s["original_height"]) == source.size
        assert (s["height"], s["width"], 3) == found.shape == wanted.shape
        assert psnr(found, wanted) > 27, (s["key"], psnr(found, wanted))


def _resized(image: Image.Image, how: str, side: int) -> Image.Image:
    """The rule, by Pillow's BOX filter on the whole picture."""
    reference = min(image.size) if how in ("short", "crop") else max(image.size)
    factor = min(1.0, side / reference)
    size = tuple(max(1, round(n * factor)) for n in image.size)  # half to even, as img2dataset rounds
    small = image.resize(size, Image.Resampling.BOX)  # type: ignore[arg-type]
    if how == "border":
        white = Image.new("RGB", (side, side), "white")
        white.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
        return white
    if how == "crop":
        left, top = (small.width - side) // 2, (small.height - side) // 2
        return small.crop((left, top, left + side, top + side))
    return small
