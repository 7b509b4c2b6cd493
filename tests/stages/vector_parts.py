"""Pools of vectors for tests: rows known by number, cut into shards in any way, and answers by number again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.draws import uid_halves
from tests.phase_runner import Owner, PhaseRunner

CUTS = ((1, None), (3, 1), (7, 2))
"""(shards, seed of their order): one shard in order, and others."""


def uid_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def uids(numbers: Sequence[int]) -> pa.Array:
    return pa.array([uid_of(n) for n in numbers], pa.binary(16))


def keys(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(high, low) of the uids 0, 1, ..."""
    return uid_halves(uids(range(rows)))


def vectors(x: np.ndarray, kind: Any = np.float16, null: Sequence[int] = ()) -> pa.Array:
    """A column of vectors; rows named in `null` are null."""
    flat = pa.array(np.asarray(x, kind).reshape(-1))
    mask = np.isin(np.arange(len(x)), np.array(null, np.int64))
    return pa.FixedSizeListArray.from_arrays(flat, x.shape[1], mask=pa.array(mask) if len(null) else None)


def directions(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """float64 (rows, dim), of length one, uniform."""
    x = np.random.default_rng(seed).standard_normal((rows, dim))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def clumps(centres: int, each: int, dim: int, spread: float = 0.2, seed: int = 0) -> np.ndarray:
    """float64 (centres * each, dim), of length one, in clumps one after another."""
    rng = np.random.default_rng(seed)
    around = spread * rng.standard_normal((centres * each, dim)) / dim**0.5
    x = directions(centres, dim, seed).repeat(each, axis=0) + around
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def as_stored(x: np.ndarray) -> np.ndarray:
    """float64: the vectors that a column of fp16 gives, of length one again."""
    half = np.asarray(x, np.float16).astype(np.float64)
    return np.asarray(half / np.linalg.norm(half, axis=1, keepdims=True))


def blind_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that finds no GPU, and takes no seconds to import."""
    blind = ModuleType("torch")
    blind.__spec__ = ModuleSpec("torch", None)
    blind.cuda = SimpleNamespace(is_available=lambda: False)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", blind)


def pool_of(columns: Mapping[str, pa.Array], shards: int = 1, seed: int | None = None) -> dict[int, pa.Table]:
    """Rows 0, 1, ... with their number as uid; with a seed in any order, in shards with gaps in their numbers."""
    rows = len(next(iter(columns.values())))
    table = pa.table({"uid": uids(range(rows)), **columns})
    if seed is None:
        return {s: table.take(pa.array(range(s, rows, shards), pa.int64())) for s in range(shards)}
    rng = np.random.default_rng(seed)
    order, home = rng.permutation(rows), rng.integers(0, shards, rows)
    numbers = np.sort(rng.choice(5 * shards, shards, replace=False)).tolist()
    return {n: table.take(pa.array(order[home[order] == s])) for s, n in enumerate(numbers)}


def plain_lists(table: pa.Table, cuts: Sequence[int]) -> dict[int, pa.Table]:
    """Shards of the table's rows from cut to cut, with lists of any length in place of lists of one."""
    fields = [
        pa.field(f.name, pa.list_(f.type.value_type) if pa.types.is_fixed_size_list(f.type) else f.type)
        for f in table.schema
    ]
    lists = pa.table(
        [pa.array(c.to_pylist(), f.type) for c, f in zip(table.columns, fields, strict=True)], pa.schema(fields)
    )
    return {shard: lists.slice(a, b - a).combine_chunks() for shard, (a, b) in enumerate(pairwise(cuts))}


def answers(pool: Mapping[int, pa.Table], owner: Owner, seed: int | None = None) -> list[tuple[Any, ...]]:
    """The values of the last phase, one tuple a row, by number."""
    return by_number(pool, PhaseRunner(pool, seed).run(owner))


def by_number(pool: Mapping[int, pa.Table], found: Mapping[int, pa.Table]) -> list[tuple[Any, ...]]:
    rows: dict[int, tuple[Any, ...]] = {}
    for shard, table in found.items():
        values = zip(*(c.to_pylist() for c in table.columns), strict=True)
        rows |= dict(zip((int.from_bytes(u, "big") for u in pool[shard]["uid"].to_pylist()), values, strict=True))
    return [rows[n] for n in sorted(rows)]


def kept(found: Sequence[tuple[Any, ...]]) -> list[int]:
    """Numbers of the rows whose verdict is to keep."""
    return [n for n, (keep, *_) in enumerate(found) if keep]
