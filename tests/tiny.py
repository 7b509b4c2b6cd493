"""A tiny pool with real images, made directly: for tests of what comes after ingest."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.pool.columns import uid_digest, write_parquet
from curate.pool.facts import FACTS
from curate.pool.layout import CLAIMS, PIXELS, marker, shard_name
from curate.pool.pool import Pool
from curate.pool.tar import TarWriter

PIXELS_SETTINGS = {"resize": "none"}


def jpeg(seed: int, side: int = 16) -> bytes:
    """A small noisy JPEG."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", quality=90)
    return out.getvalue()


def sample(number: int, **more: Any) -> dict[str, Any]:
    """Facts and image of one sample; `more` overrides facts."""
    data = more.pop("image", None) or jpeg(number)
    uid = hashlib.md5(f"sample {number}".encode()).digest()
    facts = {
        "uid": uid, "url": f"http://127.0.0.1/{number}.jpg", "text": f"picture number {number}", "list": "tiny",
        "sha256": hashlib.sha256(data).hexdigest(), "received_bytes": len(data), "received_format": "jpeg",
        "original_width": 16, "original_height": 16, "phash64": number, "phash256": uid * 2, "phash_quality": 100,
        "width": 16, "height": 16, "format": "jpg", "bytes": len(data),
    }  # fmt: skip
    return facts | more | {"image": data}


def add_shard(pool: Pool, shard: int, samples: Sequence[dict[str, Any]]) -> None:
    """Write tar and marker of one shard, and claim its number."""
    out = io.BytesIO()
    rows = []
    with TarWriter(out) as tar:
        for s in samples:
            offset = tar.add(f"{s['uid'].hex()}.{s['format']}", s["image"])
            rows.append({k: v for k, v in s.items() if k != "image"} | {"tar_offset": offset})
    table = pa.Table.from_pylist(rows, schema=FACTS)
    digest = hashlib.sha256(out.getvalue()).hexdigest()[:8]
    name = f"{shard_name(shard)}.{digest}.tar"
    pool.storage.commit(f"{PIXELS}/{name}", out.getvalue())
    footer = {"rows": len(rows), "uid_digest": uid_digest(table.column("uid")), "tar": name, "tar_bytes": out.tell()}
    pool.storage.commit(marker(shard), write_parquet(table, footer))
    claim = {"list": "tiny", "hash": f"{shard:012x}", "first": shard, "shards": 1, "rows": len(rows)}
    pool.storage.commit(f"{CLAIMS}/{shard_name(shard)}.json", json.dumps(claim).encode())


def tiny_pool(url: str, shards: int = 3, rows: int = 20) -> Pool:
    """A pool of `shards` x `rows` samples numbered from 0."""
    pool = Pool.create(url, PIXELS_SETTINGS, rows)
    for s in range(shards):
        add_shard(pool, s, [sample(s * rows + i) for i in range(rows)])
    return pool
