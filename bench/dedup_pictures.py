"""What the photo benchmarks share: pictures of ../shared/data by source, hashes of others, distances in bulk."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import SHARED, WORK  # noqa: E402

from stages.decode import decode  # noqa: E402

FILES = ("pairs_web_products_coco", "labelled_eval")
PDQHASH = "pdqhash==0.2.8"
MIN_QUALITY = 50


@dataclass(frozen=True, slots=True)
class Photo:
    """One picture as it is stored. key: what the data calls it."""

    key: str
    source: str
    image: bytes

    @property
    def pixels(self) -> np.ndarray:
        """uint8 (height, width, 3)."""
        return decode(self.image).pixels


def photos(*sources: str) -> list[Photo]:
    """Pictures of these sources in this order: fashion, ikea_product, coco_mini, imagenette, clothing, flickr8k, ..."""
    found: list[Photo] = []
    for name in FILES:
        table = pq.read_table(SHARED / f"images/{name}.parquet", columns=["key", "source", "image"])
        found += [Photo(*row.values()) for row in table.to_pylist() if row["source"] in sources]
    if "flickr8k" in sources:
        rows = pq.read_table(SHARED / "images/pairs_flickr8k-00000.parquet", columns=["key", "image"]).to_pylist()
        found += [Photo(row["key"], "flickr8k", row["image"]) for row in rows]
    return sorted(found, key=lambda p: sources.index(p.source))


def rehosted() -> list[tuple[Photo, Photo]]:
    """The pairs of `neardup_pairs`: a picture, and the same as somebody else published it."""
    table = pq.read_table(SHARED / "images/neardup_pairs.parquet", columns=["key_a", "image_b"])
    again = dict(zip(*(c.to_pylist() for c in table.columns), strict=True))
    originals: dict[str, Photo] = {}
    for name in (*FILES, "pairs_flickr8k-00000", "pairs_flickr8k-00001"):
        rows = pq.read_table(SHARED / f"images/{name}.parquet", columns=["key", "image"]).to_pylist()
        originals |= {r["key"]: Photo(r["key"], name, r["image"]) for r in rows if r["key"] in again}
    return [(originals[key], Photo(key, "again", image)) for key, image in again.items()]


@cache
def known_copies() -> frozenset[tuple[str, str]]:
    """Pairs of keys, either way round, whose bytes were the same where they were published."""
    lines = (SHARED / "images/natural_exact_duplicates.jsonl").read_text().splitlines()
    groups = [json.loads(line) for line in lines]
    return frozenset((a, b) for group in groups for a in group for b in group if a != b)


def half(key: str) -> int:
    """0 or 1: to find thresholds on one half and to report on the other."""
    return hashlib.sha256(key.encode()).digest()[0] & 1


def pdqhash() -> ModuleType | None:
    """The package pdqhash, made from PyPI's source where it is not installed; None, told, where that fails."""
    place = WORK / "pdqhash"
    sys.path.append(str(place))
    try:
        return importlib.import_module("pdqhash")
    except ImportError:
        pass
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place), PDQHASH]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"not measured: {PDQHASH} could not be installed here: {done.stderr.strip()[-300:]}")
        return None
    importlib.invalidate_caches()
    return importlib.import_module("pdqhash")


# ---------------------------------------------------------------- hashes in bulk


def words(hashes: list[bytes]) -> np.ndarray:
    """Hashes of one length, a multiple of 8 bytes, as uint64 (n, length / 8)."""
    return np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64).reshape(len(hashes), -1)


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Bits apart, row by row: uint64 (n, w) twice -> int64 (n,)."""
    return np.bitwise_count(one ^ other).sum(axis=1, dtype=np.int64)


def blocks(one: np.ndarray, other: np.ndarray, rows: int = 512) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, bits apart uint16 (rows, len(other))) of every row of `one` with every row of `other`."""
    for first in range(0, len(one), rows):
        apart = np.zeros((len(one[first : first + rows]), len(other)), np.uint16)
        for word in range(one.shape[1]):
            apart += np.bitwise_count(one[first : first + rows, word][:, None] ^ other[:, word][None])
        yield first, apart


def near_pairs(hashes: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(i, j, bits apart) with i < j, of all pairs that are at most so far apart."""
    found = []
    for first, apart in blocks(hashes, hashes):
        i, j = np.nonzero(apart <= most)
        later = i + first < j
        found.append((i[later] + first, j[later], apart[i[later], j[later]].astype(np.int64)))
    i, j, apart = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return i, j, apart


Hasher = Callable[[np.ndarray], bytes]
"""uint8 (height, width, 3) -> the bytes of a hash."""
