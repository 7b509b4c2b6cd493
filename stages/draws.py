"""Keyed random draws: every draw is a function of (seed, salt, uid), never of a global generator.

    keep = uniform(seed=0, salt="balance", uid=uids) < probability

`hash64` is two rounds of the splitmix64 finaliser over the halves of the uid, keyed by xxh64 of
"seed:salt"; vectorised in numpy, the same bits on every machine.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xxhash

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def uid_halves(uid: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """High and low 64 bits (big-endian) of a fixed_size_binary(16) column, each uint64 (n,).

    Sorting by (high, low) is sorting the uids as bytes.
    """
    if isinstance(uid, pa.ChunkedArray):
        uid = uid.combine_chunks()
    words = np.frombuffer(uid.buffers()[1], dtype=">u8", count=2 * len(uid), offset=16 * uid.offset)
    halves = words.astype(np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1]


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash64(seed: int, salt: str, uid: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """uint64 (n,): uniform over 64 bits, independent for different (seed, salt)."""
    high, low = uid_halves(uid)
    return hash64_halves(seed, salt, high, low)


def hash64_halves(seed: int, salt: str, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """`hash64` for uids given as two uint64 arrays."""
    key = np.uint64(xxhash.xxh64_intdigest(f"{seed}:{salt}".encode()))
    with np.errstate(over="ignore"):
        return _mix(_mix(high ^ key) + _GAMMA ^ low)


def uniform(seed: int, salt: str, uid: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """float64 (n,) in [0, 1): hash64 / 2**64."""
    return (hash64(seed, salt, uid) >> np.uint64(11)) * 2.0**-53
