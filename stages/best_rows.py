"""The best rows of each group among many tables, in bounded memory: rows are columns of numpy arrays.

ranks(cluster)                                          # of sorted rows: 0, 1, 2 within each cluster
first_of(rows, of="place", by=("set", "rank"))          # one row a place
folded(tables, reduce)                                  # reduce of all tables, without holding them all
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from stages.shuffle import Arrays, joined, starts_of

WAITING = 1 << 16  # rows that come before the first reduction, at least


def ranks(*keys: np.ndarray) -> np.ndarray:
    """int64 (n,): of each of some sorted rows, how many of its run of equal keys come before it."""
    starts = starts_of(*keys)
    long = np.diff(np.append(starts, len(keys[0])))
    return np.arange(len(keys[0])) - np.repeat(starts, long)


def first_of(rows: Arrays, of: str, by: tuple[str, ...]) -> Arrays:
    """For each value of column `of` the first row by these columns; in the order of `of`."""
    order = np.lexsort((*(rows[name] for name in reversed(by)), rows[of]))
    first = order[starts_of(rows[of][order])]
    return {name: values[first] for name, values in rows.items()}


def folded(tables: Iterable[Arrays], reduce: Callable[[Arrays], Arrays]) -> Arrays:
    """`reduce` of all rows, for one that gives the same whether parts were reduced before or not.

    It holds what is left, and as many rows again that wait.

    Raises:
        ValueError: there is no table.
    """
    held: list[Arrays] = []
    least = waiting = 0
    for table in tables:
        held.append(table)
        waiting += _count(table)
        if waiting > max(least, WAITING):
            held = [reduce(joined(held))]
            least, waiting = _count(held[0]), 0
    if not held:
        raise ValueError("there is nothing to reduce")
    return reduce(joined(held))


def _count(rows: Arrays) -> int:
    return len(next(iter(rows.values())))
