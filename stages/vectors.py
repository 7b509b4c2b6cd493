"""Arithmetic on vectors whose answers depend on neither order, cut, threads nor device.

    x, there = unit(batch["l14_image"], "norm_sim")        # float32 (n, dim) of length one on a grid; bool (n,)
    dots(x, y)                                             # float64 (n, m), exact
    first, second, score = Nearest(centroids).of(x)        # the nearest two of many rows, ties to the smaller number

Float sums depend on their order, and BLAS chooses the order by shape, threads and machine. So coordinates are
rounded to multiples of 2^-24 (`GRID`), finer than fp16 or the seventh digit. Products are then multiples of 2^-48 and,
for vectors no longer than one, all partial sums stay below 2^5: float64 holds each exactly, whatever the order. Sums of
up to 2^29 rows are exact, too. The search among many rows is done in float32, by FAISS, BLAS or a GPU, with its error
bound known; what the bound leaves open is decided in exact numbers, so that all of them give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

GRID = 2.0**24
ROWS = 1 << 17
"""Vectors that a part holds, about: 200 MB as fp16 in 768 dimensions."""

BLOCK = 1024  # rows at a time
MANY = 1 << 13  # rows searched at a time, in exact numbers or by numpy
WITHIN = 4  # candidates that the search in float32 gives
ERROR = 1.1 * 2.0**-24  # of one float32 operation, with some slack

Device = Literal["cpu", "cuda"]


def unit(column: pa.Array | pa.ChunkedArray, of: str) -> tuple[np.ndarray, np.ndarray]:
    """(float32 (n, dim) of length one, on the grid; bool (n,)): false, and zeros, for null, zero and infinite rows.

    Args:
        of: who asks, for the message.

    Raises:
        ValueError: this is no column of vectors of one length.
    """
    raw, there = rows_of(column, of)
    out = np.zeros(raw.shape, np.float32)
    for start in range(0, len(raw), BLOCK):
        x = raw[start : start + BLOCK].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            length = np.sqrt(np.einsum("nd,nd->n", x, x))
        good = there[start : start + BLOCK] & np.isfinite(length) & (length > 0)
        there[start : start + BLOCK] = good
        out[start : start + BLOCK][good] = on_grid(x[good] / length[good, None])
    return out, there


def stored(table: pa.Table, field: str) -> tuple[np.ndarray, np.ndarray]:
    """(values (n, dim) as they are stored, bool (n,): which have a direction), to be written to files and read by
    `unit` there: half as many bytes, where they are fp16."""
    return rows_of(table.column(field), field)[0], unit(table.column(field), field)[1]


def rows_of(column: pa.Array | pa.ChunkedArray, of: str) -> tuple[np.ndarray, np.ndarray]:
    """(values (n, dim), zeros where null; bool (n,), false where null) of a column of lists of floats of one length.

    dim is 0 where nothing says it: of plain lists that are all null.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise ValueError(f"{of}: expected a column of vectors (fixed-size lists of float16 or float32), not {kind}")
    there = column.is_valid().to_numpy(zero_copy_only=False)
    flat = column.drop_null().flatten()
    dim = kind.list_size if pa.types.is_fixed_size_list(kind) else _one_length(column, of)
    values = flat.to_numpy(zero_copy_only=False).reshape(np.count_nonzero(there), dim)
    if there.all():
        return values, there.copy()
    out = np.zeros((len(column), dim), values.dtype)
    out[there] = values
    return out, there.copy()


def _one_length(column: pa.Array, of: str) -> int:
    lengths = pc.unique(pc.list_value_length(column.drop_null())).to_pylist()
    if len(lengths) > 1:
        raise ValueError(f"{of}: the vectors of {column.type} have several lengths: {sorted(lengths)}")
    return int(lengths[0]) if lengths else 0


def as_column(x: np.ndarray) -> pa.FixedSizeListArray:
    """A fixed-size list column of the rows of (n, dim); of no rows of no known length, lists of one."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(x).reshape(-1)), x.shape[1] or 1)


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables with vectors below one another; of those without rows, whose vectors may have no length, only the first
    where there is no other."""
    found = list(tables)
    return pa.concat_tables([t for t in found if t.num_rows] or found[:1])


def split_table(table: pa.Table, into: np.ndarray, count: int) -> list[pa.Table]:
    """A table for each of the `count` numbers in `into`, as `stages.shuffle.split`, also with vectors."""
    order = np.argsort(into, kind="stable")
    cuts = np.searchsorted(into[order], np.arange(count + 1))
    return [table.take(pa.array(order[a:b])) for a, b in pairwise(cuts)]


def on_grid(x: np.ndarray) -> np.ndarray:
    """float32: the nearest multiples of 2^-24, which float32 has for all numbers between -1 and 1."""
    return (np.rint(x * GRID) / GRID).astype(np.float32)


def dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float64 (n, m): exact inner products of rows on the grid that are no longer than one."""
    return np.asarray(a.astype(np.float64, copy=False) @ b.astype(np.float64, copy=False).T)


def lengths(x: np.ndarray) -> np.ndarray:
    """float64 (n,): the lengths of rows on the grid, from exact squares."""
    exact = x.astype(np.float64, copy=False)
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", exact, exact)))


def rounded(values: np.ndarray, there: np.ndarray) -> pa.Array:
    """float32, rounded to 1e-4; null where not `there`."""
    scores = np.where(there, np.round(values, 4), np.nan).astype(np.float32)
    return pa.array(scores, from_pandas=True)


# ---------------------------------------------------------------- the nearest of many


class Nearest:
    """Finds the best two of `rows` for a vector, exactly; of equal ones the smaller number is better.

    Args:
        rows: float32 (m, dim) on the grid, none longer than one.
        by: "l2" (nearest) or "dot" (largest inner product). For rows of length one they say the same.
        device: "cuda" searches on a GPU, with torch. The answer is the same one.
    """

    def __init__(self, rows: np.ndarray, by: Literal["l2", "dot"] = "l2", device: Device = "cpu") -> None:
        self.rows, self.device = rows, device
        squares = np.concatenate([lengths(b) ** 2 for b in _blocks(rows, MANY)] or [np.zeros(0)])
        self.penalty = np.rint(squares / 2 * GRID**2) / GRID**2 if by == "l2" else np.zeros(len(rows))
        self._keys = rows if by == "dot" else np.hstack([rows, -self.penalty[:, None].astype(np.float32)])
        longest = float(np.sqrt(squares.max(initial=0) + self.penalty.max(initial=0) ** 2))
        self._error = ERROR * (rows.shape[1] + 2) * np.sqrt(2) * longest
        self._on_gpu = None

    def of(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(first, second, score): int64 (n,) twice and float64 (n,).

        Args:
            x: float32 (n, dim) on the grid, none longer than one.

        score is x.c of the first, less |c|^2 / 2 by "l2"; so |x - c|^2 is |x|^2 - 2 score. second is -1 where there is
        one row only.
        """
        found = [self._block(block) for block in _blocks(x, BLOCK)]
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        at, score = (np.concatenate([f[i] for f in found]) for i in (0, 1))
        return at[:, 0], at[:, 1] if at.shape[1] > 1 else np.full(len(at), -1), score[:, 0]

    def _block(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(numbers, exact scores) of the best two, (n, 2) each; (n, 1) where there is but one."""
        exact = x.astype(np.float64)
        if len(self.rows) <= WITHIN:
            return self._scan(exact)
        worst, at = self._candidates(x)
        score = np.einsum("nd,nkd->nk", exact, self.rows[at].astype(np.float64)) - self.penalty[at]
        at, score = _best_two(at, score)
        open_ = worst + self._error >= score[:, 1]  # one that is no candidate may be as good
        if open_.any():
            at[open_], score[open_] = self._scan(exact[open_])
        return at, score

    def _scan(self, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best two, from the exact scores of all rows."""
        at, score = np.zeros((len(exact), 0), np.int64), np.zeros((len(exact), 0))
        for start in range(0, len(self.rows), MANY):
            some = exact @ self.rows[start : start + MANY].astype(np.float64).T - self.penalty[start : start + MANY]
            near = np.argsort(-some, axis=1, kind="stable")[:, :2]
            at = np.hstack([at, near + start])
            at, score = _best_two(at, np.hstack([score, np.take_along_axis(some, near, 1)]))
        return at, score

    def _candidates(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(score of the last candidate, numbers (n, WITHIN)) by float32."""
        if self._keys.shape[1] > x.shape[1]:
            x = np.hstack([x, np.ones((len(x), 1), np.float32)])
        if self.device == "cuda":
            return self._candidates_of_gpu(x)
        faiss = faiss_module()
        if faiss is not None:
            score, at = faiss.knn(np.ascontiguousarray(x), self._keys, WITHIN, metric=faiss.METRIC_INNER_PRODUCT)
            return score[:, -1].astype(np.float64), at
        return self._candidates_of_numpy(x)

    def _candidates_of_numpy(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        score, at = np.zeros((len(x), 0), np.float32), np.zeros((len(x), 0), np.int64)
        for start in range(0, len(self._keys), MANY):
            some = x @ self._keys[start : start + MANY].T
            score = np.hstack([score, some])
            at = np.hstack([at, np.broadcast_to(np.arange(start, start + some.shape[1]), some.shape)])
            if score.shape[1] > WITHIN:
                best = np.argpartition(score, -WITHIN, axis=1)[:, -WITHIN:]
                score, at = np.take_along_axis(score, best, 1), np.take_along_axis(at, best, 1)
        return score.min(axis=1).astype(np.float64), at

    def _candidates_of_gpu(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        torch = gpu_torch("nearest rows")
        if self._on_gpu is None:
            self._on_gpu = torch.from_numpy(np.ascontiguousarray(self._keys)).cuda()
        score, at = torch.topk(torch.from_numpy(x).cuda() @ self._on_gpu.T, WITHIN, dim=1)  # type: ignore[attr-defined]
        return score[:, -1].double().cpu().numpy(), at.cpu().numpy()


def _best_two(at: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((at, -score), axis=1)[:, :2]
    return np.take_along_axis(at, order, 1), np.take_along_axis(score, order, 1)


def _blocks(x: np.ndarray, rows: int) -> list[np.ndarray]:
    return [x[start : start + rows] for start in range(0, len(x), rows)]


@cache
def faiss_module():  # type: ignore[no-untyped-def]
    """FAISS, or None where it is not installed: then numpy searches, with the same answer."""
    from importlib import import_module
    from importlib.util import find_spec

    return import_module("faiss") if find_spec("faiss") else None


def gpu_torch(what: str):  # type: ignore[no-untyped-def]
    """torch with a GPU at hand, and full float32 products.

    Raises:
        ValueError: there is none.
    """
    from importlib import import_module
    from importlib.util import find_spec

    torch = import_module("torch") if find_spec("torch") else None
    if torch is None or not torch.cuda.is_available():
        lacks = "torch is not installed (pip install 'curate[models]')" if torch is None else "torch finds no GPU here"
        raise ValueError(f"{what}: device: cuda, but {lacks}; write device: cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch
