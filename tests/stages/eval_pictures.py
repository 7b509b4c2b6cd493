"""Pictures for tests of decontamination, as photos are in what hashes see, and the changes that copies go through."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from stages.decode import decode
from stages.fingerprint import of_pixels

FACTS = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("sha256", pa.string()),
        ("phash64", pa.uint64()),
        ("phash256", pa.binary(32)),
        ("phash_quality", pa.uint8()),
    ]
)


def photo(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """Shapes of all sizes in all colours over a slope, a little blurred: its spectrum falls as that of photos does."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(rng.integers(0, 256, 3).tolist()))
    brush = ImageDraw.Draw(image)
    for size in np.geomspace(width, 6, 60):
        x, y = rng.uniform(-size / 2, width), rng.uniform(-size / 2, height)
        box = (x, y, x + size * rng.uniform(0.3, 1), y + size * rng.uniform(0.3, 1))
        draw = brush.ellipse if rng.random() < 0.5 else brush.rectangle
        draw(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image.filter(ImageFilter.GaussianBlur(1))


def encoded(image: Image.Image, format: str = "JPEG", quality: int = 95) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **({} if format == "PNG" else {"quality": quality}))
    return out.getvalue()


def easy(image: Image.Image) -> dict[str, bytes]:
    """The spec's transforms that no hash may miss (dedup.md 1.1), and the eight orientations."""
    w, h = image.size
    nearest = image.resize((w // 4, h // 4), Image.Resampling.NEAREST)
    changed = {
        "resize_0.25": image.resize((w // 4, h // 4)),
        "resize_0.5": image.resize((w // 2, h // 2)),
        "resize_2": image.resize((2 * w, 2 * h)),
        "resize_0.25_nearest": nearest,
        "aspect_0.8": image.resize((w * 8 // 10, h)),
        "watermark_small": _marked(image, 0.15),
        "bright_1.3": ImageEnhance.Brightness(image).enhance(1.3),
        "bright_0.7": ImageEnhance.Brightness(image).enhance(0.7),
        "contrast_1.4": ImageEnhance.Contrast(image).enhance(1.4),
        "gray": image.convert("L"),
        "blur_2": image.filter(ImageFilter.GaussianBlur(2)),
    }
    changed |= {f"turned_{t.name.lower()}": image.transpose(t) for t in Image.Transpose}
    found = {f"jpeg_q{q}": encoded(image, quality=q) for q in (95, 75, 50, 30)}
    found["webp_q50"] = encoded(image, "WEBP", 50)
    return found | {name: encoded(i, quality=90) for name, i in changed.items()}


def _marked(image: Image.Image, share: float) -> Image.Image:
    """With a bright word in a corner, of this share of the width."""
    image = image.copy()
    w, h = image.size
    brush = ImageDraw.Draw(image)
    brush.text((w * (1 - share) - 4, h * 0.9), "stock", (240, 240, 240), font_size=max(8, int(w * share / 2.6)))
    return image


def facts(images: Sequence[bytes], first_uid: int = 1) -> list[dict[str, Any]]:
    """What ingest knows of received pictures."""
    found = []
    for number, data in enumerate(images, first_uid):
        seen = of_pixels(decode(data).pixels)
        row = {"uid": number.to_bytes(16, "big"), "sha256": hashlib.sha256(data).hexdigest()}
        found.append(row | {"phash64": seen.phash64, "phash256": seen.phash256, "phash_quality": seen.quality})
    return found


def shards_of(rows: Sequence[Mapping[str, Any]], cut: int, rng: np.random.Generator) -> dict[int, pa.Table]:
    """The rows in any order, in so many shards."""
    order, home = rng.permutation(len(rows)), rng.integers(0, cut, len(rows))
    return {3 * s: pa.Table.from_pylist([dict(rows[i]) for i in order if home[i] == s], FACTS) for s in range(cut)}


def write_pictures(folder: Path, images: Mapping[str, bytes]) -> Path:
    """A set of pictures in a folder."""
    for name, data in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
