"""What the crashing job brings along: vectors without a model, small buckets, and a process that kills itself.

DEDUP_ROWS=60            rows in a span or bucket: a small pool has many of them
DEDUP_KILL=a,b,c         folders of the pool: the first commit into each kills whoever makes it, ...
DEDUP_ODD=1              ... before its bytes are written, or between writing and linking them, in turn
DEDUP_ONCE=/tmp/once     a folder that remembers which of them had their kill

SIGKILL is what the kernel sends where memory ends or a machine goes: nothing of the process hears it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import stages.shuffle
import stages.vectors
from curate.pool.posix import PosixStorage
from stages.base import IMAGE, Batch, Column, Stage
from stages.vectors import as_column


class Thumb(Stage):
    """Eight by eight gray pixels less their mean: vectors of which copies lie near one another."""

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return pa.schema([("thumb", pa.list_(pa.float16(), 64))])

    def run(self, batch: Batch) -> pa.Table:
        grays = batch.images(side=8, mode="L")
        rows = np.zeros((len(grays), 64), np.float16)
        for row, gray in zip(rows, grays, strict=True):
            if gray is not None:
                row[:] = gray.reshape(-1) / 255 - gray.mean() / 255
        missing = pa.array([g is None for g in grays])
        return pa.table({"thumb": _null_where(as_column(rows), missing), "error": pa.array(batch.image_errors())})


def _null_where(column: pa.FixedSizeListArray, missing: pa.Array) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(column.values, 64, mask=missing)


def small_buckets(rows: int) -> None:
    """In all modules that have taken the number over by now; those to come take it from these two."""
    loaded = [m for name, m in sys.modules.items() if name.partition(".")[0] in ("stages", "filters")]
    for module in (stages.shuffle, stages.vectors, *(m for m in loaded if hasattr(m, "ROWS"))):
        module.ROWS = rows  # type: ignore[attr-defined]


@dataclass
class Kills:
    """The kills to come: by folder, whether it comes after the bytes are written. once: where they are remembered."""

    late: dict[str, bool]
    once: Path
    here: str = ""

    def at(self, *, written: bool) -> None:
        """Kill this process if that is this folder's moment and no one has died of it yet."""
        if self.late.get(self.here) is not written:
            return
        try:
            os.close(os.open(self.once / self.here.replace("/", "+"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def install(kills: Kills) -> None:
    """From now on commits into those folders kill."""
    commit: Callable[..., bool] = PosixStorage.commit
    written: Callable[..., Path] = PosixStorage._written

    def dying(self: PosixStorage, rel: str, data: bytes | Path) -> bool:
        kills.here = rel.rsplit("/", 1)[0]
        kills.at(written=False)
        return commit(self, rel, data)

    def half_way(self: PosixStorage, data: Any) -> Path:
        path = written(self, data)
        kills.at(written=True)
        return path

    PosixStorage.commit = dying  # type: ignore[method-assign, assignment]
    PosixStorage._written = half_way  # type: ignore[method-assign]


if "DEDUP_ROWS" in os.environ:
    small_buckets(int(os.environ["DEDUP_ROWS"]))
if "DEDUP_KILL" in os.environ:
    odd = int(os.environ["DEDUP_ODD"])
    folders = os.environ["DEDUP_KILL"].split(",")
    install(Kills({f: bool((i + odd) % 2) for i, f in enumerate(folders)}, Path(os.environ["DEDUP_ONCE"])))
