"""For each of many vectors the nearest of an evaluation set's, where its cosine is above a bound: exact.

    millionths, row = nearest_vectors(x, eval_vectors("isc_imagenet.npy", "vector", "decontaminate"), above=0.604169)

Products in float32 find who may be near, by tiles of both sides; their error is known, and what it leaves open is
decided by exact products (stages/vectors.py). Cosines are whole millionths. So the answer hangs on no tile, thread or
device. The set's file is read a block at a time and is never whole in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.target_vectors import checked_npy, target_blocks
from stages.vectors import ERROR, MANY, Device, gpu_torch, lengths, unit

UNIT = 1_000_000  # cosines are whole numbers of so many parts
NONE = -1
TILE = 2048  # of the vectors asked about, beside MANY of the set's: 64 MB of products
CLOSER = 1 << 14  # pairs looked at in float64 at a time
GPU = "cuda"

Blocks = Iterator[tuple[int, np.ndarray]]


def checked_vectors(path: str, column: str, of: str) -> str:
    """The path, of a file with vectors: .npy, or parquet with this column.

    Raises:
        ValueError: there is none, or it holds something else; says what to do.
    """
    if Path(path).suffix.lower() != ".parquet":
        return checked_npy(path, of)
    if not Path(path).is_file():
        raise ValueError(f"{of}: no vectors at {path}; give a .npy file (n, dim) or parquet with a column {column!r}")
    try:
        schema = pq.read_schema(path)
    except pa.ArrowException as e:
        raise ValueError(f"{of}: {path} is no parquet file ({e})") from e
    if column not in schema.names:
        raise ValueError(f"{of}: {path} has no column {column!r}, but {', '.join(schema.names)}: `vectors_column`")
    return path


def eval_vectors(path: str, column: str, of: str) -> Blocks:
    """(first row, float32 (up to MANY, dim) of length one, on the grid), block by block, of a .npy or parquet file.

    Raises:
        ValueError: as `checked_vectors`; or a row has no direction.
    """
    checked_vectors(path, column, of)
    if Path(path).suffix.lower() != ".parquet":
        yield from target_blocks(path, of)
        return
    start = 0
    for batch in pq.ParquetFile(path).iter_batches(MANY, columns=[column]):
        block, there = unit(batch.column(0), of)
        if not there.all():
            raise ValueError(f"{of}: {path}, row {start + int(np.argmin(there))}: null, zeros, or not finite")
        yield start, block
        start += len(block)


def nearest_vectors(
    x: np.ndarray, blocks: Blocks, above: float, of: str, device: Device = "cpu"
) -> tuple[np.ndarray, np.ndarray, int]:
    """(cosine to the nearest, in millionths; its row; rows that there were), int64 (n,) twice; NONE as the row of those
    that have none above the bound.

    Args:
        x: float32 (n, dim) on the grid, of length one.
        above: the cosine, not itself enough.
        device: cuda makes the products in float32 on a GPU; the answer is the same one.

    Raises:
        ValueError: vectors of another length; no GPU.
    """
    search = _Search(x, round(above * UNIT), device)
    rows = 0
    for start, block in blocks:
        if len(x) and block.shape[1] != x.shape[1]:
            raise ValueError(
                f"{of}: the column has {x.shape[1]} dimensions and the set's vectors {block.shape[1]}; take one model"
            )
        search.among(block, start)
        rows = start + len(block)
    return search.level, search.row, rows


class _Search:
    """The nearest so far of each row of `x`, in exact millionths; of equal ones the first."""

    def __init__(self, x: np.ndarray, bound: int, device: Device) -> None:
        self.x, self.device = x, device
        self.long = lengths(x) if len(x) else np.zeros(0)
        self.level, self.row = np.full(len(x), bound), np.full(len(x), NONE)
        # of a float32 product, of vectors rounded to the grid, and of rounding to millionths
        self.slack = ERROR * (x.shape[1] + 2) * 2 + 4e-6
        self.torch = gpu_torch("evaluation vectors") if device == "cuda" else None

    def among(self, block: np.ndarray, start: int) -> None:
        other = lengths(block)
        there = None if self.torch is None else self._moved(block).T
        for begin in range(0, len(self.x), TILE):
            here = slice(begin, begin + TILE)
            i, j = self._candidates(here, block, there)
            for at in range(0, len(i), CLOSER):
                self._decide(begin + i[at : at + CLOSER], j[at : at + CLOSER], block, other, start)

    def _candidates(self, here: slice, block: np.ndarray, there: Any) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (row within the tile, row of the block) that may be the best of their row and above what it has."""
        if self.torch is None:
            products = self.x[here] @ block.T
            least = np.maximum(self.level[here] / UNIT, products.max(axis=1)) - self.slack
            i, j = np.nonzero(products >= least[:, None].astype(np.float32))
            return i, j
        torch = self.torch
        on_gpu = self._moved(self.x[here]) @ there
        known = self._moved(self.level[here] / UNIT)
        least = (torch.maximum(known, on_gpu.max(dim=1).values.double()) - self.slack).float()
        i, j = torch.nonzero(on_gpu >= least[:, None], as_tuple=True)
        return i.cpu().numpy(), j.cpu().numpy()

    def _moved(self, array: np.ndarray) -> Any:
        """As a tensor on the GPU."""
        assert self.torch is not None
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(GPU)

    def _decide(self, i: np.ndarray, j: np.ndarray, block: np.ndarray, other: np.ndarray, start: int) -> None:
        exact = np.einsum("nd,nd->n", self.x[i].astype(np.float64), block[j].astype(np.float64))
        level = np.minimum(np.rint(exact / (self.long[i] * other[j]) * UNIT), UNIT).astype(np.int64)
        order = np.lexsort((j, -level, i))  # the best of each row first; earlier blocks have smaller rows
        i, j, level = i[order], j[order], level[order]
        first = np.append(True, i[1:] != i[:-1])
        i, j, level = i[first], j[first], level[first]
        better = level > self.level[i]
        self.level[i[better]], self.row[i[better]] = level[better], start + j[better]
