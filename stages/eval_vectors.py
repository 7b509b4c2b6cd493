"""For each of many vectors the nearest of an evaluation set's, where its cosine is above a bound: exact.

    file = VectorFile("isc_imagenet.npy", "vector", "decontaminate")
    millionths, row = nearest_vectors(x, file.blocks(), above=0.604169, of="decontaminate")

Products in float32 find who may be near, by tiles of both sides; their error is known, and what it leaves open is
decided by exact products (stages/vectors.py). Cosines are whole millionths. So the answer hangs on no tile, thread or
device. The set's file is read a block at a time and is never whole in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stages.query_vectors import VectorFile
from stages.vectors import ERROR, Device, gpu_torch, lengths

UNIT = 1_000_000  # cosines are whole numbers of so many parts
NONE = -1
TILE = 2048  # of the vectors asked about, beside stages.vectors.MANY of the set's: 64 MB of products
CLOSER = 1 << 14  # pairs looked at in float64 at a time
GPU = "cuda"

Blocks = Iterator[tuple[np.ndarray, np.ndarray]]
"""(numbers in the set's file, ascending; float32 (m, dim) on the grid, of length one), as `VectorFile.blocks`."""


def counted(file: VectorFile, pictures: int | None) -> dict[str, int]:
    """vectors: rows of the file; without_vector: those of them that are null, zeros or not finite, and match nothing.

    Args:
        pictures: of the set, each of which has its row; None of a set of vectors alone.

    Raises:
        ValueError: there are others than pictures, or none that has a direction.
    """
    count = file.shape[0]
    if pictures is not None and count != pictures:
        raise ValueError(
            f"{file.of}: {pictures:,} pictures and {count:,} vectors; give a vector for each picture, in their order, "
            "or the vectors alone"
        )
    there = sum(len(number) for number, _ in file.blocks())
    if not there:
        raise ValueError(f"{file.of}: {file.path}: all {count:,} rows are null, zeros, or not finite; make it again")
    return {"vectors": count, "without_vector": count - there}


def nearest_vectors(
    x: np.ndarray, blocks: Blocks, above: float, of: str, device: Device = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """(cosine to the nearest, in millionths; its row), int64 (n,) twice; NONE as the row of those that have none above
    the bound.

    Args:
        x: float32 (n, dim) on the grid, of length one.
        above: the cosine, not itself enough.
        device: cuda makes the products in float32 on a GPU; the answer is the same one.

    Raises:
        ValueError: vectors of another length; no GPU.
    """
    search = _Search(x, round(above * UNIT), device)
    for number, block in blocks:
        if len(x) and block.shape[1] != x.shape[1]:
            raise ValueError(
                f"{of}: the column has {x.shape[1]} dimensions and the set's vectors {block.shape[1]}; take one model"
            )
        search.among(block, number)
    return search.level, search.row


class _Search:
    """The nearest so far of each row of `x`, in exact millionths; of equal ones the first."""

    def __init__(self, x: np.ndarray, bound: int, device: Device) -> None:
        self.x, self.device = x, device
        self.long = lengths(x) if len(x) else np.zeros(0)
        self.level, self.row = np.full(len(x), bound), np.full(len(x), NONE)
        # of a float32 product, of vectors rounded to the grid, and of rounding to millionths
        self.slack = ERROR * (x.shape[1] + 2) * 2 + 4e-6
        self.torch = gpu_torch("evaluation vectors") if device == "cuda" else None

    def among(self, block: np.ndarray, number: np.ndarray) -> None:
        other = lengths(block)
        there = None if self.torch is None else self._moved(block).T
        for begin in range(0, len(self.x), TILE):
            here = slice(begin, begin + TILE)
            i, j = self._candidates(here, block, there)
            for at in range(0, len(i), CLOSER):
                self._decide(begin + i[at : at + CLOSER], j[at : at + CLOSER], block, other, number)

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

    def _decide(self, i: np.ndarray, j: np.ndarray, block: np.ndarray, other: np.ndarray, number: np.ndarray) -> None:
        exact = np.einsum("nd,nd->n", self.x[i].astype(np.float64), block[j].astype(np.float64))
        level = np.minimum(np.rint(exact / (self.long[i] * other[j]) * UNIT), UNIT).astype(np.int64)
        order = np.lexsort((j, -level, i))  # the best of each row first; earlier blocks have smaller rows
        i, j, level = i[order], j[order], level[order]
        first = np.append(True, i[1:] != i[:-1])
        i, j, level = i[first], j[first], level[first]
        better = level > self.level[i]
        self.level[i[better]], self.row[i[better]] = level[better], number[j[better]]
