"""The inner loop of soft cap sampling in rounds, compiled: it looks at every sample in every round.

Importing this takes a third of a second: import it where it is used.
"""

from __future__ import annotations

import numpy as np
import xxhash
from numba import types

from stages.compiled import compiled

_30, _27, _31, _11 = (np.uint64(n) for n in (30, 27, 31, 11))
_A, _B, _GAMMA = (np.uint64(n) for n in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15))
_UNIT = 2.0**-53
CHUNK = 1 << 20

_words = types.Array(types.uint64, 1, "C", readonly=True)
_floats = types.Array(types.float64, 1, "C", readonly=True)


def near(high: np.ndarray, low: np.ndarray, seed: int, salt: str, weight: np.ndarray, bound: float) -> np.ndarray:
    """int64 (k,), ascending: rows whose exponential draw / weight may be below the bound; the others' is not.

    Args:
        high, low: uint64 (n,), halves of the uids. weight: float64 (n,).
    """
    key = np.uint64(xxhash.xxh64_intdigest(f"{seed}:{salt}".encode()))  # as in stages.draws
    found, out = [np.empty(0, np.int64)], np.empty(min(CHUNK, len(high)), np.int64)
    for start in range(0, len(high), CHUNK):
        part = slice(start, start + CHUNK)
        number = _near(high[part], low[part], key, weight[part], bound, out)
        found.append(out[:number] + start)
    return np.concatenate(found)


@compiled(types.int64(_words, _words, types.uint64, _floats, types.float64, types.int64[::1]))
def _near(high: np.ndarray, low: np.ndarray, key: np.uint64, weight: np.ndarray, bound: float, out: np.ndarray) -> int:
    """-log(1 - u) is never below u: a row whose uniform draw u reaches weight * bound cannot be near."""
    found = 0
    for i in range(len(high)):
        x = high[i] ^ key
        x = (x ^ (x >> _30)) * _A
        x = (x ^ (x >> _27)) * _B
        x = ((x ^ (x >> _31)) + _GAMMA) ^ low[i]
        x = (x ^ (x >> _30)) * _A
        x = (x ^ (x >> _27)) * _B
        x = x ^ (x >> _31)
        if np.float64(x >> _11) * _UNIT < weight[i] * bound:
            out[found] = i
            found += 1
    return found
