"""Keep the samples of a DataComp subset file: sorted pairs of uint64 that are uids; twice in the file is two copies.

Follows DataComp (arXiv 2304.14108), `resharder.py` of its repository: .npy of dtype "u8,u8", or the same bytes
without a header.

    in_subset: {path: subset.npy, over: pool}
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from filters.base import VERDICT, GlobalFilter
from stages.base import Inputs, Output, Phase, Shape, per_shard
from stages.draws import uid_halves

PAIR = np.dtype([("f0", "<u8"), ("f1", "<u8")])  # high and low half of a uid; numpy's "u8,u8"
REASON = "not_in_subset"
_STEP = 1 << 20


class InSubset(GlobalFilter):
    """Keep what the file names, in as many copies as it names it (`copies` in the verdict).

    Attributes:
        path: .npy of dtype "u8,u8", sorted, or the same without a header.
    """

    path: str

    def reads(self) -> tuple[str, ...]:
        return ()

    def files(self) -> tuple[str, ...]:
        return (self.path,)

    def extra_verdicts(self) -> pa.Schema:
        return pa.schema([("copies", pa.int32())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        return (per_shard("match", shape, local=True),)

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        table = inputs.only()
        asked = table.column("asked").to_numpy()
        copies = multiplicity(open_subset(self.path), table.column("uid"))
        columns = {
            "keep": pa.array(copies > 0, pa.bool_(), mask=~asked),
            "reason": pa.array(np.full(len(copies), REASON, object), pa.string(), mask=(copies > 0) | ~asked),
            "copies": pa.array(copies.astype(np.int32), mask=~asked),
        }
        return Output(pa.table(columns, schema=pa.schema([*VERDICT, *self.extra_verdicts()])))


def multiplicity(subset: np.ndarray, uid: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """int64 (n,): how often the sorted subset (PAIR) names each uid."""
    wanted = np.empty(len(uid), PAIR)
    wanted["f0"], wanted["f1"] = uid_halves(uid)
    return np.searchsorted(subset, wanted, side="right") - np.searchsorted(subset, wanted, side="left")


def open_subset(path: str) -> np.ndarray:
    """The file as a PAIR array, mapped into memory.

    Raises:
        ValueError: not pairs of uint64, or not sorted.
    """
    stat = Path(path).expanduser().stat()
    return _open(str(Path(path).expanduser()), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4)
def _open(path: str, size: int, time: int) -> np.ndarray:
    with open(path, "rb") as f:
        named = f.read(6) == b"\x93NUMPY"
    if named:
        found = np.load(path, mmap_mode=None if size < _STEP else "r", allow_pickle=False)
        if found.ndim != 1 or len(found.dtype) != 2 or any(found.dtype[i] != np.dtype("<u8") for i in range(2)):
            raise ValueError(f"{path}: {found.dtype} of shape {found.shape}; a subset is one row of dtype 'u8,u8'")
        pairs = found.view(PAIR)
    elif size % PAIR.itemsize:
        raise ValueError(f"{path}: neither .npy nor pairs of uint64: {size} bytes are no multiple of {PAIR.itemsize}")
    else:
        pairs = np.memmap(path, PAIR, "r") if size else np.empty(0, PAIR)
    _refuse_unsorted(path, pairs)
    return pairs


def _refuse_unsorted(path: str, pairs: np.ndarray) -> None:
    for start in range(0, len(pairs) - 1, _STEP):
        piece = pairs[start : start + _STEP + 1]
        high, low = piece["f0"], piece["f1"]
        bad = (high[1:] < high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] < low[:-1]))
        if bad.any():
            row = start + int(np.argmax(bad)) + 1
            raise ValueError(f"{path}: entry {row} is smaller than the one before; sort the file (numpy.sort)")
