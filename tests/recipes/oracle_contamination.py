"""Oracle of the recipe that drops evaluation pictures: by bytes, and by pHash-256 of Pillow and SciPy, all pairs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dct

from tests.recipes.world import Chosen

BITS, CLEAR = 48, 50


def decontaminated(seen: Chosen, evaluation: str) -> pd.Series:
    """6.10, with 4.4 of the deduplication's: none of the set's bytes, and no hash within 48 bits in any orientation."""
    files = sorted(f for f in Path(evaluation).rglob("*") if f.is_file())
    digests = {hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    theirs = np.concatenate([orientations(f) for f in files])
    hashes = np.array([list(bytes.fromhex(h)) for h in seen.column("phash256")], np.uint8)
    apart = np.stack([np.bitwise_count(hashes ^ t).sum(axis=1) for t in theirs]).min(axis=0)
    near = (apart <= BITS) & (seen.column("phash_quality").to_numpy() >= CLEAR)
    return ~(near | seen.rows["sha256"].isin(digests))


def orientations(file: Path) -> np.ndarray:
    """uint8 (8, 32): imagehash's definition with hash_size 16, of the thumbnail in all its orientations."""
    small = Image.open(file).convert("RGB").convert("L").resize((64, 64), Image.Resampling.LANCZOS)
    return np.stack([hashed(small), *(hashed(small.transpose(t)) for t in Image.Transpose)])


def hashed(small: Image.Image) -> np.ndarray:
    low = dct(dct(np.asarray(small, np.float64), axis=0), axis=1)[:16, :16]
    return np.packbits(low > np.median(low))
