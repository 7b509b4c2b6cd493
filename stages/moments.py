"""Second moments of many vectors, X^T X, exactly: whatever order and cut they come in.

    moments = Moments.none(768)
    moments.add(x)                                 # float32 (n, 768) on the grid of stages.vectors
    sigma = moments.matrix(per=moments.count)      # float64 (768, 768), on the grid
    scores = quadratic(x, sigma)                   # x^T sigma x, row by row

A coordinate is split into its upper 12 bits behind the point and the rest. The products of two parts are multiples of
2^-24, 2^-36 or 2^-48, and so small that float64 holds the sums of 2^28 of them exactly: three matrices are summed
apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stages.vectors import GRID

UPPER = 2.0**12
FIELDS = ("upper", "mixed", "lower")


@dataclass
class Moments:
    """Sums over vectors: `upper`, `mixed` and `lower`, float64 (dim, dim), and their number."""

    upper: np.ndarray
    mixed: np.ndarray
    lower: np.ndarray
    count: int = 0

    @classmethod
    def none(cls, dim: int) -> Moments:
        return cls(np.zeros((dim, dim)), np.zeros((dim, dim)), np.zeros((dim, dim)))

    def add(self, x: np.ndarray) -> None:
        """Add the rows of float32 (n, dim), on the grid and no longer than one."""
        exact = x.astype(np.float64)
        upper = np.rint(exact * UPPER) / UPPER
        lower = exact - upper
        self.upper += upper.T @ upper
        self.mixed += upper.T @ lower
        self.lower += lower.T @ lower
        self.count += len(x)

    def subtract(self, x: np.ndarray) -> None:
        """Take out rows that were added; exactly, too."""
        gone = Moments.none(x.shape[1])
        gone.add(x)
        for name in FIELDS:
            setattr(self, name, getattr(self, name) - getattr(gone, name))
        self.count -= gone.count

    def merge(self, other: Moments) -> None:
        self.upper += other.upper
        self.mixed += other.mixed
        self.lower += other.lower
        self.count += other.count

    def matrix(self, per: int) -> np.ndarray:
        """float64 (dim, dim): X^T X / per, on the grid; zeros where `per` is 0."""
        whole = self.upper + (self.mixed + self.mixed.T) + self.lower
        return np.asarray(np.rint(whole / max(per, 1) * GRID) / GRID)

    def table(self) -> pa.Table:
        """One row a row of the matrices; `of` is read from it again."""
        columns = {n: pa.FixedSizeListArray.from_arrays(getattr(self, n).reshape(-1), len(self.upper)) for n in FIELDS}
        return pa.table({**columns, "count": pa.array([self.count] * len(self.upper), pa.int64())})

    @classmethod
    def of(cls, table: pa.Table) -> Moments:
        dim = table.num_rows
        found = cls.none(dim)
        for name in FIELDS:
            setattr(found, name, table.column(name).combine_chunks().flatten().to_numpy().reshape(dim, dim).copy())
        found.count = table.column("count")[0].as_py() if dim else 0
        return found


def quadratic(x: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """float64 (n,): x^T sigma x of each row, exact but for one rounding of sigma x to the grid.

    Args:
        x: float32 (n, dim), on the grid, no longer than one.
        sigma: float64 (dim, dim), on the grid, of norm one at most.
    """
    out = np.zeros(len(x))
    for start in range(0, len(x), 4096):
        exact = x[start : start + 4096].astype(np.float64)
        across = np.rint(exact @ sigma * GRID) / GRID
        out[start : start + 4096] = np.einsum("nd,nd->n", across, exact)
    return out
