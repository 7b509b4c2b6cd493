"""Where the files of a pack begin: exact, even sizes, without sorting all samples in one place.

Two walks over the shards' sorted hashes: a histogram over the high bits, then the few samples that share a
bin with a cut. Memory is some 8 bytes for 64 samples and 32 bytes for each candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stages.draws import uid_halves

BIN = 64  # samples in a bin of the histogram, on average

KEY = np.dtype([("hash", np.uint64), ("high", np.uint64), ("low", np.uint64), ("copy", np.int64)])


@dataclass(frozen=True)
class Cuts:
    """Files of even size over all copies: `first[k]` is the key of the first copy of file k + 1."""

    samples: int
    files: int
    first: np.ndarray

    def start(self, file: int) -> int:
        """Rank at which a file begins; `start(files)` is the number of samples."""
        quotient, left = divmod(self.samples, self.files)
        return file * quotient + min(file, left)

    def size(self, file: int) -> int:
        return self.start(file + 1) - self.start(file)

    def position(self, keys: np.ndarray, file: int) -> int:
        """How many of these sorted keys (KEY) come before the given file."""
        if file == 0:
            return 0
        if file == self.files:
            return len(keys)
        cut = self.first[file - 1]
        low = int(np.searchsorted(keys["hash"], cut["hash"], side="left"))
        high = int(np.searchsorted(keys["hash"], cut["hash"], side="right"))
        wanted = tuple(cut.tolist())
        return low + sum(tuple(k.tolist()) < wanted for k in keys[low:high])


def keys_of(table: pa.Table) -> np.ndarray:
    """KEY (n,): what the rows of a ranks or members table are ordered by."""
    keys = np.empty(table.num_rows, KEY)
    keys["hash"] = table.column("hash").to_numpy()
    keys["high"], keys["low"] = uid_halves(table.column("uid"))
    keys["copy"] = table.column("copy").to_numpy()
    return keys


def in_order(keys: np.ndarray) -> np.ndarray:
    """The permutation that sorts keys (KEY)."""
    return np.lexsort((keys["copy"], keys["low"], keys["high"], keys["hash"]))


def find_cuts(shards: Callable[[], Iterable[np.ndarray]], samples: int, per_file: int) -> Cuts:
    """Cut `samples` ranks into files of at most `per_file`, sizes differing by one at most.

    Args:
        shards: walks over the sorted keys (KEY) of each shard; called twice.
    """
    files = -(-samples // per_file)
    cuts = Cuts(samples, files, np.empty(0, KEY))
    if files <= 1:
        return cuts
    bits = max(1, (samples // BIN).bit_length())
    shift = np.uint64(64 - bits)
    counts = np.zeros(1 << bits, np.int64)
    for keys in shards():
        bins, seen = np.unique(keys["hash"] >> shift, return_counts=True)
        counts[bins] += seen
    ends = np.cumsum(counts)
    ranks = np.array([cuts.start(k) for k in range(1, files)])
    home = np.searchsorted(ends, ranks, side="right")  # the bin in which each cut lies
    wanted = np.zeros(len(counts), bool)
    wanted[home] = True
    near = np.concatenate([keys[wanted[keys["hash"] >> shift]] for keys in shards()])
    near = near[in_order(near)]
    begin = np.searchsorted(near["hash"] >> shift, home.astype(np.uint64), side="left")
    return Cuts(samples, files, near[begin + ranks - (ends[home] - counts[home])])
