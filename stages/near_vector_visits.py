"""Which clusters a vector is compared in: the nearest, its own, and as a visitor those that are nearly as near.

    clusters = Visits(centroids, training, reach=0.016).of(x)       # int32 (n, MOST): the best first, then -1

A vector that is moved by a small step may come to lie in another cluster. It is found if the step changes the
difference of its products with the two centroids by no more than twice the reach, or if the other one visits. Most
vectors visit none, those near a border some, which costs less than a second cluster for each, and loses less.

Products are made in float32, and decided in exact numbers where the error of that leaves it open (`stages.vectors`), so
that the clusters hang on no BLAS, thread or device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.kmeans import nearest_by
from stages.kmeans_training import Training
from stages.vectors import ERROR, gpu_torch

MOST = 8
"""Clusters that a vector is compared in, at most."""

PRODUCTS, ROWS = 1 << 23, 2048  # with centroids, and of vectors, at a time
GPU = "cuda"


class Visits:
    """Finds the clusters of vectors.

    Args:
        found: float32 (k, dim), centroids on the grid, none longer than one.
        by: says by what they are near, and on which device.
        reach: how far below the best a centroid's product may lie.
        most: clusters at most; 1: the nearest alone.
    """

    def __init__(self, found: np.ndarray, by: Training, reach: float, most: int = MOST) -> None:
        self.found, self.reach, self.most = found, reach, most
        self.penalty = nearest_by(found, by).penalty
        self._less = self.penalty.astype(np.float32)
        self._open = 2 * ERROR * (found.shape[1] + 4)  # twice the error of a product
        self._gpu: Any = gpu_torch("near vectors") if by.device == "cuda" else None
        self._keys: Any = found if self._gpu is None else self._gpu.from_numpy(found.copy()).to(GPU)

    def of(self, x: np.ndarray) -> np.ndarray:
        """int32 (n, MOST): of vectors float32 (n, dim), on the grid and no longer than one.

        Raises:
            ValueError: the centroids are of another length.
        """
        if len(x) and x.shape[1] != self.found.shape[1]:
            raise ValueError(f"near vectors: {x.shape[1]} dimensions, but centroids of {self.found.shape[1]}")
        out = np.full((len(x), MOST), -1, np.int32)
        rows = min(max(PRODUCTS // max(len(self.found), 1), 1), ROWS)
        for start in range(0, len(x), rows):
            self._block(x[start : start + rows], out[start : start + rows])
        return out

    def _block(self, x: np.ndarray, out: np.ndarray) -> None:
        row, at, score = self._candidates(x)
        keep = score >= self._limit(row, score) - self._open
        row, at = row[keep], at[keep]
        exact = np.einsum("nd,nd->n", x[row].astype(np.float64), self.found[at].astype(np.float64)) - self.penalty[at]
        order = np.lexsort((at, -exact, row))
        row, at, exact = row[order], at[order], exact[order]
        starts = np.searchsorted(row, np.arange(len(x)))
        place = np.arange(len(row)) - starts[row]
        near = (place < self.most) & (exact >= exact[starts[row]] - self.reach)
        out[row[near], place[near]] = at[near]

    def _limit(self, row: np.ndarray, score: np.ndarray) -> np.ndarray:
        """float32, of each candidate: the score of its row's last that may be taken; -inf where all may be."""
        order = np.lexsort((-score, row))
        rows, first = np.unique(row[order], return_index=True)
        count = np.diff(np.append(first, len(row)))
        last = np.full(len(rows), -np.inf, np.float32)
        many = count > self.most
        last[many] = score[order][first[many] + self.most - 1]
        return last[np.searchsorted(rows, row)]

    def _candidates(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, centroid, score float32) of all that may be within reach of the best, by row."""
        if self._gpu is not None:
            return self._candidates_of_gpu(x)
        some = x @ self._keys.T
        some -= self._less
        least = some.max(axis=1, keepdims=True) - np.float32(self.reach + self._open)
        row, at = np.divmod(np.flatnonzero(some >= least), len(self.found))
        return row, at, some[row, at]

    def _candidates_of_gpu(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        torch = self._gpu
        some = torch.from_numpy(np.ascontiguousarray(x)).to(GPU) @ self._keys.T
        some -= torch.from_numpy(self._less).to(GPU)
        least = some.max(dim=1, keepdim=True).values - (self.reach + self._open)
        row, at = torch.nonzero(some >= least, as_tuple=True)
        return row.cpu().numpy(), at.cpu().numpy(), some[row, at].cpu().numpy()
