"""Near pairs among rows of vectors: products of float32 as a filter, the decision in exact numbers.

    search = Products(bound_units(0.05), dim=512)
    i, j, distance = search.among(x)                # every pair i < j of rows whose distance is at most the bound
    i, j, distance = search.between(x, y)           # every row of x with every row of y

Distances are whole millionths of 1 - cosine, from exact products (`stages.vectors`): they hang on no tile, thread, BLAS
or device. The filter lets through whatever could be near: for rows of length one, sums of `dim` float32 products in any
order are off by no more than 2^-24 * dim (Higham 2002, section 3.1), rows on the grid are longer or shorter than one by
no more than 2^-25 * sqrt(dim), and a distance is rounded by half a millionth. `margin` adds these up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stages.vectors import ERROR, Device, dots, gpu_torch, lengths

UNIT = 1_000_000  # distances are whole numbers of so many parts
TILE = 1024  # rows compared with as many others at a time
GPU, GPU_TILE = "cuda", 16384
BLOCK = 4096  # pairs decided at a time
DENSE = 32  # where more than one in so many products of a tile pass the filter, the whole tile is made exactly

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows int64, rows int64, distances int64 in millionths."""


def bound_units(epsilon: float) -> int:
    """The largest distance of a pair, in millionths."""
    return round(epsilon * UNIT)


def margin(dim: int) -> float:
    """How far below the exact bound on a cosine a float32 product of a near pair may lie; see above."""
    longer = dim**0.5 * 2.0**-24
    return ERROR * (dim + 2) * (1 + longer) ** 2 + 3 * longer + 0.5 / UNIT + 1e-9


def lengths_of(x: np.ndarray) -> np.ndarray:
    """`lengths`, some rows at a time."""
    return np.concatenate([lengths(x[s : s + BLOCK]) for s in range(0, len(x), BLOCK)] or [np.zeros(0)])


def as_units(products: np.ndarray, both: np.ndarray) -> np.ndarray:
    """int64: cosines in millionths from exact products and products of the two lengths; UNIT at most."""
    return np.minimum(np.rint(products / both * UNIT), UNIT).astype(np.int64)


class Products:
    """Finds pairs of rows within a distance.

    Args:
        bound: the largest distance, in millionths of 1 - cosine.
        dim: coordinates of a row.
        device: "cuda" multiplies on a GPU, with torch. The answer is the same one.

    Rows are float32 on the grid, of length one, as `stages.vectors.unit` gives them.
    """

    def __init__(self, bound: int, dim: int, device: Device = "cpu") -> None:
        self.bound, self.device = bound, device
        least = 1 - bound / UNIT - margin(dim)
        self.least = np.nextafter(np.float32(least), np.float32(-4))
        self.candidates = 0
        self._gpu: Any = gpu_torch("near vectors") if device == "cuda" else None

    def among(self, x: np.ndarray) -> Pairs:
        """Pairs i < j of rows of x."""
        return _joined(self.by_tile(x))

    def between(self, x: np.ndarray, y: np.ndarray) -> Pairs:
        """Pairs of a row of x and one of y."""
        return _joined(self.by_tile(x, y))

    def by_tile(self, x: np.ndarray, y: np.ndarray | None = None) -> Iterator[Pairs]:
        """The pairs of each tile, one after another: between x and y, or among x without y."""
        triangle, y = y is None, x if y is None else y
        long_x = lengths_of(x)
        long_y = long_x if triangle else lengths_of(y)
        for i, j in self._filtered(x, y, triangle):
            self.candidates += len(i)
            level = as_units(_products(x, y, i, j), long_x[i] * long_y[j])
            near = UNIT - level <= self.bound
            yield i[near], j[near], UNIT - level[near]

    # ---- the filter

    def _filtered(self, x: np.ndarray, y: np.ndarray, triangle: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(i, j) of pairs that may be near, tile by tile; i < j in a triangle."""
        tile = TILE if self._gpu is None else GPU_TILE
        first, second = self._placed(x), self._placed(y)
        room = np.empty((tile, tile), np.float32) if self._gpu is None else None
        for above in range(0, len(x), tile):
            for left in range(above if triangle else 0, len(y), tile):
                for rows, columns in self._tile(first[above : above + tile], second[left : left + tile], room):
                    if triangle and above == left:
                        rows, columns = rows[columns > rows], columns[columns > rows]
                    if len(rows):
                        yield rows + above, columns + left

    def _placed(self, x: np.ndarray) -> Any:
        return x if self._gpu is None else self._gpu.from_numpy(np.ascontiguousarray(x)).to(GPU)

    def _tile(self, a: Any, b: Any, room: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(row, column) of the products that pass."""
        if room is None:
            yield from self._tile_of_gpu(a, b)
            return
        some = np.matmul(a, b.T, out=room.reshape(-1)[: len(a) * len(b)].reshape(len(a), len(b)))
        rows, columns = np.divmod(np.flatnonzero(some >= self.least), len(b))
        yield rows, columns

    def _tile_of_gpu(self, a: Any, b: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """No more at a time than a tile of the CPU may have: in a crowd all of a GPU's large tile pass."""
        near = a @ b.T >= float(self.least)
        few = int(near.count_nonzero()) <= TILE * TILE
        at_once = len(a) if few else max(TILE * TILE // len(b), 1)
        for top in range(0, len(a), at_once):
            rows, columns = self._gpu.nonzero(near[top : top + at_once], as_tuple=True)
            yield rows.cpu().numpy() + top, columns.cpu().numpy()


def _joined(found: Iterator[Pairs]) -> Pairs:
    none = np.zeros(0, np.int64)
    pairs = [(none, none, none), *found]
    i, j, distance = (np.concatenate([p[n] for p in pairs]) for n in range(3))
    return i, j, distance


def _products(x: np.ndarray, y: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """float64: the exact inner products of rows x[i] and y[j], which are of one tile."""
    if not len(i):
        return np.zeros(0)
    top, left = int(i.min()), int(j.min())
    height, width = int(i.max()) + 1 - top, int(j.max()) + 1 - left
    if len(i) * DENSE > height * width and height * width <= TILE * TILE:
        return dots(x[top : top + height], y[left : left + width])[i - top, j - left]
    out = np.empty(len(i))
    for start in range(0, len(i), BLOCK):
        a, b = (rows[at[start : start + BLOCK]].astype(np.float64) for rows, at in ((x, i), (y, j)))
        out[start : start + BLOCK] = np.einsum("nd,nd->n", a, b)
    return out
