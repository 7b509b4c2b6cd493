"""What bands of a 256-bit hash find: near pairs of photos with at least one of 8, or of 16, bands equal.

Photos of ../shared/data and their copies by `dedup_transforms`, and the pairs that were hosted twice. Recall is told
among pairs within the distance that `NearHashes` would be given, since that is what bands may lose.

    python bench/dedup_bands.py          # a line a transform
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import NOT_MEASURED, SHARED, Bar, at_least, bar  # noqa: E402
from dedup_transforms import EASY, TRANSFORMS  # noqa: E402

from stages.fingerprint import of_image  # noqa: E402

DISTANCE = 31
PHOTOS = 100


def measure(quick: bool) -> dict[str, Bar]:
    if not SHARED.is_dir():
        print(f"no photos: {SHARED} is missing")
        return {"bands_recall": NOT_MEASURED}
    photos = _photos()
    again = _differing(_rehosted(photos))
    some = [_opened(photos[k]) for k in sorted(photos)[:: max(1, len(photos) // (20 if quick else PHOTOS))]]
    hashes = [_hash(image) for image in some]
    names = EASY if quick else TRANSFORMS
    by = {n: _differing([(a, _hash(TRANSFORMS[n](i))) for i, a in zip(some, hashes, strict=True)]) for n in names}
    for name, differing in {"hosted twice": again, **by}.items():
        print(f"{name:<24} {_told(differing)}")
    easy = np.concatenate([by[n] for n in EASY])
    return {
        "bands_8_of_easy_within_31": bar(round(_recall(easy, 8), 3), "told", None),
        "bands_16_of_easy_within_31": at_least(_recall(easy, 16), 0.999),
        "bands_8_of_hosted_twice": at_least(_recall(again, 8), 0.99),
    }


def _photos() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for file in sorted(SHARED.glob("images/pairs_*.parquet")):
        table = pq.read_table(file, columns=["key", "image"])
        found |= dict(zip(*(table.column(n).to_pylist() for n in ("key", "image")), strict=True))
    return found


def _rehosted(photos: dict[str, bytes]) -> list[tuple[np.ndarray, np.ndarray]]:
    table = pq.read_table(SHARED / "images/neardup_pairs.parquet", columns=["key_a", "image_b"])
    pairs = zip(*(table.column(n).to_pylist() for n in ("key_a", "image_b")), strict=True)
    return [(_hash(_opened(photos[a])), _hash(_opened(b))) for a, b in pairs if a in photos]


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _hash(image: Image.Image) -> np.ndarray:
    return np.unpackbits(np.frombuffer(of_image(image).phash256, np.uint8))


def _differing(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """bool (pairs, 256): which bits differ."""
    return np.array([a != b for a, b in pairs], bool).reshape(-1, 256)


def _recall(differing: np.ndarray, bands: int) -> float:
    """Of pairs within the distance, the share with an equal band."""
    near = differing[differing.sum(axis=1) <= DISTANCE]
    return float((~near.reshape(len(near), bands, -1).any(axis=2)).any(axis=1).mean()) if len(near) else float("nan")


def _told(differing: np.ndarray) -> str:
    apart = differing.sum(axis=1)
    found = ", ".join(f"{n} bands {_recall(differing, n):.3f}" for n in (8, 16))
    return f"{len(apart):>5} pairs, {(apart <= DISTANCE).mean():.3f} within {DISTANCE} bits, of which found: {found}"


if __name__ == "__main__":
    print(measure(quick=False))
