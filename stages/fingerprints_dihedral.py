"""Hashes that do not ask how a picture was turned: one key for its mirror images, or for all eight orientations.

    keys256(thumbnails, "dihedral")         # uint8 (n, 64, 64) -> uint8 (n, 32)
    orientations256(thumbnails)             # uint8 (8, n, 32): to look a picture up in all orientations

In a mirrored picture every second DCT coefficient changes its sign, in a transposed one rows and columns change places:
so the hashes of all orientations come from one DCT, exactly. The key is the hash of one orientation that all of them
agree on: that in which a weighted sum of seven low coefficients (`VOTES`) is largest; among equals, of the smallest
hash. A picture and its copies settle on the same one unless two orientations are nearly as good. Of 500 photos in 18
changes each and turned, a search in all orientations found 94.0 % within 31 of 256 bits, these keys 92.6 %, and the
smallest of the eight hashes, which hangs on single bits, 88.1 % (bench/dedup_turned.py).
Source of the signs: `dct16OriginalToRotate90` and its neighbours of PDQ (facebook/ThreatExchange).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from stages.fingerprint import bits, coefficients

Turns = Literal["flip", "dihedral"]
MANY: dict[Turns, int] = {"flip": 2, "dihedral": 8}
"""Of the eight orientations, how many count: the picture as it is and mirrored left to right, or all."""

VOTES = {(0, 1): 8, (1, 0): 5, (0, 3): 3, (2, 1): 3, (3, 0): 2, (1, 2): 2, (1, 1): 1}
"""(row, column) of a coefficient -> its weight. No two orientations of a picture without symmetry have the same sum."""


def orientations64(gray: np.ndarray) -> np.ndarray:
    """phash64 of each orientation: uint8 (n, 32, 32) -> uint64 (8, n).

    In order: the picture itself, mirrored left to right, upside down, turned by 180 degrees, the transposes of these.
    """
    return _words(_hashes(_turned(coefficients(gray, 8))))


def orientations256(gray: np.ndarray) -> np.ndarray:
    """phash256 of each orientation, in the order of `orientations64`: uint8 (n, 64, 64) -> uint8 (8, n, 32)."""
    return _hashes(_turned(coefficients(gray, 16)))


def keys64(gray: np.ndarray, turns: Turns) -> np.ndarray:
    """uint8 (n, 32, 32) -> uint64 (n,), equal for all orientations of a thumbnail."""
    return _words(_keys(coefficients(gray, 8), MANY[turns]))


def keys256(gray: np.ndarray, turns: Turns) -> np.ndarray:
    """uint8 (n, 64, 64) -> uint8 (n, 32), equal for all orientations of a thumbnail."""
    return _keys(coefficients(gray, 16), MANY[turns])


def _keys(block: np.ndarray, many: int) -> np.ndarray:
    """Coefficients (n, low, low) -> uint8 (n, bytes): the hash of the orientation that is agreed on."""
    turned = _turned(block)[:many]
    found = turned.astype(np.int64)  # whole numbers, so that equals are equal
    score = sum(weight * found[:, :, row, column] for (row, column), weight in VOTES.items())
    best = score == np.max(score, axis=0)
    hashes = _hashes(turned)
    keys = [min(hashes[best[:, row], row].tolist()) for row in range(len(block))]
    return np.array(keys, np.uint8).reshape(len(block), hashes.shape[2])


def _hashes(turned: np.ndarray) -> np.ndarray:
    return np.stack([bits(block) for block in turned])


def _words(hashes: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(hashes).view(">u8")[..., 0]
    return words.astype(np.uint64)  # type: ignore[no-any-return]


def _turned(block: np.ndarray) -> np.ndarray:
    """The coefficients of the eight orientations: (n, low, low) -> (8, n, low, low)."""
    sign = 1 - 2 * (np.arange(block.shape[1]) % 2)
    across, down = sign[None, None, :], sign[None, :, None]
    upright = np.stack([block, block * across, block * down, block * across * down])
    return np.concatenate([upright, upright.transpose(0, 1, 3, 2)])
