"""Lloyd's algorithm over vectors on a grid: each step is exact, so that no order, cut, thread or device shows.

    found, counts, rounds = lloyd(x, first, iterations=20)

What it follows, and where it differs from FAISS, is said in `stages.kmeans_training`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stages.vectors import Device, Nearest, lengths, on_grid

APART = 1 / 1024
BLOCK = 8192  # rows in float64 at a time
HELD = 1 << 27  # coordinates that may be held in float64: 1 GB


def lloyd(
    x: np.ndarray, first: np.ndarray, iterations: int, spherical: bool = False, device: Device = "cpu"
) -> tuple[np.ndarray, np.ndarray, int]:
    """(centroids float32 (k, dim), vectors of each int64 (k,), iterations until nothing moved).

    Args:
        x: float32 (n, dim), on the grid, no longer than one.
        first: float32 (k, dim): where centroids start.
    """
    found, counts = first, np.zeros(len(first), np.int64)
    for done in range(1, iterations + 1):
        counts, sums = np.zeros(len(first), np.int64), np.zeros(first.shape)
        add_up(x, Nearest(found, device=device).of(x)[0], counts, sums)
        before, found = found, means(found, counts, sums, spherical)
        if np.array_equal(before, found):
            return found, counts, done
    return found, counts, iterations


def plus_plus(x: np.ndarray, wanted: int, drawn: np.ndarray) -> np.ndarray:
    """int64 (wanted,): rows to start from, each with a chance in proportion to its squared distance to those before it
    (k-means++, Arthur and Vassilvitskii 2007).

    Args:
        x: float32 (n, dim), on the grid, no longer than one; n is at least `wanted`.
        drawn: float64 (wanted,) in [0, 1): the draw of each.
    """
    held = x.astype(np.float64) if x.size <= HELD else x
    squares = squares_of(x)
    apart, free = np.ones(len(x)), np.ones(len(x), bool)
    chosen: list[int] = []
    for u in drawn[:wanted]:
        running = np.cumsum(np.where(free, apart, 0.0))
        if running[-1] == 0:  # what is left lies where others are
            running = np.cumsum(free)
        at = min(int(np.searchsorted(running, u * running[-1], side="right")), len(x) - 1)
        chosen.append(at)
        free[at] = False
        near = squares + squares[at] - 2 * products(held, held[at])
        apart = np.maximum(np.minimum(apart, near) if len(chosen) > 1 else near, 0.0)
    return np.array(chosen, np.int64)


def squares_of(x: np.ndarray) -> np.ndarray:
    """float64 (n,): the exact squared lengths of rows on the grid."""
    return np.concatenate([np.einsum("nd,nd->n", b, b) for b in _exact(x)] or [np.zeros(0)])


def products(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """float64 (n,): the exact inner products of rows on the grid with v (dim,)."""
    return np.concatenate([block @ v.astype(np.float64) for block in _exact(x)] or [np.zeros(0)])


def _exact(x: np.ndarray) -> Iterator[np.ndarray]:
    return (x[start : start + BLOCK].astype(np.float64, copy=False) for start in range(0, len(x), BLOCK))


def add_up(x: np.ndarray, label: np.ndarray, counts: np.ndarray, sums: np.ndarray) -> None:
    """Add the rows to `counts` int64 (k,) and `sums` float64 (k, dim) of their labels, exactly."""
    from scipy.sparse import csr_matrix

    counts += np.bincount(label, minlength=len(counts))
    for start in range(0, len(x), BLOCK):
        some = label[start : start + BLOCK]
        where = csr_matrix((np.ones(len(some)), (some, np.arange(len(some)))), shape=(len(counts), len(some)))
        hit = np.unique(some)
        sums[hit] += where[hit] @ x[start : start + BLOCK].astype(np.float64)


def means(before: np.ndarray, counts: np.ndarray, sums: np.ndarray, spherical: bool) -> np.ndarray:
    """float32 (k, dim): the means, empty clusters filled with halves of the largest; as before where none is larger
    than one."""
    moved = _halves(counts, sums)
    numbers = np.array(sorted(moved), np.int64)
    out = np.empty(sums.shape, np.float32)
    for start in range(0, len(out), BLOCK):
        here = slice(start, start + BLOCK)
        found = np.where(counts[here, None] > 0, sums[here] / np.maximum(counts[here], 1)[:, None], before[here])
        for number in numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, start + BLOCK)]:
            found[number - start] = moved[number]
        out[here] = _settled(found, spherical)
    return out


def _halves(counts: np.ndarray, sums: np.ndarray) -> dict[int, np.ndarray]:
    """float64 (dim,) of each empty cluster that is filled, and of each that is halved for it."""
    moved: dict[int, np.ndarray] = {}
    size = counts.copy()
    turn = np.where(np.arange(sums.shape[1]) % 2 == 0, 1 + APART, 1 - APART)
    for empty in np.flatnonzero(counts == 0).tolist():
        largest = int(np.argmax(size))
        if size[largest] < 2:
            break
        mean = moved[largest] if largest in moved else sums[largest] / counts[largest]
        moved[empty], moved[largest] = mean * turn, mean * (2 - turn)
        size[empty] = size[largest] // 2
        size[largest] -= size[empty]
    return moved


def _settled(found: np.ndarray, spherical: bool) -> np.ndarray:
    """float32: on the grid, of length one if spherical, and never longer."""
    found = on_grid(found)
    if spherical:
        long = lengths(found)
        found = np.where(long[:, None] > 0, on_grid(found / np.maximum(long, 1e-30)[:, None]), found)
    too_long = np.maximum(lengths(found), 1)  # moved apart, one may have become longer than one
    return on_grid(found / too_long[:, None])


def cosine_distance(score: np.ndarray, x: np.ndarray, found: np.ndarray) -> np.ndarray:
    """float64 (n,): 1 - cosine of vectors and centroids from their inner products; 1 where a centroid is zero."""
    both = lengths(x) * lengths(found)
    return np.asarray(1 - np.divide(score, both, out=np.zeros(len(score)), where=both > 0))
