"""How many turned copies do keys of orientation lose, beside a search in all eight orientations?

Pictures are changed, then mirrored or turned by a quarter; a copy is found where its key lies within 4 of 64 or 31 of
256 bits of the original's. Beside the keys of stages/fingerprints_dihedral.py: the smallest of the eight hashes, which
is the usual rule, and the nearest of the eight hashes, which no key can beat.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from common import Bar, at_least, each
from dedup_pictures import Photo, distances, words
from dedup_transforms import EASY, TRANSFORMS
from PIL import Image

from stages.fingerprint import luma_of
from stages.fingerprints_dihedral import keys64, keys256, orientations64, orientations256
from stages.lanczos import thumbnails

TURNS = (
    *(Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_90),
    *(Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE),
)
CHANGES = (*EASY, "watermark_big", "crop_5")
BITS = {64: 4, 256: 31}
LOST = 0.03

Prints = dict[int, tuple[bytes, list[bytes]]]
"""Bits -> (key, hashes of the eight orientations)."""


def of_pixels(rgb: np.ndarray) -> Prints:
    small, large = (t[None] for t in thumbnails(luma_of(rgb)))
    of64 = [int(h).to_bytes(8, "big") for h in orientations64(small)[:, 0]]
    of256 = [h.tobytes() for h in orientations256(large)[:, 0]]
    return {
        64: (int(keys64(small, "dihedral")[0]).to_bytes(8, "big"), of64),
        256: (keys256(large, "dihedral")[0].tobytes(), of256),
    }


def turned(photo: Photo) -> list[Prints]:
    """Of a picture, and of it after each change, turned one way or another."""
    picture = Image.fromarray(photo.pixels)
    first = sum(photo.key.encode()) % len(TURNS)
    ways = [TURNS[(first + n) % len(TURNS)] for n in range(len(CHANGES))]
    copies = [TRANSFORMS[name](picture).transpose(way) for name, way in zip(CHANGES, ways, strict=True)]
    return [of_pixels(np.asarray(p)) for p in (picture, *copies)]


RULES: dict[str, Callable[[tuple[bytes, list[bytes]]], list[bytes]]] = {
    "key": lambda prints: [prints[0]],
    "smallest hash": lambda prints: [min(prints[1])],
    "all orientations": lambda prints: prints[1],
}
"""What of a copy is looked up; of the original it is the first hash of the same rule."""


def measure(queries: list[Photo]) -> dict[str, Bar]:
    rows = [found for _, found in each(turned, queries)]
    bars: dict[str, Bar] = {}
    print(f"\nshare of {len(queries)} pictures found, changed in {len(CHANGES)} ways and turned")
    for width, bits in BITS.items():
        found = {rule: _recall(rows, width, bits, rule) for rule in RULES}
        print(f"within {bits:>2} of {width:>3} bits: " + ", ".join(f"{rule} {r:.3f}" for rule, r in found.items()))
        share = found["key"] / found["all orientations"]
        bars[f"photos_turned_{width}_of_search"] = at_least(share, 1 - LOST)
    return bars


def _recall(rows: list[list[Prints]], width: int, bits: int, rule: str) -> float:
    """Share of copies that one of the rule's hashes finds."""
    asked = RULES[rule]
    hits = []
    for row in rows:
        original = words(asked(row[0][width])[:1])
        for copy in row[1:]:
            hits.append(bool((distances(words(asked(copy[width])), original) <= bits).any()))
    return float(np.mean(hits))
