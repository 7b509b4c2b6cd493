"""Pictures to ingest, and list shards that name them."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.pool.facts import LISTED


def picture(seed: int, width: int = 60, height: int = 40, format: str = "JPEG", **options: Any) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(out, format, **options)
    return out.getvalue()


def turned_picture() -> bytes:
    """60 x 40 pixels that EXIF says to show as 40 x 60."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture(0, exif=exif)


def listed(rows: list[dict[str, Any]]) -> pa.Table:
    """A list shard of these rows, with a further column."""
    whole = [{"uid": hashlib.md5(str(i).encode()).digest(), "text": f"caption {i}"} | r for i, r in enumerate(rows)]
    schema = LISTED.append(pa.field("similarity", pa.float32()))
    return pa.Table.from_pylist([{n: r.get(n) for n in schema.names} for r in whole], schema=schema)
